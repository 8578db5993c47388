"""Brain masks and regions of new heads, by label propagation through a morphing model's template."""

import dataclasses
import itertools
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage

from mrigen.data.checking import find_faults
from mrigen.data.preprocess import grid_affine, prepare_volume, resample
from mrigen.errors import CohortError, RunError, UsageError
from mrigen.imaging.volumes import Volume, apply_affine, read_grid, read_volume, write_volume
from mrigen.layers import bending, warp
from mrigen.models import MorphingAutoencoder
from mrigen.runs import Run
from mrigen.runs.images import check_different, stem_of
from mrigen.system.files import atomic_path, refuse_taken
from mrigen.system.progress import progress_bar

# Where the average of the training people's masks is kept in the run: a probability for each voxel of the template.
ATLAS = "atlas_brain.nii.gz"
# Likewise of each region: labels (k,), and probability (x, y, z, k), 255 for certain.
REGIONS = "atlas_regions.npz"
# Voxels kept around a region that is cut out.
CROP_MARGIN = 8
# Steps of Adam that bring the template closer to a head than the encoder's guess, and how long they are.
FIT_STEPS = 60
FIT_RATE = 0.03


def segment(
    run: Run,
    images: Iterable[str | os.PathLike],
    directory: str | os.PathLike | None = None,
    force: bool = False,
    regions: bool = False,
) -> list[Path]:
    """Writes a brain mask for each image, and returns the paths of what was written.

    The masks of the training people, carried into the template and averaged once (kept in the run), are carried from
    there to each image, on whose own grid the mask (uint8, 1 inside) is written.

    Args:
        run: a finished run of a morphing model, whose cohort has masks (`data.mask`).
        images: NIfTI files of heads such as those of the run, in any orientation and resolution.
        directory: where to write `<name>_desc-brain_mask.nii.gz`; RUN/segmentations by default.
        force: whether files of that name are replaced.
        regions: whether to write `<name>_dseg.nii.gz` as well (int32, the labels of the cohort's masks, 0 outside):
            at each voxel of the mask the likeliest label.

    Raises:
        UsageError: the run is of another kind or without masks (or regions), two images share a name, or a file is
            there already.
        CohortError: an image is unfit; nothing is written then.
    """
    directory = Path(directory) if directory is not None else run.directory / "segmentations"
    images = [Path(image) for image in images]
    endings = ["desc-brain_mask", "dseg"] if regions else ["desc-brain_mask"]
    targets = [[directory / f"{stem_of(image)}_{ending}.nii.gz" for ending in endings] for image in images]
    check_different(images)
    refuse_taken((path for target in targets for path in target), force)
    segmenter = Segmenter(run, regions=regions)
    faults = []
    for image in images:
        try:
            faults += find_faults(image, read_volume(image))
        except CohortError as error:
            faults += error.faults
    if faults:
        raise CohortError(faults)
    with progress_bar("Segmenting", len(images)) as advance:
        for image, target in zip(images, targets, strict=True):
            found = segmenter(image)
            write_volume(target[0], (found.brain > 0.5).astype(np.uint8), read_grid(image)[1])
            if found.regions is not None:
                write_volume(target[1], found.regions, read_grid(image)[1])
            advance(1)
    return [path for target in targets for path in target]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What was found in one image, on its own grid.

    Attributes:
        brain: (x, y, z) float32, how likely each voxel is brain.
        regions: (x, y, z) int32, the likeliest label of each voxel of the brain, 0 outside; or None.
    """

    brain: np.ndarray
    regions: np.ndarray | None


class Segmenter:
    """Carries the atlas of a run to new heads.

    Args:
        run: see `segment`.
        fit_steps: see `FIT_STEPS`; 0 takes the encoder's guess as it is.
        regions: whether to find regions as well.

    Raises:
        UsageError: the run is of another kind, or its training people have no masks (or no regions).
    """

    def __init__(self, run: Run, fit_steps: int = FIT_STEPS, regions: bool = False):
        if run.recipe.model.kind != "morph":
            raise UsageError(
                f"{run.directory}: got a run of kind {run.recipe.model.kind}, expected kind morph: only that has a "
                "template to carry labels by. Fit the recipe morph, or name another run with --run."
            )
        self.run = run
        self.model = run.load_model()
        self.fit = TemplateFit(self.model, fit_steps)
        path = run.directory / ATLAS
        if not path.is_file():
            write_volume(path, make_atlas(run, self.model), run.affine)
        self.atlas = read_volume(path).array
        self.labels, self.parts = None, []
        if regions:
            self.labels, probability = _load_regions(run, self.model)
            voxels = np.eye(4)
            self.parts = [_cropped(Volume(part, voxels), margin=1) for part in np.moveaxis(probability, -1, 0)]

    def __call__(self, image: str | os.PathLike) -> Segmentation:
        """Returns what is found in a file of a head."""
        settings = self.run.recipe.preprocess
        prepared = prepare_volume(read_volume(image), None, settings, apply_mask=False)
        displacement = self.model.displacement(self.fit(prepared.array[None, ..., None].astype(np.float32) / 255.0))
        shape, affine = read_grid(image)
        grid = grid_affine(prepared.centre, settings.zooms, settings.volume_shape)

        brain = resample(Volume(_warp(self.atlas, displacement), grid), affine, shape)
        if self.labels is None:
            return Segmentation(brain, None)
        regions, best = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        carrier = _Carrier(displacement)
        for label, part in zip(self.labels, self.parts, strict=True):
            box, seen = carrier.see(part.array, part.affine[:3, 3].astype(int))
            part = _cropped(Volume(seen, _starting_at(grid, [side.start for side in box])))
            place, place_affine = _reach(part, affine, shape)
            probability = resample(part, place_affine, best[place].shape)
            likelier = probability > best[place]
            regions[place][likelier], best[place][likelier] = label, probability[likelier]
        return Segmentation(brain, np.where(brain > 0.5, regions, 0))


class TemplateFit:
    """Finds the velocity that brings a morphing model's template to a head.

    It starts at the encoder's guess; then Adam climbs the joint density of the head, its latents and a free velocity
    on top, both under the model's own priors.

    Args:
        model: trained. steps: of Adam.
    """

    def __init__(self, model: MorphingAutoencoder, steps: int = FIT_STEPS):
        self.model = model
        self.steps = steps
        self.z = keras.Variable(np.zeros((1, model.latent_size), np.float32), dtype="float32")
        self.extra = keras.Variable(np.zeros((1, *model.field_sides, 3), np.float32), dtype="float32")
        rate = keras.optimizers.schedules.CosineDecay(FIT_RATE, max(1, steps))
        self.optimizer = keras.optimizers.Adam(rate)
        self.optimizer.build([self.z, self.extra])
        self.climb = tf.function(self._climb, autograph=False)

    def __call__(self, volume) -> tf.Tensor:
        """Returns the velocity (1, *field_sides, 3) of `volume` (1, x, y, z, 1), intensities in [0, 1]."""
        volume = tf.constant(volume)
        for variable in (*self.optimizer.variables, self.extra):
            variable.assign(tf.zeros_like(variable.value))
        self.z.assign(self.model.encode(volume))
        for _ in range(self.steps):
            self.climb(volume)
        return self._fields()[0]

    def _fields(self):
        velocity, shading = self.model.fields(self.z.value)
        return velocity + self.extra.value, shading

    def _climb(self, volume):
        with tf.GradientTape() as tape:
            velocity, shading = self._fields()
            reconstruction = self.model.render(velocity, shading, self.model.amounts(self.z.value))["reconstruction"]
            smoothness = 0.5 * self.model.smoothness_weight * bending(velocity)
            nll = self.model.likelihood(volume, reconstruction)["nll"]
            nats = nll - self.model.prior(self.z.value) + smoothness
        variables = [self.z, self.extra]
        gradients = tape.gradient(nats, [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)


def make_atlas(run: Run, model: MorphingAutoencoder) -> np.ndarray:
    """Returns how many of the training people have brain at each voxel of the template, (x, y, z) float32, 0 to 1.

    Raises:
        UsageError: no training person has a mask. CohortError: a mask is gone or damaged.
    """
    total, count = 0.0, 0
    for mask, grid, back in _training_masks(run, model):
        inside = resample(Volume((mask.array > 0).astype(np.float32), mask.affine), grid, run.grid["volume_shape"])
        total = total + _warp(inside, back)
        count += 1
    return (total / count).astype(np.float32)


def make_regions(run: Run, model: MorphingAutoencoder) -> tuple[np.ndarray, np.ndarray]:
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
            carrier = _Carrier(back)
            for label, place in enumerate(ndimage.find_objects(labels.array), start=1):
                if place is None:
                    continue
                part = _cropped(labels, place)
                inside = Volume((part.array == label).astype(np.float32), part.affine)
                box, affine = _reach(inside, grid, run.grid["volume_shape"])
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
            "Leave --regions away, or fit again with data.mask naming label maps."
        )
    labels = sorted(totals)
    return np.array(labels, np.int32), np.stack([totals[label] for label in labels], axis=-1) / np.float32(count)


def _load_regions(run: Run, model: MorphingAutoencoder) -> tuple[np.ndarray, np.ndarray]:
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


def _training_masks(run: Run, model: MorphingAutoencoder) -> Iterator[tuple[Volume, np.ndarray, tf.Tensor]]:
    """Yields the mask of each training person that has one, the affine of the person's grid, and the displacement
    (1, x, y, z, 3) that carries the grid into the template."""
    latents = run.load_latents("train")
    people = run.subjects.set_index("scan_id").loc[latents["scan_id"]]
    told = run.conditions(latents["scan_id"])
    found = False
    for row, (z, person) in enumerate(zip(latents["loc"], people.itertuples(), strict=True)):
        if isinstance(person.mask_path, str):
            found = True
            centre = (person.centre_x, person.centre_y, person.centre_z)
            grid = grid_affine(centre, run.grid["zooms"], run.grid["volume_shape"])
            # From the head to the template: the flow backwards.
            condition = None if told is None else told[row : row + 1]
            velocity, _ = model.fields(z[None], condition=condition)
            yield read_volume(person.mask_path), grid, model.displacement(-velocity)
    if not found:
        raise UsageError(
            f"{run.directory}: none of the training people has a mask, expected masks to learn from. "
            "Fit again with data.mask."
        )


def _cropped(volume: Volume, place: tuple[slice, ...] | None = None, margin: int = CROP_MARGIN) -> Volume:
    """Returns the part of a volume around what is not 0, for speed: resampled, it is the same (0 outside).

    Args:
        volume: mostly 0.
        place: where it is not, if that is known.
        margin: voxels kept around it.
    """
    if place is None:
        place = ndimage.find_objects((volume.array > 0).astype(np.int8))
        place = place[0] if place else (slice(0, 1),) * 3
    # Room for the smoothing before a coarser grid, and for the interpolation.
    starts = [max(0, side.start - margin) for side in place]
    stops = [side.stop + margin for side in place]
    return Volume(volume.array[tuple(map(slice, starts, stops))], _starting_at(volume.affine, starts))


def _reach(volume: Volume, affine: np.ndarray, shape) -> tuple[tuple[slice, ...], np.ndarray]:
    """Returns the part of the grid of `affine` and `shape` that a volume reaches, and the affine of that part."""
    corners = np.array(list(itertools.product(*((-1, side) for side in volume.array.shape))))
    corners = apply_affine(np.linalg.inv(affine) @ volume.affine, corners)
    starts = np.clip(np.floor(corners.min(axis=0)), 0, shape).astype(int)
    stops = np.clip(np.ceil(corners.max(axis=0)) + 1, starts, shape).astype(int)
    return tuple(map(slice, starts, stops)), _starting_at(affine, starts)


def _starting_at(affine: np.ndarray, starts) -> np.ndarray:
    """Returns the affine of the part of a grid that begins at voxel `starts`."""
    affine = affine.copy()
    affine[:3, 3] = apply_affine(affine, starts)
    return affine


def _warp(volume: np.ndarray, displacement) -> np.ndarray:
    """Returns `volume` (x, y, z) warped by a displacement (1, x, y, z, 3)."""
    return warp(tf.constant(volume[None, ..., None], tf.float32), displacement)[0, ..., 0].numpy()


class _Carrier:
    """Warps small parts of a grid, whose other voxels are 0, as `warp` does, at the cost of the parts.

    Args:
        displacement: (1, x, y, z, 3) voxels.
    """

    def __init__(self, displacement):
        displacement = np.asarray(displacement)[0]
        shape = np.array(displacement.shape[:3])
        self.farthest = int(np.ceil(np.abs(displacement).max())) + 1
        # Where each voxel looks; beyond the edge the nearest voxel counts.
        self.places = np.clip(np.moveaxis(np.indices(shape), 0, -1) + displacement, 0.0, shape - 1.0)

    def see(self, part: np.ndarray, starts) -> tuple[tuple[slice, ...], np.ndarray]:
        """Returns the voxels of the grid around those that look at a part (a, b, c), and what they see, float32.

        Args:
            part: what is not 0. starts: its first voxel.
        """
        starts, sides = np.asarray(starts), np.array(part.shape)
        box = tuple(map(slice, np.maximum(starts - self.farthest, 0), np.maximum(starts + sides + self.farthest, 0)))
        places = self.places[box] - starts
        looks = np.all((places > -1.0) & (places < sides), axis=-1)
        seen = np.zeros(looks.shape, np.float32)
        seen[looks] = ndimage.map_coordinates(part, places[looks].T, order=1, mode="grid-constant")
        return box, seen
