"""Tables of people: TSV and CSV read as text, columns found by name, sexes and numbers understood."""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrigen.errors import CohortError
from mrigen.system.wording import limited

TABLE_SUFFIXES = (".tsv", ".csv")
MISSING = frozenset({"", "n/a", "na", "nan"})
SEX_WORDS = {
    "F": frozenset({"f", "female", "woman", "w"}),
    "M": frozenset({"m", "male", "man"}),
}
SEX_UNKNOWN = MISSING | {"unknown", "u", "other", "o", "not available", "prefer not to say", "none", "null", "?", "-"}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """Returns a TSV or CSV as text: object columns of str, None where a value is missing (`n/a`, empty, NaN).

    Nothing is converted, so ids like 0012 keep their zeros. A .csv may be separated by commas or semicolons.
    Blank lines and columns without a name are left out.

    Raises:
        CohortError: the file is missing, no UTF-8 text, empty, separated by something else, has two columns of one
            name, or has lines of different length.
    """
    path = Path(path)
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first column name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            separator = _separator(path, first)
            rows = [(line, row) for line, row in enumerate(csv.reader(file, delimiter=separator), 1) if any(row)]
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file, expected a table. Check the path.") from None
    except UnicodeDecodeError:
        raise CohortError(f"{path}: not text in UTF-8, expected a table. Save it as UTF-8.") from None
    except (OSError, csv.Error) as error:
        raise CohortError(f"{path}: cannot be read as a table ({error}). Check the file.") from None
    if not rows:
        raise CohortError(f"{path}: got an empty file, expected a table with a line of column names. Restore it.")
    header = [name.strip() for name in rows[0][1]]
    twice = sorted(name for name, number in Counter(header).items() if number > 1 and name)
    if twice:
        raise CohortError(
            f"{path}: got several columns named {', '.join(twice)}, expected different names. Rename or remove them."
        )
    faults, body = [], []
    for line, row in rows[1:]:
        if len(row) > len(header) and not any(row[len(header) :]):
            row = row[: len(header)]
        if len(row) != len(header):
            kind = {"\t": "tab", ",": "comma", ";": "semicolon"}[separator]
            faults.append(
                f"{path}: row {line}: got {len(row)} {kind}-separated values, expected {len(header)} as in the first "
                "line. Correct the row."
            )
        body.append([None if value.strip().lower() in MISSING else value.strip() for value in row])
    if faults:
        raise CohortError(limited(faults))
    columns = list(zip(*body, strict=True)) if body else [()] * len(header)
    return pd.DataFrame(
        {name: np.array(column, dtype=object) for name, column in zip(header, columns, strict=True) if name}
    )


def _separator(path: Path, first: str) -> str:
    if path.suffix.lower() == ".csv":
        return ";" if first.count(";") > first.count(",") else ","
    if "\t" not in first and re.search(r"[,;]| {2,}|\S \S", first.strip()):
        raise CohortError(
            f"{path}: got the first line '{first.strip()[:60]}' without a tab, expected columns separated by tabs. "
            "Save the table as tab-separated text."
        )
    return "\t"


def find_column(frame: pd.DataFrame, *names: str) -> str | None:
    """Returns the first of `names` that is a column, exactly or else in another case; None if there is none."""
    for name in names:
        if name in frame.columns:
            return name
        same = [column for column in frame.columns if column.lower() == name.lower()]
        if len(same) == 1:
            return same[0]
    return None


def as_number(value: Any) -> float | None:
    """Returns `value` (text or number) as a float, or None if it is no finite decimal number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
        return None
    number = float(value)
    return number if np.isfinite(number) else None


def same_value(text: str | None, wanted: str | int | float | bool) -> bool:
    """Whether the `text` of a cell is the `wanted` value, as text or as a number ('1' is 1 is 1.0).

    `n/a` asks for missing values; true and false are compared in any case.
    """
    if text is None:
        return isinstance(wanted, str) and wanted.strip().lower() in MISSING
    if isinstance(wanted, bool):
        return text.lower() == str(wanted).lower()
    if text == str(wanted):
        return True
    number = as_number(text)
    return number is not None and number == as_number(wanted)


def as_numbers(column: pd.Series) -> pd.Series:
    """Returns a column of text as float64 if every value is a number that loses nothing; otherwise as it is.

    Codes with leading zeros ('007') stay text. Missing values become NaN.
    """
    known = column.dropna().unique()
    lossless = all(as_number(value) is not None and not re.match(r"[-+]?0\d", value) for value in known)
    return column.astype(float) if len(known) and lossless else column


def read_levels(path: str | os.PathLike, column: str) -> dict[str, str]:
    """Returns what the dataset's own participants.json says about sex codes: code -> 'F' or 'M'.

    Only levels whose text says one sex in words count; without a file, or without such levels, it is empty.

    Raises:
        CohortError: the file is there and is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CohortError(f"{path}: cannot be read as JSON ({error}). Correct or remove the file.") from None
    if not isinstance(described, dict):
        raise CohortError(f"{path}: got a {type(described).__name__}, expected a JSON object. Correct or remove it.")
    entry = described.get(column)
    levels = entry.get("Levels") if isinstance(entry, dict) else None
    found = {}
    for code, text in levels.items() if isinstance(levels, dict) else ():
        if isinstance(text, dict):  # BIDS 1.9: {"1": {"Description": "male"}}
            text = text.get("Description", "")
        words = set(re.findall(r"[a-z]+", str(text).lower()))
        sexes = [sex for sex, known in SEX_WORDS.items() if words & known]
        if len(sexes) == 1:
            found[str(code)] = sexes[0]
    return found


def understand_sex(
    values: pd.Series, codes: Mapping[str, Sequence[str | int | float]] | None = None, levels: Mapping[str, str] = {}
) -> tuple[pd.Series, pd.Series]:
    """Returns the sexes and which values were not understood.

    The recipe's codes come first, then the dataset's own `levels`, then words (F, female, woman, w; M, male, man; in
    any case). Numbers without codes or levels are never guessed.

    Args:
        values: text, None where missing.
        codes: {'F': [...], 'M': [...]} of the recipe.
        levels: code -> 'F' or 'M' from participants.json.

    Returns:
        two series with the index of `values`: 'F', 'M' or None; and True where a value is not understood.
    """
    meaning, unknown = {}, set()
    for value in values.dropna().unique():
        sexes = {sex for sex, wanted in (codes or {}).items() for code in wanted if same_value(value, code)}
        sexes = sexes or {sex for code, sex in levels.items() if same_value(value, code)}
        sexes = sexes or {sex for sex, words in SEX_WORDS.items() if value.lower() in words}
        if len(sexes) == 1:
            meaning[value] = sexes.pop()
        elif value.lower() not in SEX_UNKNOWN:
            unknown.add(value)
    sex = pd.Series([meaning.get(value) for value in values], index=values.index, dtype=object)
    return sex, values.isin(unknown)
