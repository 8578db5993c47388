"""How reliable the measures of confounds are: said, or estimated from a second measure of the same."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mrigen.errors import CohortError
from mrigen.probing.targets import read_column

VISITS = "visits"
FEWEST_TWICE = 20
# A share of the variance that is true; taken as the other end where nothing is known.
LOWEST = 0.6
# Known without error worth a thought.
EXACT = ("age", "sex", "site")


def read_reliability(
    table: pd.DataFrame, rows: np.ndarray, given: Mapping[str, float | str]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Returns confound -> reliability, and sentences that say how those that were estimated came about.

    The correlation of two measures with errors of their own and of one size is the reliability of each.

    Args:
        table: one row an image, later visits too.
        rows: the people (first visits) that are probed.
        given: see `ProbePlan.reliability`.

    Raises:
        UsageError: no such column. CohortError: too few people are measured twice, or the measures do not go together.

    References:
        Fuller 1987, Measurement error models, section 1.1.
    """
    found, notes = {}, []
    for name, value in given.items():
        if not isinstance(value, str):
            found[name] = float(value)
            continue
        first = pd.to_numeric(read_column(table, name, "reliability"), errors="coerce").to_numpy(dtype=float)
        if value == VISITS:
            second, what = _of_later_visits(table, rows, first), "a later visit's"
        else:
            column = pd.to_numeric(read_column(table, value, f"reliability={name!r}"), errors="coerce")
            second, what = column.to_numpy(dtype=float)[rows], value
        both = np.isfinite(first[rows]) & np.isfinite(second)
        if both.sum() < FEWEST_TWICE:
            raise CohortError(
                f"got {both.sum()} people who are measured twice (also by {what}), expected at least {FEWEST_TWICE}. "
                "Give a number.",
                parameter=f"reliability={name!r}",
            )
        share = float(np.corrcoef(first[rows][both], second[both])[0, 1])
        if not share > 0.0:
            raise CohortError(
                f"got measures that go together by r = {share:.2f}, expected two of the same. Give a number.",
                parameter=f"reliability={name!r}",
            )
        found[name] = min(share, 1.0)
        notes.append(
            f"The reliability of {name} is taken as {found[name]:.2f}, its correlation with {what} over {both.sum()} "
            "people; what both measures get wrong alike is not in it."
        )
    return found, tuple(notes)


def of_columns(
    names: Sequence[str], is_measure: np.ndarray, reliability: Mapping[str, float]
) -> tuple[float | None, ...]:
    """Returns the reliability of each column of confounds: 1 of what is no measure, None where it is not known."""
    return tuple(
        reliability.get(name, 1.0 if name in EXACT else None) if measured else 1.0
        for name, measured in zip(names, is_measure, strict=True)
    )


def _of_later_visits(table: pd.DataFrame, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    later = pd.Series(values, index=table["participant_id"].to_numpy())[
        np.isin(np.arange(len(table)), rows, invert=True)
    ]
    later = later.dropna().groupby(level=0).first()
    return later.reindex(table["participant_id"].iloc[rows]).to_numpy(dtype=float)
