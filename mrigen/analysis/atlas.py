"""What the training people's masks say of a template's voxels: brain and regions, carried there and averaged."""

import itertools
import zipfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from scipy import ndimage

from mrigen.data.preprocess import grid_affine, resample
from mrigen.errors import RunError, UsageError
from mrigen.imaging.volumes import Volume, apply_affine, read_volume, write_volume
from mrigen.layers import warp
from mrigen.runs import Run
from mrigen.system.files import atomic_path
from mrigen.system.progress import progress_bar

# Where the average of the training people's masks is kept in the run: a probability for each voxel of the template.
ATLAS = "atlas_brain.nii.gz"
# Likewise of each region: labels (k,), and probability (x, y, z, k), 255 for certain.
REGIONS = "atlas_regions.npz"
# Voxels kept around a region that is cut out.
CROP_MARGIN = 8


def load_atlas(run: Run, model) -> np.ndarray:
    """Returns what `make_atlas` returns, made once and kept in the run."""
    path = run.directory / ATLAS
    if not path.is_file():
        write_volume(path, make_atlas(run, model), run.affine)
    return read_volume(path).array


def make_atlas(run: Run, model) -> np.ndarray:
    """Returns how many of the training people have brain at each voxel of the template, (x, y, z) float32, 0 to 1.

    Raises:
        UsageError: no training person has a mask. CohortError: a mask is gone or damaged.
    """
    total, count = 0.0, 0
    for mask, grid, back in _training_masks(run, model):
        inside = resample(Volume((mask.array > 0).astype(np.float32), mask.affine), grid, run.grid["volume_shape"])
        total = total + warp_volume(inside, back)
        count += 1
    return (total / count).astype(np.float32)


def make_regions(run: Run, model) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels (k,) int32 of the training people's masks, and how many of the people have each at each voxel
    of the template, (x, y, z, k) float32, 0 to 1.

    Raises:
        UsageError: no training person has a mask, or the masks have one label only. CohortError: see `make_atlas`.
    """
    totals: dict[int, np.ndarray] = {}
    count = 0
    with progress_bar("Averaging the regions of the training people", run.metrics["num_subjects"]["train"]) as advance:
        for mask, grid, back in _training_masks(run, model):
            labels = Volume(np.rint(mask.array).astype(np.int32), mask.affine)
            carrier = Carrier(back)
            for label, extent in enumerate(ndimage.find_objects(labels.array), start=1):
                if extent is None:
                    continue
                part = cropped(labels, extent)
                inside = Volume((part.array == label).astype(np.float32), part.affine)
                box, affine = reach(inside, grid, run.grid["volume_shape"])
                starts, stops = zip(*((side.start, side.stop) for side in box), strict=True)
                on_grid = resample(inside, affine, np.subtract(stops, starts))
                if not on_grid.size:  # Beyond the grid.
                    continue
                if label not in totals:
                    totals[label] = np.zeros(run.grid["volume_shape"], np.float32)
                box, seen = carrier.see(on_grid, starts)
                totals[label][box] += seen
            count += 1
            advance(1)
    if len(totals) < 2:
        raise UsageError(
            f"{run.directory}: got masks with one label ({min(totals)}), expected label maps of several regions. "
            "Leave `regions` away, or fit again with data.mask naming label maps."
        )
    labels = sorted(totals)
    return np.array(labels, np.int32), np.stack([totals[label] for label in labels], axis=-1) / np.float32(count)


def load_regions(run: Run, model) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `make_regions` returns, made once and kept in the run to 1/255."""
    path = run.directory / REGIONS
    if not path.is_file():
        labels, probability = make_regions(run, model)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, labels=labels, probability=np.rint(255.0 * probability).astype(np.uint8))
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["labels"], content["probability"].astype(np.float32) / 255.0
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: cannot be read ({error}), expected regions. Delete the file; it is made anew."
        ) from None


def _training_masks(run: Run, model) -> Iterator[tuple[Volume, np.ndarray, tf.Tensor]]:
    """Yields the mask of each training person that has one, the affine of the person's grid, and the displacement
    (1, x, y, z, 3) that carries the grid into the template."""
    latents = run.load_latents("train")
    people = run.subjects.set_index("scan_id").loc[latents["scan_id"]]
    conditions = run.conditions(latents["scan_id"])
    found = False
    for row, (z, person) in enumerate(zip(latents["loc"], people.itertuples(), strict=True)):
        if isinstance(person.mask_path, str):
            found = True
            centre = (person.centre_x, person.centre_y, person.centre_z)
            grid = grid_affine(centre, run.grid["zooms"], run.grid["volume_shape"])
            # From the person to the template: the flow backwards.
            condition = None if conditions is None else conditions[row : row + 1]
            velocity, _ = model.fields(z[None], condition=condition)
            yield read_volume(person.mask_path), grid, model.displacement(-velocity)
    if not found:
        raise UsageError(
            f"{run.directory}: none of the training people has a mask, expected masks to learn from. "
            "Fit again with data.mask."
        )


def cropped(volume: Volume, extent: tuple[slice, ...] | None = None, margin: int = CROP_MARGIN) -> Volume:
    """Returns the part of a volume around what is not 0, for speed: resampled, it is the same (0 outside).

    Args:
        volume: mostly 0.
        extent: where it is not, if that is known.
        margin: voxels kept around it.
    """
    if extent is None:
        extent = ndimage.find_objects((volume.array > 0).astype(np.int8))
        extent = extent[0] if extent else (slice(0, 1),) * 3
    # Room for the smoothing before a coarser grid, and for the interpolation.
    starts = [max(0, side.start - margin) for side in extent]
    stops = [side.stop + margin for side in extent]
    return Volume(volume.array[tuple(map(slice, starts, stops))], starting_at(volume.affine, starts))


def reach(volume: Volume, affine: np.ndarray, shape) -> tuple[tuple[slice, ...], np.ndarray]:
    """Returns the part of the grid of `affine` and `shape` that a volume reaches, and the affine of that part."""
    corners = np.array(list(itertools.product(*((-1, side) for side in volume.array.shape))))
    corners = apply_affine(np.linalg.inv(affine) @ volume.affine, corners)
    starts = np.clip(np.floor(corners.min(axis=0)), 0, shape).astype(int)
    stops = np.clip(np.ceil(corners.max(axis=0)) + 1, starts, shape).astype(int)
    return tuple(map(slice, starts, stops)), starting_at(affine, starts)


def starting_at(affine: np.ndarray, starts) -> np.ndarray:
    """Returns the affine of the part of a grid that begins at voxel `starts`."""
    affine = affine.copy()
    affine[:3, 3] = apply_affine(affine, starts)
    return affine


def warp_volume(volume: np.ndarray, displacement) -> np.ndarray:
    """Returns `volume` (x, y, z) warped by a displacement (1, x, y, z, 3)."""
    return warp(tf.constant(volume[None, ..., None], tf.float32), displacement)[0, ..., 0].numpy()


class Carrier:
    """Warps small parts of a grid, whose other voxels are 0, as `warp` does, at the cost of the parts.

    Args:
        displacement: (1, x, y, z, 3) voxels.
    """

    def __init__(self, displacement):
        displacement = np.asarray(displacement)[0]
        shape = np.array(displacement.shape[:3])
        self.farthest = int(np.ceil(np.abs(displacement).max())) + 1
        # Where each voxel looks; beyond the edge the nearest voxel counts.
        self.points = np.clip(np.moveaxis(np.indices(shape), 0, -1) + displacement, 0.0, shape - 1.0)

    def see(self, part: np.ndarray, starts) -> tuple[tuple[slice, ...], np.ndarray]:
        """Returns the voxels of the grid around those that look at a part (a, b, c), and what they see, float32.

        Args:
            part: what is not 0. starts: its first voxel.
        """
        starts, sides = np.asarray(starts), np.array(part.shape)
        box = tuple(map(slice, np.maximum(starts - self.farthest, 0), np.maximum(starts + sides + self.farthest, 0)))
        points = self.points[box] - starts
        looks = np.all((points > -1.0) & (points < sides), axis=-1)
        seen = np.zeros(looks.shape, np.float32)
        seen[looks] = ndimage.map_coordinates(part, points[looks].T, order=1, mode="grid-constant")
        return box, seen
