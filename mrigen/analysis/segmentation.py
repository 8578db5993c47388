"""Brain masks and regions of new images, by label propagation through a template that the model warps."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from mrigen.analysis.atlas import Carrier, cropped, load_atlas, load_regions, reach, starting_at, warp_volume
from mrigen.data.preparing import prepare_image
from mrigen.data.preprocess import grid_affine, resample
from mrigen.errors import CohortError, UsageError
from mrigen.generation.images import Images
from mrigen.imaging.figures import plot_contact_sheet
from mrigen.imaging.volumes import (
    ImageLike,
    Nifti1Image,
    Volume,
    make_image,
    read_grid,
    to_canonical,
    write_image,
)
from mrigen.layers import bending
from mrigen.runs import Run
from mrigen.runs.images import NamedImage, check_different, find_image_faults, name_images
from mrigen.system.progress import progress_bar

# Steps of Adam that bring the template closer to an image than the encoder's guess, and how long they are.
FIT_STEPS = 60
FIT_RATE = 0.03
# Images in a figure: two volumes each.
MOST_PICTURED = 8


def segment(run: Run, images: Sequence[ImageLike], *, regions: bool = False) -> "Segmentations":
    """Returns a brain mask for each image.

    The masks of the training people, carried into the template and averaged once (kept in the run), are carried from
    there to each image, on whose own grid the mask (uint8, 1 inside) lies.

    Args:
        run: a finished run of a model that warps a template, whose cohort has masks (`data.mask`).
        images: such as those of the run, in any orientation and resolution: files or nibabel images.
        regions: whether to find the regions of the cohort's label maps as well.

    Raises:
        UsageError: the run is of another kind or without masks (or regions), or two images share a name.
        CohortError: an image is unfit.
    """
    return Segmentations(run, images, regions=regions).prepare()


class Segmentations(Images):
    """Brain masks, each on the grid of its image; see `segment`, whose arguments it takes. They are found when they are
    asked for; the newest is kept.

    `write` makes `<name>_desc-brain_mask.nii.gz` and, with regions, `<name>_dseg.nii.gz` of each, in RUN/segmentations
    by default.
    """

    folder = "segmentations"

    def __init__(self, run: Run, images: Sequence[ImageLike], *, regions: bool = False):
        self._images = name_images(images)
        check_different(self._images)
        _check_template(run)
        super().__init__(run, [image.stem for image in self._images])
        self.with_regions = regions
        self._segmenter: Segmenter | None = None
        self._newest: tuple[int, Segmentation] | None = None

    def prepare(self) -> "Segmentations":
        if self._segmenter is None:
            faults = find_image_faults(self.run, self._images)
            if faults:
                raise CohortError(faults)
            self._segmenter = Segmenter(self.run, regions=self.with_regions)
        return self

    def segmentation(self, index: int) -> "Segmentation":
        """Returns what was found in an image, as arrays."""
        index = range(len(self))[index]
        if self._newest is None or self._newest[0] != index:
            self.prepare()
            self._newest = index, self._segmenter(self._images[index])
        return self._newest[1]

    def make(self, index: int) -> Nifti1Image:
        return self._image(index, self._mask(index))

    def _mask(self, index: int) -> np.ndarray:
        return (self.segmentation(index).brain > 0.5).astype(np.uint8)

    def regions(self, index: int) -> Nifti1Image:
        """Returns the regions of an image (int32, the labels of the cohort's masks, 0 outside): at each voxel of the
        mask the likeliest label.

        Raises:
            UsageError: regions were not asked for.
        """
        if not self.with_regions:
            raise UsageError("got masks alone, expected regions. Ask for them with `regions=True`.")
        return self._image(index, self.segmentation(index).regions)

    def _image(self, index: int, array: np.ndarray) -> Nifti1Image:
        """Returns an array as an image that lies where that of `index` does, and claims no more."""
        _, affine, space = read_grid(self._images[index].image)
        return make_image(array, affine, space)

    def plot(self) -> Figure:
        """Returns a figure of the first images and what lies inside of their masks."""
        pictures, titles, zooms = [], [], None
        for index in range(min(MOST_PICTURED, len(self))):
            volume = self._images[index].read()
            inside = to_canonical(Volume(self._mask(index), read_grid(self._images[index].image).affine)).array
            low, high = np.percentile(volume.array, (0.5, 99.5))
            shown = np.clip((volume.array - low) / max(high - low, np.finfo(np.float32).tiny), 0.0, 1.0)
            pictures += [shown, shown * inside]
            titles += [self.names[index], "brain"]
            zooms = zooms or volume.zooms
        return plot_contact_sheet(pictures, titles, zooms, columns=4)

    def _names_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"name": self.names, "image": [image.name for image in self._images]})

    def _targets(self, directory: str | os.PathLike | None) -> list[list[Path]]:
        directory = self.target(directory)
        endings = ["desc-brain_mask", "dseg"] if self.with_regions else ["desc-brain_mask"]
        return [[directory / f"{name}_{ending}.nii.gz" for ending in endings] for name in self.names]

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the files that `write` makes: of each image the mask and, with regions, the regions."""
        return [path for target in self._targets(directory) for path in target]

    def _write(self, directory: Path) -> None:
        with progress_bar("Segmenting", len(self)) as advance:
            for index, target in enumerate(self._targets(directory)):
                write_image(target[0], self.make(index))
                if self.with_regions:
                    write_image(target[1], self.regions(index))
                advance(1)


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What was found in one image, on its own grid.

    Attributes:
        brain: (x, y, z) float32, how likely each voxel is brain.
        regions: (x, y, z) int32, the likeliest label of each voxel of the brain, 0 outside; or None.
    """

    brain: np.ndarray
    regions: np.ndarray | None


def _check_template(run: Run) -> None:
    if not run.recipe.model.warps_template:
        raise UsageError(
            f"{run.directory}: got a run of kind {run.recipe.model.kind}, expected kind morph: only that has a "
            "template to carry labels by. Fit the recipe morph, or name another run with `run`."
        )


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
        _check_template(run)
        self.run = run
        self.model = run.load_model()
        self.fit = TemplateFit(self.model, fit_steps)
        self.atlas = load_atlas(run, self.model)
        self.labels, self.parts = None, []
        if regions:
            self.labels, probability = load_regions(run, self.model)
            voxels = np.eye(4)
            self.parts = [cropped(Volume(part, voxels), margin=1) for part in np.moveaxis(probability, -1, 0)]

    def __call__(self, image: ImageLike | NamedImage) -> Segmentation:
        """Returns what is found in an image."""
        image = image.image if isinstance(image, NamedImage) else image
        settings = self.run.recipe.preprocess
        made = prepare_image(image, None, settings, apply_mask=False)
        if made.prepared is None:
            raise CohortError(list(made.faults))
        prepared = made.prepared
        displacement = self.model.displacement(self.fit(prepared.array[None, ..., None].astype(np.float32) / 255.0))
        shape, affine, _ = read_grid(image)
        grid = grid_affine(prepared.centre, settings.zooms, settings.volume_shape)

        brain = resample(Volume(warp_volume(self.atlas, displacement), grid), affine, shape)
        if self.labels is None:
            return Segmentation(brain, None)
        regions, best = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        carrier = Carrier(displacement)
        for label, part in zip(self.labels, self.parts, strict=True):
            box, seen = carrier.see(part.array, part.affine[:3, 3].astype(int))
            part = cropped(Volume(seen, starting_at(grid, [side.start for side in box])))
            reached, reached_affine = reach(part, affine, shape)
            probability = resample(part, reached_affine, best[reached].shape)
            likelier = probability > best[reached]
            regions[reached][likelier], best[reached][likelier] = label, probability[likelier]
        return Segmentation(brain, np.where(brain > 0.5, regions, 0))


class TemplateFit:
    """Finds the velocity that brings a morphing model's template to a head.

    It starts at the encoder's guess; then Adam climbs the joint density of the head, its latents and a free velocity
    on top, both under the model's own priors.

    Args:
        model: trained. steps: of Adam.
    """

    def __init__(self, model, steps: int = FIT_STEPS):
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
