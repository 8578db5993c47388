"""95 % intervals of figures of groups of heads, by drawing families again; those of shares without."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
# Draws of means, which are quick; and of figures that are found anew in each draw.
NUM_DRAWS, NUM_REDRAWS = 2000, 200

Interval = tuple[float | None, float | None]


def draw_counts(families: np.ndarray, num_draws: int, generator: np.random.Generator) -> np.ndarray:
    """Returns how often each person is drawn, (draws, n): as many families as there are, relatives together."""
    _, numbers = np.unique(families, return_inverse=True)
    total = int(numbers.max()) + 1
    drawn = generator.multinomial(total, np.full(total, 1.0 / total), size=num_draws)
    return drawn[:, numbers].astype(np.float64)


def drawn_means(values: np.ndarray, families: np.ndarray, seed, num_draws: int = NUM_DRAWS) -> np.ndarray:
    """Returns the means of `values` (n,) or (n, figures) in draws of families, (draws,) or (draws, figures)."""
    counts = draw_counts(families, num_draws, np.random.default_rng(seed))
    total = counts.sum(axis=1)
    return (counts @ values) / (total if np.ndim(values) == 1 else total[:, None])


def draw_rows(families: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns the rows of as many families as there are, drawn with replacement, relatives together."""
    names, index = np.unique(families, return_inverse=True)
    drawn = generator.integers(0, len(names), len(names))
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    return np.concatenate([members[each] for each in drawn])


def redraw(
    figure: Callable[..., object],
    families: Sequence[np.ndarray],
    generator: np.random.Generator,
    num_draws: int = NUM_REDRAWS,
) -> np.ndarray:
    """Returns figures of groups whose families are drawn anew, (draws,) or (draws, figures).

    Args:
        figure: of the rows that are drawn of each group.
        families: (n,) of each group.
        generator: of the draws.
        num_draws: how many.
    """
    return np.array([figure(*(draw_rows(each, generator) for each in families)) for _ in range(num_draws)], float)


def redrawn_interval(
    figure: Callable[..., object],
    families: Sequence[np.ndarray],
    generator: np.random.Generator,
    num_draws: int = NUM_REDRAWS,
) -> Interval:
    """Returns the interval of a figure of groups; see `redraw`."""
    return percentiles(redraw(figure, families, generator, num_draws), fewest(*families))


def fewest(*families: np.ndarray) -> int:
    """Returns how many families the group has that has the fewest."""
    return min(len(np.unique(each)) for each in families)


def percentiles(draws: np.ndarray, num_families: int) -> Interval:
    """Returns the interval of a figure from its values in draws; wider where there are few families. None where there
    is one family, or where most draws have no value.

    References:
        Hesterberg 2015, What teachers should know about the bootstrap, Am. Stat. 69(4) (the expanded percentiles).
    """
    known = draws[np.isfinite(draws)]
    if num_families < 2 or 2 * len(known) < len(draws):
        return None, None
    ratio = np.sqrt(num_families / (num_families - 1.0))
    tail = float(stats.norm.cdf(ratio * stats.t.ppf((1.0 - CONFIDENCE) / 2.0, num_families - 1)))
    low, high = np.quantile(known, (tail, 1.0 - tail))
    return float(low), float(high)


def mean_interval(values: np.ndarray, families: np.ndarray, seed) -> Interval:
    """Returns the interval of the mean of `values` (n,)."""
    return percentiles(drawn_means(values, families, [*_key(seed), 0]), fewest(families))


def compared_interval(
    figure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    values: np.ndarray,
    families: np.ndarray,
    others: np.ndarray,
    families_of_others: np.ndarray,
    seed,
) -> Interval:
    """Returns the interval of a figure of the means of two groups, both of which are drawn anew.

    Args:
        figure: of the draws' means of both, (draws,) each, such as their ratio.
        values, families: (n,) each, of one group.
        others, families_of_others: (m,) each, of the other.
        seed: of the draws.
    """
    draws = figure(
        drawn_means(values, families, [*_key(seed), 1]), drawn_means(others, families_of_others, [*_key(seed), 2])
    )
    return percentiles(draws, fewest(families, families_of_others))


def share_interval(inside: np.ndarray, families: np.ndarray) -> tuple[float, float]:
    """Returns the interval of a share, of (n,) bool, for as many people as there are families.

    References:
        Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    return _wilson(float(np.mean(inside)), len(np.unique(families)))


def drawn_share_interval(value: float, draws: np.ndarray, num_families: int) -> Interval:
    """Returns the interval of a share, or of an AUC, from its values in draws: see `percentiles`. Draws of a value of
    0 or 1 are all alike, and say nothing of others; it has Wilson's interval for as many trials as there are families.
    """
    interval = percentiles(draws, num_families)
    return _wilson(value, num_families) if value in (0.0, 1.0) and None not in interval else interval


def _wilson(value: float, total: int) -> tuple[float, float]:
    square = stats.norm.ppf(0.5 + CONFIDENCE / 2.0) ** 2 / total
    middle, half = value + square / 2.0, np.sqrt(square * value * (1.0 - value) + square**2 / 4.0)
    return float(max(0.0, (middle - half) / (1.0 + square))), float(min(1.0, (middle + half) / (1.0 + square)))


def _key(seed) -> list[int]:
    return [int(part) for part in np.atleast_1d(seed)]
