"""What an image becomes: a volume on the model's grid, pure and recorded, with its place in the world.

The grid is aligned with world axes (RAS+), so that oblique and axis-aligned scans of a head end up alike.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from mrigen.data.heads import (
    Head,
    Intensities,
    along,
    black_and_white,
    find_head,
    is_straight,
    voxel_bounds,
    world_bounds,
)
from mrigen.imaging.volumes import Volume, apply_affine
from mrigen.recipe import PreprocessRecipe

# A brain is at most about 150 mm tall; whatever is taller than this is a whole head with a neck.
WHOLE_HEAD_HEIGHT = 160.0
# The brain lies this far below the vertex at most, mm.
BRAIN_HEIGHT = 150.0
# Air left above the vertex when the grid hangs from the top of the head.
MARGIN_ABOVE_HEAD = 2.0
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
        surround: native intensity of what was cut away around the head, where something was; else None.
        head_volume: ml; largest component above an Otsu threshold in the native image, before any crop.
        brain_volume: ml inside the mask, or None without one.
        lost: fraction of the mask (without one, of the upper 150 mm of the head) that the grid does not cover.
    """

    array: np.ndarray
    centre: np.ndarray
    low: float
    scale: float
    surround: float | None
    head_volume: float
    brain_volume: float | None
    lost: float

    @property
    def intensities(self) -> Intensities:
        """How its grey levels and its native intensities belong together."""
        return Intensities(self.low, self.scale, self.surround)


def prepare_volume(
    volume: Volume, mask: Volume | None, settings: PreprocessRecipe, apply_mask: bool, head: Head | None = None
) -> Prepared:
    """Returns `volume` (closest-canonical axes) on the model's grid, with what was measured on the way.

    Args:
        volume: the native image; finite, not constant.
        mask: labels on the same grid (> 0 is inside), or None.
        settings: zooms (mm), volume_shape, centre, intensity_percentiles, version.
        apply_mask: whether voxels outside `mask` become 0.
        head: of `find_head`, where it is known already.
    """
    head = find_head(volume, settings) if head is None else head
    voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000.0
    inside = None if mask is None else mask.array > 0
    is_masked = apply_mask and inside is not None
    shown = inside if is_masked else head.mask
    kept = inside if is_masked else head.cut_out
    low, high = black_and_white(volume.array, shown, kept is not None, head, settings)
    scaled = volume.array - low
    scaled /= max(high - low, np.finfo(np.float32).tiny)
    np.clip(scaled, 0.0, 1.0, out=scaled)
    if kept is not None:
        scaled *= kept
    if settings.version == 3 or is_straight(volume.affine):
        bounds = voxel_bounds(shown)
        centre = apply_affine(volume.affine, _centre_voxel(volume, bounds, inside, settings))
        counted = _upper_part(head.mask, bounds[2, 1], volume) if inside is None else inside
    else:
        centre, top = _world_centre(volume, shown, inside, settings)
        counted = (
            head.mask & (along(volume.affine[2], head.mask.shape) >= top - BRAIN_HEIGHT) if inside is None else inside
        )
    affine = grid_affine(centre, settings.zooms, settings.volume_shape)
    resampled = resample(Volume(scaled, volume.affine), affine, settings.volume_shape)
    return Prepared(
        array=np.rint(np.clip(resampled, 0.0, 1.0) * 255.0).astype(np.uint8),
        centre=centre,
        low=float(low),
        scale=float(high - low),
        surround=float(head.black) if kept is not None and settings.version > 3 else None,
        head_volume=float(np.count_nonzero(head.mask) * voxel_ml),
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


def _centre_voxel(volume: Volume, bounds: np.ndarray, inside: np.ndarray | None, settings: PreprocessRecipe):
    """Returns the native voxel coordinates on which the grid is centred; `bounds` are those of what is shown."""
    shape = np.asarray(volume.array.shape)
    if settings.centre == "field_of_view":
        return (shape - 1) / 2.0
    if settings.centre == "mask" and inside is not None:
        return voxel_bounds(inside).mean(axis=1)
    centre = bounds.mean(axis=1)
    height = (bounds[2, 1] - bounds[2, 0] + 1) * volume.zooms[2]
    if settings.centre == "head_top" or (settings.centre == "auto" and height > WHOLE_HEAD_HEIGHT):
        # The neck is cut anywhere, the vertex never: hang the grid from the top of the head.
        extent = settings.zooms[2] * settings.volume_shape[2]
        centre[2] = bounds[2, 1] + (MARGIN_ABOVE_HEAD - extent / 2.0) / volume.zooms[2]
    return centre


def _upper_part(head: np.ndarray, top: float, volume: Volume) -> np.ndarray:
    """Returns the part of `head` that can hold the brain; `top` is its highest voxel."""
    first = int(max(0, np.floor(top - BRAIN_HEIGHT / volume.zooms[2])))
    upper = head.copy()
    upper[:, :, :first] = False
    return upper


def _world_centre(
    volume: Volume, shown: np.ndarray, inside: np.ndarray | None, settings: PreprocessRecipe
) -> tuple[np.ndarray, float]:
    """Returns what `_centre_voxel` does, of an image whose axes do not go along those of the world: the centre of the
    grid, (3,) mm, and where the top of what is shown lies, mm along z."""
    bounds = world_bounds(shown, volume.affine)
    top = bounds[2, 1]
    if settings.centre == "field_of_view":
        return apply_affine(volume.affine, (np.asarray(volume.array.shape) - 1) / 2.0), top
    if settings.centre == "mask" and inside is not None:
        return world_bounds(inside, volume.affine).mean(axis=1), top
    centre = bounds.mean(axis=1)
    if settings.centre == "head_top" or (settings.centre == "auto" and top - bounds[2, 0] > WHOLE_HEAD_HEIGHT):
        centre[2] = top + MARGIN_ABOVE_HEAD - settings.zooms[2] * settings.volume_shape[2] / 2.0
    return centre, top


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
