"""One head under two ids: copies that were moved, turned, defaced, mirrored, or given another contrast.

Every head is laid once onto a common one; what is then left of it inside the brain case, without its contrast, is
compared with all others by products of matrices. The closest pairs are laid onto each other and judged by how much
less they differ than two people of the cohort do.
"""

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np

from mrigen.quality.alignment import Target, place, places_of, sample, unit
from mrigen.quality.common_head import MISSING, POINTS_APART, CommonHead

# Heads of which the common head is made, at most; and whose products are formed at once.
NUM_COMMON, BLOCK = 128, 512
# In smaller cohorts every pair is judged: the people themselves are too much of their mean.
NUM_SCREENED = 24
# Pairs that are no closer than this at a first look are not judged, and no more than these of a cohort.
LOWEST_SCREENED, MOST_JUDGED = 0.3, (1000, 2)
# Two images of one head differ by less than this share of what two people of the cohort differ by, for a grid of these
# mm. Set between the planted copies and the pairs of different people of `python -m benchmarks copies`.
ZOOMS, SHARES = (4.0, 8.0, 12.0), (0.27, 0.32, 0.24)
# What two people differ by (1 - correlation): where a cohort is too small to say so, and the limits of what it may say.
USUAL_DIFFERENCE, DIFFERENCES, NUM_PAIRS, LEAST_PAIRS = 0.2, (0.08, 0.35), 200, 20


@dataclasses.dataclass(frozen=True)
class Copy:
    """Two images of one head.

    Attributes:
        first: row of the one.
        second: row of the other, above `first`.
        correlation: of their local contrast inside the brain case, laid onto each other.
        is_mirrored: whether one is the mirror image of the other.
    """

    first: int
    second: int
    correlation: float
    is_mirrored: bool

    def describe(self) -> str:
        """Returns how alike the two are, in a few words.

        Example:
            >>> Copy(0, 1, 0.987, True).describe()
            'mirrored, correlation 0.987'
        """
        return f"{'mirrored, ' if self.is_mirrored else ''}correlation {self.correlation:.3f}"


def find_copies(volumes: np.ndarray | Iterable[np.ndarray], zooms, groups=None) -> list[Copy]:
    """Returns the pairs of images that show one head, ordered by their rows.

    Args:
        volumes: (n, x, y, z) uint8, prepared; or blocks of it, one after the other.
        zooms: voxel size in mm.
        groups: (n,) whose image each is; two images of one person are no copies. Everybody's own if None.

    Example:
        >>> head = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 16)).astype(np.uint8)
        >>> [(copy.first, copy.second) for copy in find_copies(np.concatenate([head, head]), (12, 12, 12))]
        [(0, 1)]
    """
    portraits = _portray_cohort([volumes] if isinstance(volumes, np.ndarray) else volumes, zooms)
    if portraits is None:
        return []
    num = len(portraits.contrasts)
    groups = np.arange(num) if groups is None else np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    allowed = portraits.largest_difference(groups, zooms)
    judged: dict[tuple[int, int], Copy] = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for copy in pool.map(lambda pair: portraits.compare(*pair), portraits.closest(groups)):
            best = judged.get((copy.first, copy.second))
            if 1.0 - copy.correlation < allowed and (best is None or copy.correlation > best.correlation):
                judged[copy.first, copy.second] = copy
    return [judged[pair] for pair in sorted(judged)]


def _portray_cohort(blocks: Iterable[np.ndarray], zooms) -> "Portraits | None":
    """Returns the portraits of all heads, None of fewer than two."""
    heads = itertools.chain.from_iterable(blocks)
    first = list(itertools.islice(heads, NUM_COMMON))
    if len(first) < 2:
        return None
    common = CommonHead(np.stack(first), zooms)
    return Portraits(common, portray(common, itertools.chain(first, heads)))


def portray(common: CommonHead, heads: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the portraits (n, x, y, z) int8 of heads (x, y, z) uint8, laid onto the common one."""
    contrasts = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for chunk in _chunks(heads, NUM_COMMON):
            contrasts.append(np.stack(list(pool.map(common.portray, chunk))))
    return np.concatenate(contrasts)


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


class Portraits:
    """The portraits (n, x, y, z) int8 of a cohort, and how they are compared.

    Attributes:
        contrasts: the portraits.
        num_mean: of the first of them the mean is made, beside which others are told apart; of all if None.
    """

    def __init__(self, common: CommonHead, contrasts: np.ndarray, num_mean: int | None = None):
        self.contrasts = contrasts
        self._zooms = (common.spacing,) * 3
        self._inside = common.inside
        places = places_of(common.shape, self._zooms)
        self._places = places[common.inside]
        every = max(1, round(POINTS_APART / common.spacing))
        kept = (np.round(places / common.spacing).astype(int) % every == 0).all(axis=-1)
        self._points = places[common.inside & kept]
        # Indices of the voxels inside, and of their mirror images, in a flat portrait.
        self._own = np.flatnonzero(common.inside)
        self._mirrored = np.arange(common.inside.size).reshape(common.shape)[::-1].ravel()[self._own]
        total, count = np.zeros(len(self._own)), np.zeros(len(self._own))
        for rows in self._blocks(num_mean):
            for order in (self._own, self._mirrored):
                block = self._flat(rows)[:, order]
                total += np.where(block == MISSING, 0, block).sum(axis=0, dtype=np.int64)
                count += (block != MISSING).sum(axis=0)
        self._mean = (total / np.maximum(count, 1)).astype(np.float32)

    def closest(self, groups: np.ndarray) -> list[tuple[int, int, bool]]:
        """Returns the pairs that are to be judged: first row, second row, whether mirrored; the closest first."""
        num = len(self.contrasts)
        if num <= NUM_SCREENED:
            pairs = [pair for pair in itertools.combinations(range(num), 2) if groups[pair[0]] != groups[pair[1]]]
            return [(*pair, is_mirrored) for pair in pairs for is_mirrored in (False, True)]
        most = max(MOST_JUDGED[0], MOST_JUDGED[1] * num)
        found = np.zeros((0, 4))
        lowest = LOWEST_SCREENED
        blocks = list(self._blocks())
        for index, rows in enumerate(blocks):
            traits = self._traits(rows, self._own)
            for others in blocks[index:]:
                theirs = traits if others == rows else self._traits(others, self._own)
                for is_mirrored in (False, True):
                    # A product of mirrored and own traits is that of own and mirrored ones.
                    products = traits @ (self._traits(others, self._mirrored) if is_mirrored else theirs).T
                    products[groups[rows.start : rows.stop, None] == groups[None, others.start : others.stop]] = -1.0
                    if others == rows:
                        products[np.tril_indices(len(products))] = -1.0
                    first, second = np.nonzero(products > lowest)
                    new = [products[first, second], first + rows.start, second + others.start]
                    found = np.concatenate([found, np.stack([*new, np.full(len(first), is_mirrored)], axis=1)])
                    if len(found) > most:
                        found = found[np.lexsort((found[:, 3], found[:, 2], found[:, 1], -found[:, 0]))[:most]]
                        lowest = max(lowest, found[-1, 0])
        found = found[np.lexsort((found[:, 3], found[:, 2], found[:, 1], -found[:, 0]))]
        return [(int(first), int(second), bool(is_mirrored)) for _, first, second, is_mirrored in found]

    def compare(self, first: int, second: int, is_mirrored: bool) -> Copy:
        """Returns how alike two portraits are, the second laid onto the first."""
        portrait, other = self.contrasts[first], self.contrasts[second]
        if is_mirrored:
            other = other[::-1]
        contrast, others = (np.where(each == MISSING, 0, each).astype(np.float32) for each in (portrait, other))
        target = Target.of(contrast, self._zooms, self._points)
        pose = target.align(others, self._zooms, np.eye(4), 15)
        places = place(pose, self._places)
        # Only where both show something: a face that was cut off is no difference.
        both = sample((other != MISSING).astype(np.float32), self._zooms, places) > 0.99
        both &= portrait[self._inside] != MISSING
        correlation = 0.0
        if both.mean() > 0.25:
            theirs = sample(others, self._zooms, places[both])
            correlation = float(unit(contrast[self._inside][both]) @ unit(theirs))
        return Copy(first, second, correlation, is_mirrored)

    def largest_difference(self, groups: np.ndarray, zooms) -> float:
        """Returns how far below 1 the correlation of two images of one head is, at most."""
        rng = np.random.default_rng(0)
        pairs = {tuple(sorted(pair)) for pair in rng.integers(0, len(groups), (NUM_PAIRS, 2)).tolist()}
        pairs = sorted(pair for pair in pairs if groups[pair[0]] != groups[pair[1]])
        usual = USUAL_DIFFERENCE
        if len(pairs) >= LEAST_PAIRS:
            usual = np.clip(np.median([1.0 - self.compare(*pair, False).correlation for pair in pairs]), *DIFFERENCES)
        return float(np.interp(max(zooms), ZOOMS, SHARES) * usual)

    def likeness(self, rows: range, others: range, is_mirrored: bool = False) -> np.ndarray:
        """Returns the correlations of what portraits have beside the mean, as they lie on the common head.

        Args:
            rows: portraits.
            others: portraits; these are mirrored.

        Returns:
            (rows, others) float32; 0 where a portrait shows nothing.
        """
        order = self._mirrored if is_mirrored else self._own
        return self._traits(rows, self._own) @ self._traits(others, order).T

    def _blocks(self, num: int | None = None) -> Iterator[range]:
        num = len(self.contrasts) if num is None else num
        for start in range(0, num, BLOCK):
            yield range(start, min(start + BLOCK, num))

    def _flat(self, rows: range) -> np.ndarray:
        return self.contrasts[rows.start : rows.stop].reshape(len(rows), -1)

    def _traits(self, rows: range, order: np.ndarray) -> np.ndarray:
        """Returns what the portraits of `rows` have beside the mean, (rows, inside) float32 of norm 1."""
        block = self._flat(rows)[:, order]
        return unit(np.where(block == MISSING, np.float32(0), block - self._mean))
