"""Differences of sets of volumes, and how sure they are."""

import numpy as np

NUM_PERMUTATIONS, NUM_BOOTSTRAPS = 200, 200


def cohens_d(ours, theirs) -> np.ndarray:
    """Returns Cohen's d of each column; nan where nothing differs at all."""
    deviation = np.sqrt((ours.var(axis=0, ddof=1) + theirs.var(axis=0, ddof=1)) / 2.0)
    return np.divide(
        ours.mean(axis=0) - theirs.mean(axis=0), deviation, out=np.full(len(deviation), np.nan), where=deviation > 1e-9
    )


def wasserstein(ours, theirs, count) -> np.ndarray:
    """Returns the Wasserstein-2 distance of each column: that of sorted values."""
    if len(ours) == len(theirs):
        return np.sqrt(np.square(np.sort(ours, axis=0) - np.sort(theirs, axis=0)).mean(axis=0))
    at = (np.arange(count) + 0.5) / count
    return np.sqrt(np.square(np.quantile(ours, at, axis=0) - np.quantile(theirs, at, axis=0)).mean(axis=0))


def correlation_distance(ours, theirs) -> float:
    """Returns the root mean square difference of the correlations between columns."""
    if ours.shape[1] < 2:
        return float("nan")
    above = np.triu_indices(ours.shape[1], 1)
    return float(np.sqrt(np.square(correlations(ours)[above] - correlations(theirs)[above]).mean()))


def correlations(values) -> np.ndarray:
    """Returns the correlations of columns; 0 with a column that does not vary."""
    centred = values - values.mean(axis=0)
    scores = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12)
    return scores.T @ scores


def slopes_of(values, of) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slope of each column and its standard error."""
    centred = of - of.mean()
    total = max(float((centred**2).sum()), 1e-12)
    slopes = centred @ values / total
    left = values - values.mean(axis=0) - centred[:, None] * slopes
    return slopes, np.sqrt(np.square(left).sum(axis=0) / max(len(of) - 2, 1) / total)


def permuted(ours, theirs, generator):
    """Yields the shares of both sides (see `Measured`) with families dealt out anew."""
    shares = np.concatenate([ours.shares, theirs.shares])
    families = np.concatenate([ours.families, theirs.families])
    names, index = np.unique(families, return_inverse=True)
    sizes = np.bincount(index)
    for _ in range(NUM_PERMUTATIONS):
        order = generator.permutation(len(names))
        first = order[np.cumsum(sizes[order]) <= len(ours.brain)]
        own = np.isin(index, first)
        yield shares[own], shares[~own]


def bootstrapped(sides, generator):
    """Yields the sides (see `Measured`), families of each drawn with replacement."""
    for _ in range(NUM_BOOTSTRAPS):
        yield [side.take(by_family(side.families, generator)) for side in sides]


def by_family(families, generator) -> np.ndarray:
    """Returns rows of families that are drawn with replacement."""
    names, index = np.unique(families, return_inverse=True)
    if len(names) == len(families):
        return generator.integers(0, len(families), len(families))
    members = [np.flatnonzero(index == each) for each in range(len(names))]
    return np.concatenate([members[each] for each in generator.integers(0, len(names), len(names))])


def interval(draws) -> tuple[float | None, float | None]:
    """Returns the 95 % interval of what was drawn; None where most draws have no value."""
    draws = np.asarray(draws, float)
    draws = draws[np.isfinite(draws)]
    if len(draws) < NUM_BOOTSTRAPS / 2:
        return None, None
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def dice(found, truth, ids) -> np.ndarray:
    """Returns the Dice overlap of each label of `ids` (ascending) in two label images; nan where both have none."""
    ours, theirs = (np.searchsorted(ids, each.ravel()).clip(max=len(ids) - 1) for each in (found, truth))
    is_ours, is_theirs = ids[ours] == found.ravel(), ids[theirs] == truth.ravel()
    both = is_ours & is_theirs & (ours == theirs)
    counts = [np.bincount(each[rows], minlength=len(ids)) for each, rows in ((ours, is_ours), (theirs, is_theirs))]
    total = counts[0] + counts[1]
    return np.where(total > 0, 2.0 * np.bincount(ours[both], minlength=len(ids)) / np.maximum(total, 1), np.nan)


def correlation(ours, theirs) -> float:
    """Returns the correlation of two series; nan where one is constant."""
    if np.ptp(ours) <= 0 or np.ptp(theirs) <= 0:
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


def ratio(above, below) -> np.ndarray:
    """Returns above / below; nan where that is nothing."""
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 1e-12)


def median(values) -> float:
    """Returns the median of the finite values; nan where there are none."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def number(value) -> float | None:
    """Returns a value for a table: None in place of nan."""
    return float(value) if np.isfinite(value) else None


def as_number(value) -> float:
    """Returns a cell as a number; nan where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
