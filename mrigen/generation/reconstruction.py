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
from mrigen.errors import UsageError
from mrigen.generation.detailing import DetailArtist, choose_detail
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
DETAILED = "detailed_T1w.nii.gz"
# Images in a figure: three volumes each.
MOST_PICTURED = 7


def reconstruct(
    run: Run,
    images: Sequence[ImageLike],
    *,
    given: Mapping[str, str | float] | None = None,
    detail: bool = False,
    seed: int = 0,
) -> "Reconstructions":
    """Returns the reconstruction of each image, and the image minus it.

    Both are float32 with the shape, the affine and the intensity units of the image. Outside the grid of the model
    nothing is reconstructed: there the reconstruction is what became 0, the image's lowest intensity.

    Args:
        run: a finished run.
        images: such as those of the run, in any orientation and resolution: files or nibabel images.
        given: covariates of everyone, for a model that is conditioned on any. The others are those that the run knows
            of its own images, and the head size measured in the image; unknown otherwise.
        detail: whether fine structure is drawn as well, into an image of its own: plausible, and not the person's. The
            reconstruction and what it leaves stay those of the mean.
        seed: of the drawn detail.

    Raises:
        UsageError: two images share a name, covariates that do not condition the model, or a run without detail.
        CohortError: an image is unfit.
    """
    return Reconstructions(run, images, given=given, detail=detail, seed=seed).prepare()


class Reconstructions(Images):
    """The reconstructions of images, each on the grid of its image; see `reconstruct`, whose arguments it takes.

    `write` makes `<name>_desc-reconstruction_T1w.nii.gz`, `<name>_desc-residual_map.nii.gz` and
    `<name>_desc-reconstruction.png` (on the model's grid) of each, in RUN/reconstructions by default; with detail also
    `<name>_desc-detailed_T1w.nii.gz`.
    """

    folder = "reconstructions"

    def __init__(
        self,
        run: Run,
        images: Sequence[ImageLike],
        *,
        given: Mapping[str, str | float] | None = None,
        detail: bool = False,
        seed: int = 0,
    ):
        self._detail, self._seed = choose_detail(run, detail), seed
        self._given = check_given(run, given)
        self._images = name_images(images)
        check_different(self._images)
        super().__init__(run, [image.stem for image in self._images])

    def prepare(self) -> "Reconstructions":
        _ = self._decoder
        _ = self._artist
        return self

    @functools.cached_property
    def _artist(self) -> DetailArtist | None:
        return DetailArtist(self.run) if self._detail else None

    @functools.cached_property
    def _prepared(self) -> PreparedImages:
        return prepare_images(self.run, self._images)

    @functools.cached_property
    def _decoder(self) -> Decoder:
        prepared = self._prepared
        loc = encode_volumes(self.model, prepared.volumes)["loc"]
        moves = self._detail and self.run.recipe.model.warps_template
        parts = ("reconstruction", "displacement") if moves else ("reconstruction",)
        return Decoder(self.model, loc, conditions_of(self.run, prepared.people, self._given), parts)

    def volume(self, index: int) -> np.ndarray:
        """Returns what the model makes of an image on the model's own grid, (x, y, z) float32 in [0, 1]."""
        return np.clip(self._decoder.volume(range(len(self))[index]), 0.0, 1.0)

    def detailed_volume(self, index: int, draw: int = 0) -> np.ndarray:
        """Returns a reconstruction with detail that is drawn, on the model's own grid, (x, y, z) float32 in [0, 1].

        Args:
            index: of the image. draw: which of as many as are wanted, from 0 on.

        Raises:
            UsageError: detail was not asked for.
        """
        if self._artist is None:
            raise UsageError("got reconstructions without detail, expected some with. Make them with `detail=True`.")
        index = range(len(self))[index]
        moves = self.run.recipe.model.warps_template
        displacement = self._decoder.part(index, "displacement") if moves else None
        return self._artist.draw(self.volume(index), displacement, [self._seed, index, draw])

    def detailed(self, index: int, draw: int = 0) -> Nifti1Image:
        """Returns a reconstruction with detail that is drawn, in the space and the units of its image."""
        image = self._images[index]
        volume, (_, affine, space) = image.read(), read_grid(image.image)
        own = self._in_its_units(index, self.detailed_volume(index, draw), volume)
        return make_image(from_canonical(own, affine), affine, space)

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
        image = self._images[index]
        volume, (_, affine, space) = image.read(), read_grid(image.image)
        own = self._in_its_units(index, self.volume(index), volume)
        return (
            make_image(from_canonical(own, affine), affine, space),
            make_image(from_canonical(volume.array - own, affine), affine, space),
        )

    def _in_its_units(self, index: int, levels: np.ndarray, volume: Volume) -> np.ndarray:
        """Returns levels on the model's grid as the voxels of an image."""
        own = resample(Volume(levels, self._prepared.affine(index)), volume.affine, volume.array.shape)
        return self._prepared.prepared[index].intensities.of_levels(own)

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
        endings = (*ENDINGS, DETAILED) if self._detail else ENDINGS
        return [[directory / f"{name}_desc-{ending}" for ending in endings] for name in self.names]

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the files of images that `write` makes: of each image the reconstruction, the residual and, where
        detail is drawn, the reconstruction with it."""
        return [path for target in self._targets(directory) for path in (*target[:2], *target[3:])]

    def files(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [path for target in self._targets(directory) for path in target]

    def _write(self, directory: Path) -> None:
        with progress_bar("Reconstructing", len(self), "images") as advance:
            for index, target in enumerate(self._targets(directory)):
                for path, image in zip(target[:2], self._make_both(index), strict=True):
                    write_image(path, image)
                if self._detail:
                    write_image(target[3], self.detailed(index))
                save_figure(self._plot([index]), target[2])
                logger.info(
                    "%s: MSE %.5f on the model's grid, intensities 0 to 1; %.1f %% of the head lies outside the grid",
                    self._images[index].name, self.error(index), 100.0 * self._prepared.prepared[index].lost,
                )  # fmt: skip
                advance(1)
