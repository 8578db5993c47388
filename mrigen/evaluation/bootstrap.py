"""Intervals of figures of two groups of people, by drawing families again."""

from collections.abc import Callable

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
NUM_DRAWS = 2000


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


def percentiles(draws: np.ndarray, num_families: int) -> tuple[float, float]:
    """Returns the interval of a figure from its values in draws; wider where there are few families.

    References:
        Hesterberg 2015, What teachers should know about the bootstrap, Am. Stat. 69(4) (the expanded percentiles).
    """
    if num_families < 2:
        return -np.inf, np.inf
    ratio = np.sqrt(num_families / (num_families - 1.0))
    tail = float(stats.norm.cdf(ratio * stats.t.ppf((1.0 - CONFIDENCE) / 2.0, num_families - 1)))
    low, high = np.quantile(draws, (tail, 1.0 - tail))
    return float(low), float(high)


def mean_interval(values: np.ndarray, families: np.ndarray, seed) -> tuple[float, float]:
    """Returns the interval of the mean of `values` (n,)."""
    return percentiles(drawn_means(values, families, [*_key(seed), 0]), len(np.unique(families)))


def compared_interval(
    figure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    values: np.ndarray,
    families: np.ndarray,
    others: np.ndarray,
    families_of_others: np.ndarray,
    seed,
) -> tuple[float, float]:
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
    return percentiles(draws, min(len(np.unique(families)), len(np.unique(families_of_others))))


def share_interval(inside: np.ndarray, families: np.ndarray) -> tuple[float, float]:
    """Returns the interval of a share, of (n,) bool, for as many people as there are families.

    References:
        Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    total = len(np.unique(families))
    value, square = float(np.mean(inside)), stats.norm.ppf(0.5 + CONFIDENCE / 2.0) ** 2 / total
    middle, half = value + square / 2.0, np.sqrt(square * value * (1.0 - value) + square**2 / 4.0)
    return float(max(0.0, (middle - half) / (1.0 + square))), float(min(1.0, (middle + half) / (1.0 + square)))


def _key(seed) -> list[int]:
    return [int(part) for part in np.atleast_1d(seed)]
