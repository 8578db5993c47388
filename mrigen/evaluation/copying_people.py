"""The people of whom heads may be copies, how far heads lie from them, and from each other."""

import functools

import numpy as np
import pandas as pd
from scipy import ndimage

from mrigen.evaluation.heads import Material
from mrigen.quality.common_head import CommonHead
from mrigen.quality.copies import NUM_COMMON, Portraits, portray

# Standard deviation, voxels: a head of 8 mm that was moved and nodded on its grid is not found again without it.
SMOOTHING = 0.8
NUM_PERMUTATIONS = 999
# Distances below this are it.
LEAST_DISTANCE = 1e-3


class People:
    """The real people of an evaluation, those learned from first, and the portraits of all heads."""

    def __init__(self, material: Material):
        self.zooms, self.contenders, self.seed = material.zooms, material.contenders, material.seed
        real = [material.taught, material.unseen]
        table = pd.concat([heads.people[["participant_id", "family"]] for heads in real], ignore_index=True)
        self.names, self.families = (table[name].to_numpy(dtype=str) for name in ("participant_id", "family"))
        self.num_taught = len(material.taught)
        self.is_taught = np.arange(len(table)) < self.num_taught
        self.heads = volumes = [levels(head) for heads in real for head in heads.volumes]
        compared = [smooth(head) for head in volumes]
        rng = np.random.default_rng([self.seed, 31])
        # Who makes the common head does not depend on who was learned from.
        chosen = rng.permutation(len(volumes))[:NUM_COMMON]
        self.common = CommonHead(np.stack([compared[row] for row in chosen]), self.zooms)
        compared += [smooth(levels(head)) for heads in self.contenders.values() for head in heads.volumes]
        self.portraits = Portraits(self.common, portray(self.common, compared), len(volumes))
        self.rows: dict[str, range] = {}
        start = len(volumes)
        for name, heads in self.contenders.items():
            self.rows[name] = range(start, start + len(heads))
            start += len(heads)
        self.distances, self.mirrored = self.distances_to(range(len(volumes)))
        self.distances[self.families[:, None] == self.families[None]] = np.inf
        self.sides = self._permuted(rng)
        groups = np.unique(self.families, return_inverse=True)[1]
        self.allowed = self.portraits.largest_difference(groups, self.zooms)

    def distances_to(self, rows: range, others: range | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns 1 - correlation of portraits `rows` and those of `others` (all people), or of their mirror images
        where that is less: distances, and whether mirrored; both (rows, others)."""
        others = range(len(self.heads)) if others is None else others
        plain, mirrored = (self.portraits.likeness(rows, others, turned) for turned in (False, True))
        return 1.0 - np.maximum(plain, mirrored).astype(float), mirrored > plain

    def _permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Returns who is on the side of the taught: (permutations + 1, people) bool, the first as it is."""
        # A family with members on both sides changes sides as two.
        keys = np.char.add(self.families, np.where(self.is_taught, "/taught", "/unseen"))
        _, first, family = np.unique(keys, return_index=True, return_inverse=True)
        sides = [self.is_taught[first], *(rng.permutation(self.is_taught[first]) for _ in range(NUM_PERMUTATIONS))]
        return np.stack(sides)[:, family]

    @functools.cached_property
    def gap(self) -> float:
        """The mean log gap between a person's nearest and next person."""
        return float(np.mean(gaps(self.distances, self.families)[0]))

    @functools.cached_property
    def farthest(self) -> float:
        """The largest distance of a person to the nearest other one."""
        return float(self.distances.min(axis=1).max())

    @functools.cached_property
    def sides_p(self) -> float:
        """The p that people learned from and people never seen are alike: whether the nearest of each of the former is
        one of them."""
        shares = []
        for side in self.sides:
            near, other = (self.distances[side][:, chosen].min(axis=1) for chosen in (side, ~side))
            shares.append(weighted_share(near, other, side.sum() - 1, (~side).sum()))
        return float((np.array(shares) >= shares[0] - 1e-12).mean())


def levels(volume: np.ndarray) -> np.ndarray:
    """Returns a head (x, y, z) in [0, 1] as uint8."""
    return np.rint(255.0 * np.clip(volume, 0.0, 1.0)).astype(np.uint8)


def smooth(head: np.ndarray) -> np.ndarray:
    """Returns a head (x, y, z) uint8 without the detail that it loses by being moved on its grid."""
    return np.rint(ndimage.gaussian_filter(head.astype(np.float32), SMOOTHING, mode="nearest")).astype(np.uint8)


def gaps(distances: np.ndarray, families: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns log(distance of the next person over that of the nearest), and who they are: three of (n,).

    The next person is of another family than the nearest. Where people scatter smoothly the gaps are exponential.

    References:
        Facco et al. 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood information.

    Example:
        >>> gap, nearest, following = gaps(np.array([[1.0, 1.5, 2.0]]), np.array(["a", "a", "b"]))
        >>> float(np.exp(gap[0])), int(nearest[0]), int(following[0])
        (2.0, 0, 2)
    """
    nearest = distances.argmin(axis=1)
    others = np.where(families[None] == families[nearest][:, None], np.inf, distances)
    following = others.argmin(axis=1)
    rows = np.arange(len(distances))
    near, far = distances[rows, nearest], others[rows, following]
    known = np.isfinite(far)
    gap = np.log(np.maximum(np.where(known, far, 1.0), LEAST_DISTANCE) / np.maximum(np.where(known, near, 1.0), 1e-3))
    return np.maximum(gap, 0.0), nearest, following


def weighted_share(near: np.ndarray, other: np.ndarray, num: int, num_other: int) -> float:
    """Returns the share of heads that are nearer to one side than to the other, if both had as many people.

    Args:
        near, other: (n,) distance to the nearest person of each side; equal ones count by half.
        num, num_other: people of each side.

    Example:
        >>> weighted_share(np.array([1.0, 1, 1, 2]), np.array([2.0, 2, 2, 1]), 30, 10)
        0.5
    """
    share = float((near < other).mean() + 0.5 * (near == other).mean())
    weight, other_weight = share / max(num, 1), (1.0 - share) / max(num_other, 1)
    return float(weight / max(weight + other_weight, 1e-12))
