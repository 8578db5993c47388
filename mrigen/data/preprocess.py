"""What an image becomes: a volume on the model's grid, pure and recorded, with its place in the world.

The grid is aligned with world axes (RAS+), so that oblique and axis-aligned scans of a head end up alike.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from mrigen.imaging.volumes import Volume, apply_affine
from mrigen.recipe import PreprocessRecipe

# A brain is at most about 150 mm tall; whatever is taller than this is a whole head with a neck.
WHOLE_HEAD_HEIGHT = 160.0
# Air left above the vertex when the grid hangs from the top of the head.
MARGIN_ABOVE_HEAD = 2.0
# Increase when the numbers that come out change, so that caches are built anew.
PREPROCESS_VERSION = 3
# Voxels from which Otsu's threshold is found, about; of a larger image every n-th along each axis is taken.
OTSU_VOXELS = 2**17
# How the Gaussian ends: at the border the edge goes on.
SMOOTHING = {"mode": "nearest", "truncate": 3.0}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One image on the model's grid.

    Attributes:
        array: `volume_shape` uint8; divided by 255 it is the intensity in [0, 1].
        centre: (3,) world coordinates in mm of the middle of the grid.
        low: native intensity that became 0.
        scale: native intensity units from 0 to 1.
        head_volume: ml; largest component above an Otsu threshold in the native image, before any crop.
        brain_volume: ml inside the mask, or None without one.
        lost: fraction of the mask (without one, of the upper 150 mm of the head) that the grid does not cover.
    """

    array: np.ndarray
    centre: np.ndarray
    low: float
    scale: float
    head_volume: float
    brain_volume: float | None
    lost: float


def prepare_volume(volume: Volume, mask: Volume | None, settings: PreprocessRecipe, apply_mask: bool) -> Prepared:
    """Returns `volume` (closest-canonical axes) on the model's grid, with what was measured on the way.

    Args:
        volume: the native image; finite, not constant.
        mask: labels on the same grid (> 0 is inside), or None.
        settings: zooms (mm), volume_shape, centre, intensity_percentiles.
        apply_mask: whether voxels outside `mask` become 0.
    """
    head = head_mask(volume.array)
    voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000.0
    inside = None if mask is None else mask.array > 0
    shown = inside if apply_mask and inside is not None else head
    first, last = settings.intensity_percentiles
    low = volume.array.min() if first == 0 else np.percentile(volume.array, first)
    high = np.percentile(volume.array[shown], last)
    scaled = volume.array - low
    scaled /= max(high - low, np.finfo(np.float32).tiny)
    np.clip(scaled, 0.0, 1.0, out=scaled)
    if shown is inside:
        scaled *= inside
    bounds = _bounds(shown)
    centre = apply_affine(volume.affine, _centre_voxel(volume, bounds, inside, settings))
    affine = grid_affine(centre, settings.zooms, settings.volume_shape)
    resampled = resample(Volume(scaled, volume.affine), affine, settings.volume_shape)
    counted = _upper_part(head, bounds[2, 1], volume) if inside is None else inside
    return Prepared(
        array=np.rint(np.clip(resampled, 0.0, 1.0) * 255.0).astype(np.uint8),
        centre=centre,
        low=float(low),
        scale=float(high - low),
        head_volume=float(np.count_nonzero(head) * voxel_ml),
        brain_volume=None if inside is None else float(np.count_nonzero(inside) * voxel_ml),
        lost=_lost_fraction(counted, volume.affine, affine, settings.volume_shape),
    )


def grid_affine(centre, zooms, volume_shape) -> np.ndarray:
    """Returns the (4, 4) affine of a world-aligned grid whose middle lies at `centre` (mm).

    Example:
        >>> grid_affine((0, 0, 0), (2, 2, 2), (3, 3, 3))[:3, 3].tolist()
        [-2.0, -2.0, -2.0]
    """
    zooms = np.asarray(zooms, dtype=np.float64)
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = np.asarray(centre) - zooms * (np.asarray(volume_shape) - 1) / 2.0
    return affine


def resample(volume: Volume, affine: np.ndarray, shape) -> np.ndarray:
    """Returns `volume` (float32) on the grid of `affine` and `shape`; linear, anti-aliased, 0 outside.

    Before coarsening, each axis is smoothed by the Gaussian that takes its resolution to that of the grid (both taken
    as Gaussians with a full width at half maximum of one voxel).
    """
    to_native = np.linalg.inv(volume.affine) @ affine
    matrix, offset = to_native[:3, :3], to_native[:3, 3]
    # Length in native voxels of one grid step, for each native axis.
    sigmas = np.sqrt(np.maximum((matrix**2).sum(axis=1) - 1.0, 0.0)) / np.sqrt(8.0 * np.log(2.0))
    # The grid axis that each native axis goes along; each native axis goes along one only where the axes stay apart.
    partners = np.abs(matrix).argmax(axis=1)
    steps = matrix[range(3), partners]
    if sorted(partners) != [0, 1, 2] or not np.allclose(matrix, steps[:, None] * np.eye(3)[partners], atol=1e-6):
        smooth = ndimage.gaussian_filter(volume.array, sigmas, **SMOOTHING)
        return ndimage.affine_transform(smooth, matrix, offset, output_shape=tuple(shape), order=1, cval=0.0)
    # Axes that stay apart: smoothing and interpolation of each are one small matrix, many times faster.
    first, second, third = (
        resampling_matrix(side, shape[partners[axis]], steps[axis], offset[axis], sigmas[axis])
        for axis, side in enumerate(volume.array.shape)
    )
    resampled = second @ np.tensordot(first, volume.array, 1) @ third.T
    return resampled.transpose(np.argsort(partners))


def resampling_matrix(num_native: int, num_grid: int, step: float, offset: float, sigma: float) -> np.ndarray:
    """Returns the matrix (num_grid, num_native) float32 that smooths by a Gaussian of `sigma` voxels, then reads at
    offset, offset + step, ... by linear interpolation; 0 outside.

    Example:
        >>> resampling_matrix(3, 4, 0.5, 0.5, 0.0).tolist()
        [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    """
    positions = offset + step * np.arange(num_grid)
    interpolation = np.maximum(1.0 - np.abs(positions[:, None] - np.arange(num_native)), 0.0)
    interpolation[(positions < -1e-6) | (positions > num_native - 1 + 1e-6)] = 0.0
    smoothing = ndimage.gaussian_filter(np.eye(num_native), (sigma, 0.0), **SMOOTHING)
    return (interpolation @ smoothing).astype(np.float32)


def otsu_threshold(array: np.ndarray) -> float:
    """Returns where the brighter of two classes of `array` begins (largest variance between the classes).

    The brightest thousandth is clipped first, so that a few hot voxels do not stretch the histogram. Of a large image
    some 100,000 voxels, evenly spaced, are enough.

    References:
        Otsu 1979, A threshold selection method from gray-level histograms.
    """
    every = max(1, round((array.size / OTSU_VOXELS) ** (1.0 / array.ndim)))
    array = array[(slice(None, None, every),) * array.ndim]
    counts, edges = np.histogram(np.minimum(array, np.percentile(array, 99.9)), bins=256)
    middles = (edges[1:] + edges[:-1]) / 2.0
    below = np.cumsum(counts)[:-1].astype(np.float64)
    sum_below = np.cumsum(counts * middles)[:-1]
    total, total_sum = counts.sum(), (counts * middles).sum()
    separation = (total_sum * below / total - sum_below) ** 2 / np.maximum(below * (total - below), 1.0)
    return float(edges[1:][np.argmax(separation)])


def head_mask(array: np.ndarray) -> np.ndarray:
    """Returns the largest connected component of `array` from its Otsu threshold up (bool, the same shape)."""
    bright = array >= otsu_threshold(array)
    labels, count = ndimage.label(bright)
    if count == 0:
        return np.ones(array.shape, dtype=bool)
    # An eighth of the voxels is enough to guess the largest; one of more than half of them all is it for sure.
    guess = labels == _most_frequent(labels[::2, ::4])
    if 2 * np.count_nonzero(guess) > np.count_nonzero(bright):
        return guess
    return labels == _most_frequent(labels)


def _most_frequent(labels: np.ndarray) -> int:
    """Returns the label above 0 that most voxels have."""
    sizes = np.bincount(labels.ravel(order="K"), minlength=2)
    sizes[0] = -1
    return int(np.argmax(sizes))


def _centre_voxel(volume: Volume, bounds: np.ndarray, inside: np.ndarray | None, settings: PreprocessRecipe):
    """Returns the native voxel coordinates on which the grid is centred; `bounds` are those of what is shown."""
    shape = np.asarray(volume.array.shape)
    if settings.centre == "field_of_view":
        return (shape - 1) / 2.0
    if settings.centre == "mask" and inside is not None:
        return _bounds(inside).mean(axis=1)
    centre = bounds.mean(axis=1)
    height = (bounds[2, 1] - bounds[2, 0] + 1) * volume.zooms[2]
    if settings.centre == "head_top" or (settings.centre == "auto" and height > WHOLE_HEAD_HEIGHT):
        # The neck is cut anywhere, the vertex never: hang the grid from the top of the head.
        extent = settings.zooms[2] * settings.volume_shape[2]
        centre[2] = bounds[2, 1] + (MARGIN_ABOVE_HEAD - extent / 2.0) / volume.zooms[2]
    return centre


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Returns (3, 2): the first and last index along each axis that hold a noticeable part of `mask`."""
    # Of bytes, in the order in which they lie: several times faster than sums of booleans along each axis in turn.
    count = {"dtype": np.uint32}
    along_xy = mask.view(np.uint8).sum(axis=2, **count)
    along_z = mask.view(np.uint8).sum(axis=0, **count).sum(axis=0)
    bounds = np.empty((3, 2))
    for axis, profile in enumerate((along_xy.sum(axis=1), along_xy.sum(axis=0), along_z)):
        # A few stray voxels (a cable, a wrapped nose) do not move the grid.
        occupied = np.flatnonzero(profile > 0.005 * profile.max())
        bounds[axis] = occupied[0], occupied[-1]
    return bounds


def _upper_part(head: np.ndarray, top: float, volume: Volume) -> np.ndarray:
    """Returns the part of `head` that can hold the brain: not more than 150 mm below its `top` (a voxel index)."""
    first = int(max(0, np.floor(top - 150.0 / volume.zooms[2])))
    upper = head.copy()
    upper[:, :, :first] = False
    return upper


def _lost_fraction(mask: np.ndarray, native_affine: np.ndarray, affine: np.ndarray, shape) -> float:
    """Returns the fraction of the voxels of `mask` whose centres lie outside the grid."""
    to_grid = np.linalg.inv(affine) @ native_affine
    covered = np.ones((1, 1, 1), dtype=bool)
    for row, side in zip(to_grid[:3], shape, strict=True):
        # Sums of three vectors over the grid; of one where the axes stay apart.
        place = row[3]
        for axis, length in enumerate(mask.shape):
            if abs(row[axis]) * length > 1e-6:
                place = place + (row[axis] * np.arange(length))[(..., *[None] * (2 - axis))]
        covered = covered & ((place >= -0.5) & (place <= side - 0.5))
    total = np.count_nonzero(mask)
    return 1.0 - np.count_nonzero(mask & covered) / total if total else 0.0
