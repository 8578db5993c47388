"""Whether samples lie where people lie: distances of distributions, precision, recall, density and coverage.

All in spaces that need no download (`mrigen.evaluation.features`), each contender against people never seen.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy import stats

from mrigen.evaluation.features import OTHERS, SPACES, UNSEEN, WORDS, Space, scaled
from mrigen.evaluation.heads import CONTENDERS, FLOOR, Material
from mrigen.evaluation.result import HIGHER, LOWER, FigureKind, PartResult, Row

# Neighbours of precision, recall, density and coverage; fewer heads than this have no distribution.
NUM_NEAREST, FEWEST = 5, 8
NUM_PERMUTATIONS, NUM_BOOTSTRAPS = 499, 500
FIGURE_WORDS = {
    "frechet": ("squared Frechet distance to people never seen, in variances of training people", LOWER),
    "mmd": ("squared maximum mean discrepancy from people never seen, unbiased, x 1000", LOWER),
    "precision": ("share of heads within the reach of people never seen", HIGHER),
    "recall": ("share of people never seen within the reach of heads", HIGHER),
    "density": ("how many people never seen reach a head, over k", HIGHER),
    "coverage": ("share of people never seen with a head nearer than their 5th nearest person", HIGHER),
}


def figures_of(names) -> dict[str, FigureKind]:
    """Returns the figures in the spaces of these names."""
    return {
        f"{figure}_{name}": FigureKind(f"{words}; {WORDS.get(name, name)}", better)
        for name in names
        for figure, (words, better) in FIGURE_WORDS.items()
    }


FIGURES = figures_of(SPACES)


def judge(material: Material, spaces: Mapping[str, Space] = SPACES) -> PartResult:
    """Returns the figures of each contender in each space.

    Args:
        material: of the evaluation.
        spaces: name -> function of the material; see `mrigen.evaluation.features`.
    """
    rows, facts = [], {}
    for name, space in spaces.items():
        points = scaled(space(material))
        facts[name] = {
            "features": int(points[UNSEEN].shape[1]),
            "scaled_by": len(points.get(OTHERS, points[UNSEEN])),
            "bandwidth": bandwidth(points.get(OTHERS, points[UNSEEN])),
        }
        for index, (contender, heads) in enumerate(material.contenders.items()):
            if contender in points:
                families = heads.families, material.unseen.families
                comparison = _Comparison(points[contender], points[UNSEEN], *families, facts[name]["bandwidth"])
                rows += comparison.rows(name, contender, np.random.default_rng([material.seed, 21, index]))
    order = {figure: index for index, figure in enumerate(figures_of(spaces))}
    rows.sort(key=lambda row: order[row.figure])
    return PartResult(tuple(rows), tuple(_notes(material)), {}, {"distribution": facts})


def _notes(material: Material) -> list[str]:
    floor = f"`{FLOOR}` ({CONTENDERS[FLOOR]})"
    return [
        f"A Frechet distance is too large at a small n, and precision, recall, density and coverage depend on n: read "
        f"each against that of {floor}, which has the same n ({len(material.unseen)}).",
        "Covariances are shrunk (Ledoit and Wolf). The kernel of the maximum mean discrepancy is Gaussian, as wide as "
        "the median distance of training people who are in neither group. p is that of a permutation by family.",
        "Intervals of precision, recall, density and coverage are bootstraps by family of the heads that are counted; "
        "the reach of the others stays as it is.",
    ]


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Some heads and people never seen in one space, (n, d) each, their families, and the width of the kernel."""

    made: np.ndarray
    real: np.ndarray
    made_families: np.ndarray
    real_families: np.ndarray
    width: float

    def rows(self, space: str, of: str, rng: np.random.Generator) -> list[Row]:
        """Returns the row of each figure."""
        num = min(len(self.made), len(self.real))
        if num < FEWEST:
            note = f"{num} heads, expected at least {FEWEST}"
            return [Row(f"{figure}_{space}", of, None, n=num, note=note) for figure in FIGURE_WORDS]
        if not np.isfinite(self.made).all():
            return [Row(f"{figure}_{space}", of, None, n=num, note="no features") for figure in FIGURE_WORDS]
        both = np.concatenate([self.made, self.real])
        # A family that is on both sides is one on each: sides differ by whose heads they have.
        families = np.concatenate(
            [[f"made {name}" for name in self.made_families], [f"real {name}" for name in self.real_families]]
        )
        sides = permuted_sides(families, len(self.made), NUM_PERMUTATIONS, rng)
        frechet = np.array([frechet_distance(both[side], both[~side]) for side in sides])
        discrepancies = 1000.0 * unbiased_mmd(gaussian_kernel(both, self.width), sides)
        found = [
            Row(f"frechet_{space}", of, float(frechet[0]), p=_p(frechet), n=num),
            Row(f"mmd_{space}", of, float(discrepancies[0]), p=_p(discrepancies), n=num),
        ]
        for figure, counted in neighbourhoods(self.real, self.made, NUM_NEAREST).items():
            own = self.made_families if figure in OF_MADE else self.real_families
            low, high = _interval(counted, own, rng)
            found.append(Row(f"{figure}_{space}", of, float(counted.mean()), low, high, n=num))
        return found


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the squared Frechet distance of two Gaussians that are fitted to points (n, d) with shrunk covariances.

    References:
        Dowson and Landau 1982, The Frechet distance between multivariate normal distributions.
        Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices.

    Example:
        >>> points = np.random.default_rng(0).standard_normal((50, 3))
        >>> round(frechet_distance(points, points + [2, 0, 0]), 6)
        4.0
    """
    (loc, covariance), (other_loc, other) = _shrunk(first), _shrunk(second)
    # The eigenvalues of a product of two covariances are those of a symmetric matrix.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0.0)).sum()
    squared = ((loc - other_loc) ** 2).sum() + np.trace(covariance) + np.trace(other) - 2.0 * shared
    return float(max(squared, 0.0))


def _shrunk(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.covariance import ledoit_wolf

    return points.mean(axis=0), np.atleast_2d(ledoit_wolf(points)[0])


def bandwidth(points: np.ndarray) -> float:
    """Returns the median distance of two points of (n, d); 1 where all are one."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(points))) if len(points) > 1 and np.ptp(points, axis=0).any() else 1.0


def gaussian_kernel(points: np.ndarray, width: float) -> np.ndarray:
    """Returns exp(-distance^2 / (2 width^2)) of all pairs of points (n, d): (n, n)."""
    from scipy.spatial.distance import cdist

    return np.exp(-cdist(points, points, "sqeuclidean") / (2.0 * width**2))


def unbiased_mmd(kernel: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns the unbiased estimate of the squared maximum mean discrepancy for each division into two sides.

    Args:
        kernel: (n, n), between all points.
        sides: (..., n) bool.

    Returns:
        (...,) float; it may be below 0.

    References:
        Gretton et al. 2012, A kernel two-sample test, J. Mach. Learn. Res. 13, eq. 3.
    """
    kernel = kernel - np.diag(np.diag(kernel))
    first, second = sides.astype(float), (~sides).astype(float)
    to_first, to_second = first @ kernel, second @ kernel
    num, other = first.sum(axis=-1), second.sum(axis=-1)
    within = (to_first * first).sum(axis=-1) / (num * (num - 1)) + (to_second * second).sum(axis=-1) / (
        other * (other - 1)
    )
    return within - 2.0 * (to_first * second).sum(axis=-1) / (num * other)


def permuted_sides(families: np.ndarray, num_first: int, num: int, rng: np.random.Generator) -> np.ndarray:
    """Returns divisions of points into two sides by whole families: (num + 1, n) bool, the first the one that is there.

    The others draw families in random order until the first side has `num_first` points, or as few more as can be.
    """
    count = len(families)
    sides = np.zeros((num + 1, count), dtype=bool)
    sides[0, :num_first] = True
    _, family = np.unique(families, return_inverse=True)
    sizes = np.bincount(family)
    for side in sides[1:]:
        order = rng.permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]
        side[:] = np.isin(family, order[before < num_first])
    return sides


# Neighbourhood figures that are means over made heads; the others are means over real ones.
OF_MADE = ("precision", "density")


def neighbourhoods(real: np.ndarray, made: np.ndarray, num_nearest: int) -> dict[str, np.ndarray]:
    """Returns what precision, density (a number a made point), recall and coverage (one a real point) are means of.

    The reach of a point is its distance to the `num_nearest`-th nearest other one of its kind.

    Args:
        real, made: points (n, d) and (m, d).

    References:
        Kynkaanniemi et al. 2019, Improved precision and recall metric for assessing generative models.
        Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models (density, coverage).

    Example:
        >>> points = np.arange(12.0)[:, None]
        >>> {name: float(each.mean()) for name, each in neighbourhoods(points, points + 0.25, 5).items()}["coverage"]
        1.0
    """
    from scipy.spatial.distance import cdist

    between = cdist(real, made)
    reach, made_reach = (np.sort(cdist(points, points), axis=1)[:, num_nearest] for points in (real, made))
    in_reach = between < reach[:, None]
    return {
        "precision": in_reach.any(axis=0).astype(float),
        "recall": (between < made_reach[None]).any(axis=1).astype(float),
        "density": in_reach.sum(axis=0) / float(num_nearest),
        "coverage": (between.min(axis=1) < reach).astype(float),
    }


def _p(values: np.ndarray) -> float:
    """Returns the p of the first value, of those under permutation that follow."""
    return float((values >= values[0] - 1e-12).mean())


def _interval(values: np.ndarray, families: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the 95 % interval of a mean by a bootstrap of whole families; that of Wilson for a share of 0 or 1."""
    _, family = np.unique(families, return_inverse=True)
    sums, sizes = np.bincount(family, values), np.bincount(family)
    drawn = rng.integers(0, len(sizes), (NUM_BOOTSTRAPS, len(sizes)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [2.5, 97.5])
    if values.all() == values.any() and values.max() <= 1.0:
        # None or all of them: a bootstrap would be sure.
        found = stats.binomtest(len(sizes) * int(values.max()), len(sizes)).proportion_ci(method="wilson")
        low, high = found.low, found.high
    return float(low), float(high)
