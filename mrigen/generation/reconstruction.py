"""What a model makes of images, and what it leaves, on each image's own grid and in its own units."""

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mrigen.data.preprocess import resample
from mrigen.generation.images import Decoder, Images
from mrigen.imaging.figures import plot_contact_sheet, save_figure
from mrigen.imaging.volumes import ImageLike, Nifti1Image, Volume, from_canonical, make_image, read_grid, write_image
from mrigen.runs import Run
from mrigen.runs.encoding import encode_volumes
from mrigen.runs.images import (
    PreparedImages,
    check_different,
    check_given,
    conditions_of,
    name_images,
    prepare_images,
)
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)

ENDINGS = ("reconstruction_T1w.nii.gz", "residual_map.nii.gz", "reconstruction.png")
# Images in a figure: three volumes each.
MOST_PICTURED = 7


def reconstruct(
    run: Run, images: Sequence[ImageLike], *, given: Mapping[str, str | float] | None = None
) -> "Reconstructions":
    """Returns the reconstruction of each image, and the image minus it.

    Both are float32 with the shape, the affine and the intensity units of the image. Outside the grid of the model
    nothing is reconstructed: there the reconstruction is what became 0, the image's lowest intensity.

    Args:
        run: a finished run.
        images: such as those of the run, in any orientation and resolution: files or nibabel images.
        given: covariates of everyone, for a model that is conditioned on any. The others are those that the run knows
            of its own images, and the head size measured in the image; unknown otherwise.

    Raises:
        UsageError: two images share a name, or covariates that do not condition the model.
        CohortError: an image is unfit.
    """
    return Reconstructions(run, images, given=given).prepare()


class Reconstructions(Images):
    """The reconstructions of images, each on the grid of its image; see `reconstruct`, whose arguments it takes.

    `write` makes `<name>_desc-reconstruction_T1w.nii.gz`, `<name>_desc-residual_map.nii.gz` and
    `<name>_desc-reconstruction.png` (on the model's grid) of each, in RUN/reconstructions by default.
    """

    folder = "reconstructions"

    def __init__(self, run: Run, images: Sequence[ImageLike], *, given: Mapping[str, str | float] | None = None):
        self._given = check_given(run, given)
        self._images = name_images(images)
        check_different(self._images)
        super().__init__(run, [image.stem for image in self._images])

    def prepare(self) -> "Reconstructions":
        _ = self._decoder
        return self

    @functools.cached_property
    def _prepared(self) -> PreparedImages:
        return prepare_images(self.run, self._images)

    @functools.cached_property
    def _decoder(self) -> Decoder:
        prepared = self._prepared
        loc = encode_volumes(self.model, prepared.volumes)["loc"]
        return Decoder(self.model, loc, conditions_of(self.run, prepared.people, self._given))

    def volume(self, index: int) -> np.ndarray:
        """Returns what the model makes of an image on the model's own grid, (x, y, z) float32 in [0, 1]."""
        return np.clip(self._decoder.volume(range(len(self))[index]), 0.0, 1.0)

    def original(self, index: int) -> np.ndarray:
        """Returns the image on the model's own grid, (x, y, z) float32 in [0, 1]."""
        return self._prepared.prepared[index].array.astype(np.float32) / 255.0

    def make(self, index: int) -> Nifti1Image:
        return self._make_both(index)[0]

    def residual(self, index: int) -> Nifti1Image:
        """Returns an image minus its reconstruction."""
        return self._make_both(index)[1]

    def _make_both(self, index: int) -> tuple[Nifti1Image, Nifti1Image]:
        """Returns the reconstruction of an image, and what it leaves."""
        prepared, image = self._prepared.prepared[index], self._images[index]
        volume, (_, affine, space) = image.read(), read_grid(image.image)
        own = resample(Volume(self.volume(index), self._prepared.affine(index)), volume.affine, volume.array.shape)
        own = prepared.intensities.of_levels(own)
        return (
            make_image(from_canonical(own, affine), affine, space),
            make_image(from_canonical(volume.array - own, affine), affine, space),
        )

    def error(self, index: int) -> float:
        """Returns the mean squared error on the model's grid, intensities 0 to 1."""
        return float(np.square(self.original(index) - self.volume(index)).mean())

    def to_frame(self) -> pd.DataFrame:
        """Returns, of each image, its name, the mean squared error on the model's grid (intensities 0 to 1), and the
        percentage of the head outside that grid."""
        return pd.DataFrame(
            {
                "name": self.names,
                "mse": [self.error(index) for index in range(len(self))],
                "percent_outside": [100.0 * prepared.lost for prepared in self._prepared.prepared],
            }
        )

    def plot(self) -> Figure:
        """Returns a figure of the first images: the image, what the model makes of it, and their difference."""
        return self._plot(range(min(MOST_PICTURED, len(self))))

    def _plot(self, rows: Sequence[int]) -> Figure:
        pictures, titles = [], []
        for index in rows:
            original, volume = self.original(index), self.volume(index)
            pictures += [original, volume, np.abs(original - volume)]
            titles += [f"{self.names[index]} image", "model", "difference, absolute"]
        return plot_contact_sheet(pictures, titles, self._prepared.zooms, columns=3)

    def _targets(self, directory: str | os.PathLike | None) -> list[list[Path]]:
        directory = self.target(directory)
        return [[directory / f"{name}_desc-{ending}" for ending in ENDINGS] for name in self.names]

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the files of images that `write` makes: of each image the reconstruction and the residual."""
        return [path for target in self._targets(directory) for path in target[:2]]

    def files(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [path for target in self._targets(directory) for path in target]

    def _write(self, directory: Path) -> None:
        with progress_bar("Reconstructing", len(self), "images") as advance:
            for index, target in enumerate(self._targets(directory)):
                for path, image in zip(target[:2], self._make_both(index), strict=True):
                    write_image(path, image)
                save_figure(self._plot([index]), target[2])
                logger.info(
                    "%s: MSE %.5f on the model's grid, intensities 0 to 1; %.1f %% of the head lies outside the grid",
                    self._images[index].name, self.error(index), 100.0 * self._prepared.prepared[index].lost,
                )  # fmt: skip
                advance(1)
