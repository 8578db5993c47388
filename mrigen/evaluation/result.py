"""What a part of an evaluation found: rows of figures, notes and pictures."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from mrigen.errors import RunError
from mrigen.system.files import read_json

FILE = "evaluation.json"

# What a figure should be.
LOWER, HIGHER, ONE, HALF = "lower", "higher", "1", "0.5"


@dataclasses.dataclass(frozen=True)
class FigureKind:
    """What a figure is.

    Attributes:
        words: what it says, in a few words, with its unit.
        better: what is good: "lower", "higher", or the value it should have ("1", "0.5", "0"); "" where nothing is.
    """

    words: str
    better: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of one contender.

    Attributes:
        figure: a key of the part's `FIGURES`, such as "power_16_8".
        of: the contender (see `mrigen.evaluation.heads.CONTENDERS`), or another group that the part compares.
        value: None where there is none; `note` then says why.
        low, high: of its 95 % interval, or None.
        p: of a test, or None.
        n: heads that it rests on, of each side.
        note: a few words, such as "no power".
    """

    figure: str
    of: str
    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class PartResult:
    """What a part found.

    Attributes:
        rows: its figures, in the order of the table.
        notes: sentences that whoever reads the figures has to know.
        pictures: stem of a PNG -> figure.
        facts: whatever else evaluation.json keeps of it, JSON-safe.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    pictures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_evaluation(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the content of an evaluation.json; see `mrigen.evaluation.Evaluation.as_dict`.

    Raises:
        RunError: it cannot be read.
    """
    try:
        content = read_json(path)
        if not isinstance(content["settings"], dict):
            raise TypeError("settings")
        for part in content["parts"].values():
            _ = [Row(**row) for row in part["rows"]], part["notes"], part["facts"], part["seconds"]
        return content
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}), expected an evaluation. Remove it, and evaluate anew."
        ) from None
