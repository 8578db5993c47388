"""What of an image is head, where it lies, and which of its intensities are black and white."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from mrigen.imaging.volumes import Volume, zooms_of
from mrigen.recipe import PreprocessRecipe

# Part of the fullest slice that a slice must hold to count: a cable or a wrapped nose does not move the grid.
NOTICEABLE = 0.005
# Air around a head that its threshold is found with, mm, where an image lies aslant in the world.
AIR_AROUND_HEAD = 10.0
# A brain is smaller than this (ml), a whole head with what is dark in it larger.
LARGEST_BRAIN = 2200.0
# Share of the voxels on the sides of an image that one value must have to be what was put there, not measured.
FILLED_SIDES = 0.5
# Grey level of the median of an image that was cut out: about that of brains whose surroundings are black.
MEDIAN_LEVEL = 0.6
# What is darker than this in an image that was cut out are its surroundings.
DARKEST_LEVEL = 0.05
# Voxels from which thresholds and the background are found, about; of a larger image every n-th along each axis.
OTSU_VOXELS = 2**17


@dataclasses.dataclass(frozen=True)
class Head:
    """What of an image is head, and what surrounds it.

    Attributes:
        mask: (x, y, z) bool, one connected component.
        black: native intensity of the background; of an image that was cut out, that of its surroundings.
        cut_out: (x, y, z) bool, what is not the one value all around; None where the background was measured, or is
            that value but whole heads lie in it.
    """

    mask: np.ndarray
    black: float
    cut_out: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Intensities:
    """How grey levels in [0, 1] and the intensities of an image belong together.

    Attributes:
        low: intensity of level 0.
        scale: intensity units from level 0 to 1.
        surround: intensity of what was cut away around the head, where something was; else None.

    Example:
        >>> intensities = Intensities(low=100.0, scale=500.0)
        >>> intensities.of_levels(np.array([0.0, 1.0])).tolist()
        [100.0, 600.0]
        >>> intensities.to_levels(np.array([100.0, 600.0])).tolist()
        [0.0, 1.0]
    """

    low: float
    scale: float
    surround: float | None = None

    def of_levels(self, levels: np.ndarray) -> np.ndarray:
        """Returns the intensities, float32, of `levels` of any shape. In an image that was cut out nothing is darker
        than its surroundings; where these are as bright as tissue (standardized intensities), they are what is almost
        black."""
        native = (self.low + self.scale * levels).astype(np.float32)
        if self.surround is None:
            return native
        if self.surround < self.low + 0.5 * MEDIAN_LEVEL * self.scale:
            return np.maximum(native, np.float32(self.surround))
        native[levels < DARKEST_LEVEL] = self.surround
        return native

    def to_levels(self, native: np.ndarray) -> np.ndarray:
        """Returns the levels, float32, of intensities; not clipped."""
        levels = ((native - self.low) / self.scale).astype(np.float32)
        if self.surround is not None:
            levels[native == np.float32(self.surround)] = 0.0
        return levels


def find_head(volume: Volume, settings: PreprocessRecipe) -> Head:
    """Returns what of an image is head.

    Where one value covers the sides of the image, and what is left has at most the size of a brain or has that value
    in the middle of its own (intensities that were standardized), the image was cut out: all that is left is shown.
    Otherwise the head is the largest component above Otsu's threshold, and the background what lies below; a value
    far below it, put where nothing was measured, and stray dark or bright voxels count for neither.

    Args:
        volume: the native image, closest-canonical axes; finite, not constant.
        settings: of `version` 3, black is the lowest voxel, whatever it is.
    """
    array = volume.array
    if settings.version == 3:
        return Head(head_mask(array), float(array.min()))
    sample = _some(array)
    filled = _filling(array)
    if filled is not None:
        left = sample[sample != filled]
        size = left.size / sample.size * array.size * abs(np.linalg.det(volume.affine[:3, :3])) / 1000.0
        if left.size and (size <= LARGEST_BRAIN or np.percentile(left, 2) < filled < np.percentile(left, 98)):
            cut_out = array != filled
            return Head(largest_component(cut_out), filled, cut_out)
    black, threshold = _background(sample, filled)
    mask = largest_component(array >= threshold)
    if not is_straight(volume.affine):
        # The more air, the lower the threshold, and a field of view that lies aslant holds more of it.
        _, threshold = _background(array[_around(mask, volume.affine)], filled)
        mask = largest_component(array >= threshold)
    return Head(mask, black)


def _background(sample: np.ndarray, filled: float | None) -> tuple[float, float]:
    """Returns the intensity of the background, and that from which on there is head.

    Args:
        sample: voxels.
        filled: the value on the sides of the image, if there is one.
    """
    left = sample if filled is None else sample[sample != filled]
    dark, threshold = _dark(left)
    # Beside what was put around a field of view lies air, which varies little. Where the dark part of the rest is
    # tissue, or hardly brighter, that value is the air.
    if filled is not None and not _is_air(dark, threshold, filled):
        dark, threshold = _dark(sample)
    # The lower quartile: tissue without signal is dark, too, and may fill as much of the image as the air.
    return float(np.percentile(dark, 25) if dark.size else left.min()), threshold


def _dark(sample: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the voxels below Otsu's threshold, and the threshold.

    What lies far below the rest (an overflow, a dead voxel, what was put around a field of view) counts as hardly below
    it, and is not returned.
    """
    low, high = np.percentile(sample, (25.0, 99.9))
    floor = low - 0.25 * (high - low)
    threshold = otsu_threshold(np.maximum(sample, floor), nudge=0.01)
    return sample[(sample < threshold) & (sample > floor)], threshold


def _is_air(dark: np.ndarray, threshold: float, filled: float) -> bool:
    if dark.size == 0:
        return False
    first, median, third = np.percentile(dark, (25.0, 50.0, 75.0))
    return third - first < 0.5 * (threshold - median) < 0.5 * abs(median - filled)


def _filling(array: np.ndarray) -> float | None:
    """Returns the value that most voxels on the sides of an image have, if one is that frequent."""
    every = max(1, round((array.size / OTSU_VOXELS) ** (1.0 / 3.0)))
    sides = [np.take(array, side, axis)[::every, ::every].ravel() for axis in range(3) for side in (0, -1)]
    values, counts = np.unique(np.concatenate(sides), return_counts=True)
    most = int(counts.argmax())
    return float(values[most]) if counts[most] >= FILLED_SIDES * counts.sum() else None


def black_and_white(
    array: np.ndarray, shown: np.ndarray, is_cut_out: bool, head: Head, settings: PreprocessRecipe
) -> tuple[float, float]:
    """Returns the native intensities that become 0 and 1."""
    first, last = settings.intensity_percentiles
    if settings.version == 3:
        low = array.min() if first == 0 else np.percentile(array, first)
        return low, np.percentile(array[shown], last)
    inner = array[shown]
    white = np.percentile(inner, last)
    if is_cut_out:
        # What is around it says nothing of black: 0, or the mean of standardized intensities. The median does, however
        # the image was shifted and scaled.
        median = np.percentile(inner, 50)
        if white - median > 1e-3 * abs(median - head.black):
            return median - (white - median) * MEDIAN_LEVEL / (1.0 - MEDIAN_LEVEL), white
    return head.black if first == 0 else np.percentile(array, first), white


def otsu_threshold(array: np.ndarray, nudge: float = 0.0) -> float:
    """Returns where the brighter of two classes of `array` begins (largest variance between the classes).

    The brightest thousandth is clipped first, so that a few hot voxels do not stretch the histogram. Of a large image
    some 100,000 voxels, evenly spaced, are enough.

    Args:
        array: any shape.
        nudge: part of a bin of the histogram by which every value counts as higher, so that grey levels that lie on the
            border of a bin stay on one side of it whatever was rounded on the way.

    References:
        Otsu 1979, A threshold selection method from gray-level histograms.
    """
    array = _some(array)
    array = np.minimum(array, np.percentile(array, 99.9))
    low, high = array.min(), array.max()
    step = nudge * (float(high) - float(low)) / 256
    counts, edges = np.histogram(np.minimum(array + step, high) if nudge else array, bins=256, range=(low, high))
    middles = (edges[1:] + edges[:-1]) / 2.0
    below = np.cumsum(counts)[:-1].astype(np.float64)
    sum_below = np.cumsum(counts * middles)[:-1]
    total, total_sum = counts.sum(), (counts * middles).sum()
    separation = (total_sum * below / total - sum_below) ** 2 / np.maximum(below * (total - below), 1.0)
    return float(edges[1:][np.argmax(separation)]) - step


def _some(array: np.ndarray) -> np.ndarray:
    """Returns every n-th voxel along each axis, about `OTSU_VOXELS` of a large image."""
    every = max(1, round((array.size / OTSU_VOXELS) ** (1.0 / array.ndim)))
    return array[(slice(None, None, every),) * array.ndim]


def head_mask(array: np.ndarray) -> np.ndarray:
    """Returns the largest connected component of `array` from its Otsu threshold up (bool, the same shape)."""
    return largest_component(array >= otsu_threshold(array))


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Returns the largest connected component of `mask` (bool, the same shape); all if it is empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.ones(mask.shape, dtype=bool)
    # An eighth of the voxels is enough to guess the largest; one of more than half of them all is it for sure.
    guess = labels == _most_frequent(labels[::2, ::4])
    if 2 * np.count_nonzero(guess) > np.count_nonzero(mask):
        return guess
    return labels == _most_frequent(labels)


def _most_frequent(labels: np.ndarray) -> int:
    """Returns the label above 0 that most voxels have."""
    sizes = np.bincount(labels.ravel(order="K"), minlength=2)
    sizes[0] = -1
    return int(np.argmax(sizes))


def voxel_bounds(mask: np.ndarray) -> np.ndarray:
    """Returns (3, 2): the first and last index along each axis that hold a noticeable part of `mask`."""
    # Of bytes, in the order in which they lie: several times faster than sums of booleans along each axis in turn.
    count = {"dtype": np.uint32}
    along_xy = mask.view(np.uint8).sum(axis=2, **count)
    along_z = mask.view(np.uint8).sum(axis=0, **count).sum(axis=0)
    bounds = np.empty((3, 2))
    for axis, profile in enumerate((along_xy.sum(axis=1), along_xy.sum(axis=0), along_z)):
        occupied = np.flatnonzero(profile > NOTICEABLE * profile.max())
        bounds[axis] = occupied[0], occupied[-1]
    return bounds


def is_straight(affine: np.ndarray) -> bool:
    """Whether the axes of a closest-canonical array go along those of the world."""
    matrix = affine[:3, :3]
    return bool(np.allclose(matrix, np.diag(np.diag(matrix)), atol=1e-6 * np.abs(matrix).max()))


def world_bounds(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns (3, 2): the first and last place (mm) along each axis of the world that hold a noticeable part of
    `mask`."""
    bounds = np.empty((3, 2))
    thickness = max(zooms_of(affine))
    for axis in range(3):
        places = along(affine[axis], mask.shape)[mask]
        first = places.min()
        slices = ((places - first) / thickness).astype(np.int32)
        profile = np.bincount(slices)
        occupied = np.flatnonzero(profile > NOTICEABLE * profile.max())
        bounds[axis] = first + thickness * (occupied[[0, -1]] + 0.5)
    return bounds


def _around(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns the voxels (bool, the same shape) of the box of the world that holds `mask` and some air."""
    box = np.ones((1, 1, 1), dtype=bool)
    for row, (first, last) in zip(affine[:3], world_bounds(mask, affine), strict=True):
        places = along(row, mask.shape)
        box = box & (places >= first - AIR_AROUND_HEAD) & (places <= last + AIR_AROUND_HEAD)
    return box


def along(row: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns where each voxel lies along an axis of the world (mm, float32); `row` is that of the affine."""
    x, y, z = (np.float32(row[axis]) * np.arange(side, dtype=np.float32) for axis, side in enumerate(shape))
    return np.float32(row[3]) + x[:, None, None] + y[:, None] + z
