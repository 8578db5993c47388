"""The common head of a cohort, and what each head looks like laid onto it: the detail inside its brain case.

The common head is symmetric, so that a mirrored head lies on it as its original does, mirrored.
"""

import dataclasses
import functools

import numpy as np
from scipy import ndimage

from mrigen.data.preprocess import resampling_matrix
from mrigen.quality.alignment import Target, place, places_of, sample

# mm: the finest grid worked on; between points that heads are aligned at; from skin to brain.
FINEST, POINTS_APART, SCALP = 4.0, 8.0, 12.0
# Grey levels of 255 up to which a voxel shows nothing: air, or what was removed.
NOTHING = 4
# Portraits are bytes: this many steps for a contrast of 1; MISSING where there is nothing to see.
CONTRAST_STEPS, MISSING = 32.0, -128


@dataclasses.dataclass(frozen=True)
class Ellipsoid:
    """Where the brain is.

    Attributes:
        centre: (3,) place, mm; in the middle from left to right.
        radii: (3,) mm.
    """

    centre: np.ndarray
    radii: np.ndarray

    @classmethod
    def in_head(cls, head: np.ndarray, zooms) -> "Ellipsoid":
        """Returns the ellipsoid inside the brain case of a mean head (x, y, z), whole or stripped."""
        extent = np.asarray(head.shape) * zooms
        bright = head > 0.3 * np.percentile(head, 90)
        heights = zooms[2] * (np.arange(head.shape[2]) - (head.shape[2] - 1) / 2.0)
        # A cut through a vertex is larger than 15 cm^2.
        filled = np.flatnonzero(bright.sum(axis=(0, 1)) * zooms[0] * zooms[1] > 1500.0)
        if not filled.size:
            return cls(np.zeros(3), 0.4 * extent)
        top = heights[filled[-1]]
        # The widest part of a head lies this far below the vertex.
        widest = bright[:, :, (heights > top - 75.0) & (heights < top - 45.0)]
        across = widest.mean(axis=2) > 0.5 if widest.shape[2] else bright.any(axis=2)
        if not across.any():
            return cls(np.zeros(3), 0.4 * extent)
        ends = [np.flatnonzero(across.any(axis=1 - axis))[[0, -1]] for axis in (0, 1)]
        (left, right), (back, front) = (
            zooms[axis] * (ends[axis] - (head.shape[axis] - 1) / 2.0 + (-0.5, 0.5)) for axis in (0, 1)
        )
        height = np.clip(0.62 * (front - back), 80.0, 130.0) - SCALP
        radii = np.array([(right - left) / 2.0 - SCALP, (front - back) / 2.0 - SCALP, height / 2.0])
        return cls(np.array([0.0, (back + front) / 2.0, top - SCALP - height / 2.0]), np.maximum(radii, 24.0))

    def lattice(self, spacing: float, margin: float) -> np.ndarray:
        """Returns places `spacing` mm apart about the centre (itself one of them), up to `margin` mm outside,
        (x, y, z, 3) float32; the x are symmetric."""
        sides = 2 * np.ceil((self.radii + margin) / spacing).astype(int) + 1
        return places_of(sides, (spacing,) * 3) + self.centre.astype(np.float32)

    def contains(self, places: np.ndarray) -> np.ndarray:
        """Returns which of `places` (..., 3) lie inside."""
        return (((places - self.centre) / self.radii) ** 2).sum(axis=-1) < 1.0


class CommonHead:
    """What every head of a cohort is laid onto.

    Attributes:
        zooms: of the grid that is worked on, mm.
        brain: the ellipsoid in which heads are compared.
        spacing: mm between the voxels of a portrait.
        shape: of a portrait.
        inside: `shape` bool; where a portrait lies in the ellipsoid.
    """

    def __init__(self, heads: np.ndarray, zooms, num_rounds: int = 2):
        """Makes the mean of `heads` (n, x, y, z) uint8 of `zooms` mm, aligned again in each round."""
        self._given = np.asarray(zooms, dtype=float), heads.shape[1:]
        self.zooms = tuple(np.maximum(self._given[0], FINEST))
        self.spacing = max(FINEST, 0.75 * max(self.zooms))
        worked = [self._work(head) for head in heads]
        places = places_of(worked[0].shape, self.zooms).reshape(-1, 3)
        mean = _symmetric(np.mean(worked, axis=0))
        self._look_at(mean)
        for _ in range(num_rounds):
            total = np.zeros(mean.size, dtype=np.float64)
            for head in worked:
                laid = sample(head, self.zooms, place(self._lay_roughly(head), places))
                total += laid / max(float(laid.mean()), 1.0)
            mean = _symmetric((100.0 * total / len(worked)).reshape(mean.shape).astype(np.float32))
            self._look_at(mean)
        self._fine = Target.of(self._detail(mean)[0], self.zooms, self._points)
        lattice = self.brain.lattice(self.spacing, margin=8.0)
        self.shape = lattice.shape[:3]
        self.inside = self.brain.contains(lattice)
        self._places = lattice.reshape(-1, 3)

    def portray(self, head: np.ndarray) -> np.ndarray:
        """Returns the portrait of a head (x, y, z) uint8, laid onto the common one: `shape` int8.

        It is the local contrast: what is left of an image without its brightness, its bias field and most of its gamma.
        """
        head = self._work(head)
        detail, seen = self._detail(head)
        places = place(self._pose(head, detail), self._places)
        portrait = np.clip(np.rint(CONTRAST_STEPS * sample(detail, self.zooms, places)), -127, 127)
        portrait[sample(seen, self.zooms, places) < 0.7] = MISSING
        return portrait.astype(np.int8).reshape(self.shape)

    def pose_of(self, head: np.ndarray) -> np.ndarray:
        """Returns the pose (4, 4) that lays a head (x, y, z) uint8 onto the common one."""
        head = self._work(head)
        return self._pose(head, self._detail(head)[0])

    def _pose(self, head: np.ndarray, detail: np.ndarray) -> np.ndarray:
        return self._fine.align(detail, self.zooms, self._lay_roughly(head), 20)

    def _look_at(self, mean: np.ndarray) -> None:
        self.brain = Ellipsoid.in_head(mean, self.zooms)
        points = self.brain.lattice(max(POINTS_APART, 0.75 * max(self.zooms)), margin=0.0)
        self._points = points[self.brain.contains(points)]
        self._rough = Target.of(self._blur(mean, self._scale(6.0, 0.75)), self.zooms, self._points)

    def _lay_roughly(self, head: np.ndarray) -> np.ndarray:
        return self._rough.align(self._blur(head, self._scale(6.0, 0.75)), self.zooms, np.eye(4), 30)

    def _detail(self, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the local contrast of a head, and the share of each neighbourhood that shows something."""
        near, wide, around = self._scale(3.0, 0.5), self._scale(7.0, 0.875), self._scale(10.0, 1.05)
        shown = (head > NOTHING).astype(np.float32)
        seen = self._blur(shown, near)
        # Means over what is shown, so that a face that was cut off changes little beside the cut.
        detail = self._blur(head * shown, near) / np.maximum(seen, 1e-3)
        detail -= self._blur(head * shown, wide) / np.maximum(self._blur(shown, wide), 1e-3)
        detail *= np.minimum(1.0, 2.0 * seen) * (seen > 0.3)
        power = self._blur(shown * detail**2, around) / np.maximum(self._blur(shown, around), 1e-3)
        return detail / (np.sqrt(np.maximum(power, 0.0)) + 2.0), seen

    def _scale(self, finest: float, voxels: float) -> float:
        """Returns a width in mm that suits the grid."""
        return max(finest, voxels * max(self.zooms))

    def _blur(self, array: np.ndarray, sigma: float) -> np.ndarray:
        return ndimage.gaussian_filter(array, [sigma / zoom for zoom in self.zooms], mode="nearest", truncate=3.0)

    def _work(self, head: np.ndarray) -> np.ndarray:
        """Returns a head on the grid that is worked on, float32; the middle stays where it is."""
        head = np.asarray(head, dtype=np.float32)
        for axis, matrix in self._coarsening:
            head = np.moveaxis(np.tensordot(matrix, head, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(head)

    @functools.cached_property
    def _coarsening(self) -> list[tuple[int, np.ndarray]]:
        matrices = []
        for axis, (given, zoom, side) in enumerate(zip(self._given[0], self.zooms, self._given[1], strict=True)):
            step = zoom / given
            if step > 1.0:
                num = max(1, int(side / step))
                sigma = np.sqrt((step**2 - 1.0) / (8.0 * np.log(2.0)))
                matrices.append((axis, resampling_matrix(side, num, step, (side - 1 - step * (num - 1)) / 2.0, sigma)))
        return matrices


def _symmetric(volume: np.ndarray) -> np.ndarray:
    return (volume + volume[::-1]) / 2.0
