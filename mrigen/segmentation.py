"""Brain masks of new heads, by label propagation through a morphing model's template."""

import os
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mrigen.data.checking import find_faults
from mrigen.data.preprocess import grid_affine, prepare_volume, resample
from mrigen.errors import CohortError, UsageError
from mrigen.files import refuse_taken
from mrigen.layers import bending, warp
from mrigen.models import MorphingAutoencoder
from mrigen.progress import progress_bar
from mrigen.runs import Run
from mrigen.volumes import SUFFIXES, Volume, read_grid, read_volume, write_volume

# Where the average of the training people's masks is kept in the run: a probability for each voxel of the template.
ATLAS = "atlas_brain.nii.gz"
# Steps of Adam that bring the template closer to a head than the encoder's guess, and how long they are.
FIT_STEPS = 60
FIT_RATE = 0.03


def segment(
    run: Run, images: Iterable[str | os.PathLike], directory: str | os.PathLike | None = None, force: bool = False
) -> list[Path]:
    """Writes a brain mask for each image, and returns the masks' paths.

    The masks of the training people, carried into the template and averaged once (kept in the run), are carried from
    there to each image, on whose own grid the mask (uint8, 1 inside) is written.

    Args:
        run: a finished run of a morphing model, whose cohort has masks (`data.mask`).
        images: NIfTI files of heads such as those of the run, in any orientation and resolution.
        directory: where to write `<name>_desc-brain_mask.nii.gz`; RUN/segmentations by default.
        force: whether files of that name are replaced.

    Raises:
        UsageError: the run is of another kind or without masks, two images share a name, or a mask is there already.
        CohortError: an image is unfit; nothing is written then.
    """
    directory = Path(directory) if directory is not None else run.directory / "segmentations"
    images = [Path(image) for image in images]
    targets = [directory / f"{_stem(image)}_desc-brain_mask.nii.gz" for image in images]
    for number, target in enumerate(targets):
        if target in targets[:number]:
            raise UsageError(f"{images[number]}: another image has the same name, expected different ones. Rename it.")
    refuse_taken(targets, force)
    segmenter = Segmenter(run)
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
            probability = segmenter.probability(image)
            write_volume(target, (probability > 0.5).astype(np.uint8), read_grid(image)[1])
            advance(1)
    return targets


class Segmenter:
    """Carries the atlas of a run to new heads.

    Args:
        run: see `segment`.
        fit_steps: see `FIT_STEPS`; 0 takes the encoder's guess as it is.

    Raises:
        UsageError: the run is of another kind, or its training people have no masks.
    """

    def __init__(self, run: Run, fit_steps: int = FIT_STEPS):
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
        self.atlas = tf.constant(read_volume(path).array[..., None])

    def probability(self, image: str | os.PathLike) -> np.ndarray:
        """Returns how likely each voxel of a file is brain, float32 on the file's own grid (x, y, z)."""
        settings = self.run.recipe.preprocess
        prepared = prepare_volume(read_volume(image), None, settings, apply_mask=False)
        velocity = self.fit(prepared.array[None, ..., None].astype(np.float32) / 255.0)
        carried = warp(self.atlas, self.model.displacement(velocity))[0, ..., 0].numpy()
        shape, affine = read_grid(image)
        grid = grid_affine(prepared.centre, settings.zooms, settings.volume_shape)
        return resample(Volume(carried, grid), affine, shape)


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
            reconstruction = self.model.render(velocity, shading)["reconstruction"]
            nats = self.model.likelihood(volume, reconstruction)["nll"] + 0.5 * (
                tf.reduce_sum(tf.square(self.z.value)) + self.model.velocity_smoothness * bending(velocity)
            )
        variables = [self.z, self.extra]
        gradients = tape.gradient(nats, [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)


def make_atlas(run: Run, model: MorphingAutoencoder) -> np.ndarray:
    """Returns how many of the training people have brain at each voxel of the template, (x, y, z) float32, 0 to 1.

    Raises:
        UsageError: no training person has a mask. CohortError: a mask is gone or damaged.
    """
    latents = run.load_latents("train")
    people = run.subjects.set_index("scan_id").loc[latents["scan_id"]]
    total, count = 0.0, 0
    for z, person in zip(latents["loc"], people.itertuples(), strict=True):
        if not isinstance(person.mask_path, str):
            continue
        mask = read_volume(person.mask_path)
        centre = (person.centre_x, person.centre_y, person.centre_z)
        grid = grid_affine(centre, run.grid["zooms"], run.grid["volume_shape"])
        inside = resample(Volume((mask.array > 0).astype(np.float32), mask.affine), grid, run.grid["volume_shape"])
        # From the head to the template: the flow backwards.
        back = model.displacement(-model.fields(z[None])[0])
        total = total + warp(inside[None, ..., None], back)[0, ..., 0].numpy()
        count += 1
    if not count:
        raise UsageError(
            f"{run.directory}: none of the training people has a mask, expected masks to learn from. "
            "Fit again with data.mask."
        )
    return (total / count).astype(np.float32)


def _stem(image: Path) -> str:
    """Returns the name of an image without its suffixes and, in BIDS, without T1w."""
    name = next((image.name.removesuffix(suffix) for suffix in SUFFIXES if image.name.endswith(suffix)), image.name)
    return name.removesuffix("_T1w")
