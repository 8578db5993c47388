"""What the JSON beside a table says of its columns: the levels of a sex, the unit of an age."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrigen.data.tables import SEX_WORDS, Levels
from mrigen.errors import CohortError

YEAR = 365.25  # days
# Years that one unit lasts.
UNITS = {"years": 1.0, "months": 1 / 12, "weeks": 7 / YEAR, "days": 1 / YEAR}
WORDS = {
    **dict.fromkeys(("years", "year", "yrs", "yr", "y", "a", "annum"), "years"),
    **dict.fromkeys(("months", "month", "mos", "mo", "mon", "mths", "mth", "m"), "months"),
    **dict.fromkeys(("weeks", "week", "wks", "wk", "w"), "weeks"),
    **dict.fromkeys(("days", "day", "d"), "days"),
}
# Of the text of a description: "age in months", "age (weeks)", and not "age on the day of the scan".
IN_UNITS = re.compile(r"(?:\bin|\()\s*(?:completed\s+|full\s+)?(years|months|weeks|days)\b")
NO_UNIT = frozenset({"", "n/a", "na", "none", "integer", "int", "float", "number", "numeric"})


def read_descriptions(path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """Returns what a JSON says of each column of a table; nothing without a file.

    Raises:
        CohortError: the file is there and is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CohortError(f"{path}: cannot be read as JSON ({error}). Correct or remove the file.") from None
    if not isinstance(described, dict):
        raise CohortError(f"{path}: got a {type(described).__name__}, expected a JSON object. Correct or remove it.")
    return {name: entry for name, entry in described.items() if isinstance(entry, dict)}


def find_entry(described: Mapping[str, dict[str, Any]], column: str) -> dict[str, Any]:
    """Returns the entry of a column, exactly or else in another case; empty if there is none."""
    if column in described:
        return described[column]
    same = [name for name in described if name.lower() == column.lower()]
    return described[same[0]] if len(same) == 1 else {}


def sex_levels(entry: Mapping[str, Any]) -> Levels:
    """Returns what an entry says of the codes of sex: code -> 'F', 'M', or None for neither.

    Nothing unless one level says female and another says male: then the words are in a language that is not known.

    Example:
        >>> sex_levels({"Levels": {"1": "male", "2": {"Description": "Female"}, "3": "other"}})
        {'1': 'M', '2': 'F', '3': None}
    """
    levels = _value(entry, "levels")
    found: Levels = {}
    for code, text in levels.items() if isinstance(levels, dict) else ():
        if isinstance(text, dict):  # BIDS 1.9: {"1": {"Description": "male"}}
            text = _value(text, "description") or ""
        words = set(re.findall(r"[a-z]+", str(text).lower()))
        sexes = [sex for sex, known in SEX_WORDS.items() if words & known]
        found[str(code)] = sexes[0] if len(sexes) == 1 else None
    return found if {"F", "M"} <= set(found.values()) else {}


def age_unit(entry: Mapping[str, Any], column: str) -> tuple[str | None, str | None]:
    """Returns the unit of a column of ages as `Units`, the description or else the column's name say it.

    Returns:
        'years', 'months', 'weeks' or 'days', None where nothing is said; and the text of `Units` that is not known.

    Example:
        >>> age_unit({"Units": "Months"}, "age"), age_unit({}, "age_weeks"), age_unit({"Units": "scans"}, "age")
        (('months', None), ('weeks', None), (None, 'scans'))
    """
    said = str(_value(entry, "units") or "").strip()
    words = {WORDS[word] for word in re.findall(r"[a-z]+", said.lower()) if word in WORDS}
    if len(words) == 1:
        return words.pop(), None
    if said.lower() not in NO_UNIT:
        return None, said
    texts = [str(_value(entry, name) or "").lower() for name in ("longname", "description")]
    words = {word for text in texts for word in IN_UNITS.findall(text)}
    if not words:
        parts = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower())
        words = {WORDS[part] for part in parts if part in WORDS and len(part) > 1}
    return (words.pop(), None) if len(words) == 1 else (None, None)


def as_years(cell: Any, years: float = 1.0) -> float | None:
    """Returns the years of the cell of an age, None where it is none.

    Args:
        cell: the text of a number, or of a number with its unit ("18 months", DICOM's "034Y"). What is no text is none.
        years: that one unit of a number without one lasts.

    Example:
        >>> as_years("108", UNITS["months"]), as_years("034Y"), as_years("18 months"), as_years("89+")
        (9.0, 34.0, 1.5, None)
    """
    if not isinstance(cell, str):
        return None
    match = re.fullmatch(r"\s*([-+]?\d+\.?\d*|[-+]?\.\d+)([eE][-+]?\d+)?\s*([A-Za-z]*)\.?\s*", cell)
    if match is None or (match[3] and match[3].lower() not in WORDS):
        return None
    return float(match[1] + (match[2] or "")) * (UNITS[WORDS[match[3].lower()]] if match[3] else years)


def _value(entry: Mapping[str, Any], name: str) -> Any:
    return next((value for key, value in entry.items() if key.lower() == name), None)
