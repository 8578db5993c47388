"""Tables of people: TSV and CSV read as text, columns found by name, sexes and numbers understood."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrigen.errors import CohortError
from mrigen.system.files import NoFile, open_file
from mrigen.system.names import restore
from mrigen.system.wording import limited

# Of a table: what people say of half a million in a thousand columns.
MOST_BYTES = 2**32
TABLE_SUFFIXES = (".tsv", ".csv")
MISSING = frozenset({"", "n/a", "na", "nan"})
SEX_WORDS = {
    "F": frozenset({"f", "female", "woman", "w"}),
    "M": frozenset({"m", "male", "man"}),
}
# Words of a table for neither, or for a sex that was not told.
SEX_UNKNOWN = MISSING | {
    *("unknown", "u", "other", "o", "not available", "none", "null", "?", "-", "missing", "not reported"),
    *("prefer not to say", "prefer not to answer", "decline to answer", "declined", "not specified"),
    *("x", "intersex", "nonbinary", "non-binary", "non binary", "diverse", "divers"),
}
Levels = dict[str, str | None]
CLOSE_QUOTE = "Remove the mark, or close it at the end of the cell."
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """Returns a TSV or CSV as text: object columns of str, None where a value is missing (`n/a`, empty, NaN).

    Nothing is converted, so ids like 0012 keep their zeros. A .csv may be separated by commas or semicolons.
    Blank lines and columns without a name are left out. Tab-separated tables know no quoting: a quotation mark is a
    character like any other; those around a whole cell are taken away.

    Raises:
        CohortError: the file is missing, no UTF-8 text, empty, separated by something else, has two columns of one
            name, lines of different length, or (a .csv) quotation marks that do not close.
    """
    header, body = read_rows(path)
    columns = list(zip(*body, strict=True)) if body else [()] * len(header)
    return pd.DataFrame(
        {name: np.array(column, dtype=object) for name, column in zip(header, columns, strict=True) if name}
    )


def read_rows(path: str | os.PathLike) -> tuple[list[str], list[list[str | None]]]:
    """Returns the names of the columns and the cells of a table; see `read_table`."""
    path = Path(path)
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first column name.
        with open_file(path, mode="r", encoding="utf-8-sig", newline="") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise CohortError(
                    f"{path}: got {size} bytes, expected a table of at most {MOST_BYTES}. Leave out what is no table "
                    "of people."
                )
            first = file.readline()
            file.seek(0)
            separator = _separator(path, first)
            rows = list(_unquoted_rows(file) if separator == "\t" else _quoted_rows(path, file, separator))
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file, expected a table. Check the path.") from None
    except NoFile as error:
        raise CohortError(f"{path}: got {error.what}, expected a table. Check the path.") from None
    except UnicodeDecodeError:
        raise CohortError(f"{path}: not text in UTF-8, expected a table. Save it as UTF-8.") from None
    except (OSError, csv.Error) as error:
        raise CohortError(f"{path}: cannot be read as a table ({error}). Check the file.") from None
    if not rows:
        raise CohortError(f"{path}: got an empty file, expected a table with a line of column names. Restore it.")
    header = [restore(name.strip()) for name in rows[0][1]]
    twice = sorted(name for name, number in Counter(header).items() if number > 1 and name)
    if twice:
        raise CohortError(
            f"{path}: got several columns named {', '.join(twice)}, expected different names. Rename or remove them."
        )
    faults, body, cells = [], [], _Cells()
    for line, row in rows[1:]:
        if len(row) > len(header) and not any(row[len(header) :]):
            row = row[: len(header)]
        if len(row) != len(header):
            kind = {"\t": "tab", ",": "comma", ";": "semicolon"}[separator]
            faults.append(
                f"{path}: row {line}: got {len(row)} {kind}-separated values, expected {len(header)} as in the first "
                "line. Correct the row."
            )
        body.append([cells[value] for value in row])
    if faults:
        raise CohortError(limited(faults))
    return header, body


class _Cells(dict):
    """What each different text of a cell means; worked out once."""

    def __missing__(self, text: str) -> str | None:
        bare = restore(text.strip())
        self[text] = None if bare.lower() in MISSING else bare
        return self[text]


def _unquoted_rows(file) -> Iterator[tuple[int, list[str]]]:
    """Yields line and cells of tab-separated text; R and pandas quote whole cells, BIDS none."""
    for line, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        if any(row):
            yield line, [_unquoted(cell) if '"' in cell else cell for cell in row]


def _unquoted(cell: str) -> str:
    bare = cell.strip()
    return bare[1:-1].replace('""', '"') if len(bare) > 1 and bare[0] == bare[-1] == '"' else cell


def _quoted_rows(path: Path, file, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields line and cells of a CSV; a cell in quotation marks may run over lines, but over no rows."""
    reader = csv.reader(file, delimiter=separator, strict=True)
    width = None
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CohortError(f"{_open_quote(path, line)} ({error}). {CLOSE_QUOTE}") from None
        width = len(row) if width is None else width
        inner = [part for cell in row if "\n" in cell or "\r" in cell for part in cell.splitlines()[1:]]
        if width > 1 and any(part.count(separator) >= width - 1 for part in inner):
            raise CohortError(f"{_open_quote(path, line)}: it holds whole rows. {CLOSE_QUOTE}")
        if any(row):
            yield line, row


def _open_quote(path: Path, line: int) -> str:
    return (
        f'{path}: row {line}: got a cell that begins with a quotation mark (") and does not end where the cell does, '
        "expected the mark to close"
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


def first_visits(table: pd.DataFrame) -> np.ndarray:
    """Returns which rows of a cohort's table are the first visit of a person, (rows,) bool, one for everybody.

    The order of the rows is that of names, in which ses-post comes before ses-pre.
    """
    visits = table["visit"].to_numpy() if "visit" in table else np.zeros(len(table))
    order = np.argsort(visits, kind="stable")
    first = np.empty(len(table), dtype=bool)
    first[order] = ~table["participant_id"].iloc[order].duplicated().to_numpy()
    return first


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


def understand_sex(
    values: pd.Series,
    codes: Mapping[str, Sequence[str | int | float]] | None = None,
    levels: Mapping[str, str | None] = {},
) -> tuple[pd.Series, pd.Series]:
    """Returns the sexes and which values were not understood.

    The recipe's codes come first, then the dataset's own `levels`, then words (F, female, woman, w; M, male, man; in
    any case). Numbers without codes or levels are never guessed.

    Args:
        values: text, None where missing.
        codes: {'F': [...], 'M': [...]} of the recipe.
        levels: code -> 'F', 'M' or None (neither) from participants.json.

    Returns:
        two series with the index of `values`: 'F', 'M' or None; and True where a value is not understood.
    """
    meaning, unknown = {}, set()
    for value in values.dropna().unique():
        sexes = {sex for sex, wanted in (codes or {}).items() for code in wanted if same_value(value, code)}
        sexes = sexes or {sex for code, sex in levels.items() if same_value(value, code)}
        sexes = sexes or {sex for sex, words in SEX_WORDS.items() if value.lower() in words}
        if len(sexes) == 1:
            meaning[value] = sexes.pop()  # None: a level that is neither.
        elif value.lower() not in SEX_UNKNOWN:
            unknown.add(value)
    sex = pd.Series([meaning.get(value) for value in values], index=values.index, dtype=object)
    return sex, values.isin(unknown)
