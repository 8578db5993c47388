"""Images that a run makes: made when they are asked for, and able to write themselves."""

import abc
import concurrent.futures
import functools
import html
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mrigen.errors import RunError
from mrigen.imaging.figures import plot_contact_sheet, save_figure
from mrigen.imaging.volumes import Nifti1Image, make_image, make_unplaced, write_image
from mrigen.runs import Run
from mrigen.runs.encoding import BATCH_SIZE, decode_batches
from mrigen.runs.faces import warn_of_faces
from mrigen.system.progress import progress_bar
from mrigen.system.targets import refuse_taken, writing

# Volumes on a contact sheet.
MOST_PLOTTED = 20
# Rows of the table that a notebook shows.
MOST_ROWS = 10


class Images(Sequence, abc.ABC):
    """Images that a run makes, one after another when they are asked for; few of them are in memory at once.

    `images[0]` is a nibabel image (float32, mm), `images[:3]` a list of them, and iteration goes through all.

    Attributes:
        run: that they are of.
        names: one an image.
        folder: of the run, where they are written unless another directory is named.
        directory: where they were written last; None before.
    """

    folder = "images"
    # Whether they show single heads, or at least may; means of many show nobody.
    shows_heads = True

    def __init__(self, run: Run, names: Sequence[str]):
        self.run = run
        self.names = [str(name) for name in names]
        self.directory: Path | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.make(row) for row in range(len(self))[index]]
        return self.make(range(len(self))[index])

    def __repr__(self) -> str:
        sides = " x ".join(map(str, self.run.grid["volume_shape"]))
        return f"{type(self).__name__}({len(self)} of {self.run.directory}, {sides} voxels)"

    def _repr_html_(self) -> str:
        table = self._names_frame()
        more = f"<p>... and {len(table) - MOST_ROWS} more</p>" if len(table) > MOST_ROWS else ""
        return f"<p>{html.escape(repr(self))}</p>{table.head(MOST_ROWS).to_html(index=False)}{more}"

    def prepare(self) -> "Images":
        """Does now what is else done when the first image is asked for, and returns itself.

        Raises:
            MrigenError: whatever speaks against the images.
        """
        return self

    @functools.cached_property
    def model(self):
        """The model of the run."""
        return self.run.load_model()

    @abc.abstractmethod
    def make(self, index: int) -> Nifti1Image:
        """Returns the image of a number from 0 on."""

    @abc.abstractmethod
    def plot(self) -> Figure:
        """Returns a figure of the images' middle slices."""

    def to_frame(self) -> pd.DataFrame:
        """Returns what is known of the images, one row each."""
        return self._names_frame()

    def _names_frame(self) -> pd.DataFrame:
        """Returns the part of `to_frame` that costs nothing."""
        return pd.DataFrame({"name": self.names})

    @abc.abstractmethod
    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the files of images that `write` makes, in their order."""

    def files(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns all files that `write` makes and that must not be there."""
        return self.paths(directory)

    def check_target(self, directory: str | os.PathLike | None = None, force: bool = False) -> None:
        """Refuses what `write` would refuse, before anything is made.

        Raises:
            UsageError: a file is there already.
        """
        refuse_taken(self.files(directory), force)

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes the images as NIfTI, with a picture beside them, and returns their paths.

        Args:
            directory: where to write; a folder of the run by default.
            force: whether files of that name are replaced.

        Raises:
            UsageError: a file is there already.
        """
        self.check_target(directory, force)
        self.prepare()
        if self.shows_heads:
            warn_of_faces(self.run)
        self.directory = self.target(directory)
        with writing(self.files(directory)):
            self._write(self.directory)
        return self.paths(directory)

    def target(self, directory: str | os.PathLike | None = None) -> Path:
        """Returns the directory that is written to."""
        return self.run.directory / self.folder if directory is None else Path(directory)

    @abc.abstractmethod
    def _write(self, directory: Path) -> None:
        """Makes the files."""


class Decoder:
    """The volumes that latents stand for; of those that were decoded, the newest batch is kept.

    Batches have a constant size, and everyone has the same place in one at every time: a volume is the same to the last
    bit whichever are asked for, and in whatever order.

    Args:
        model: of a run.
        latents: (n, latent). conditions: (n, condition), or None.
        parts: what is kept of what the decoder makes; see `decode_parts`.
    """

    def __init__(self, model, latents, conditions=None, parts: Sequence[str] = ("reconstruction",)):
        self.model, self.latents, self.conditions, self.parts = model, latents, conditions, parts
        self._start, self._batch = -1, {}

    def part(self, index: int, name: str) -> np.ndarray:
        """Returns something that the decoder makes of a latent vector; see `decode_parts`."""
        start = index - index % BATCH_SIZE
        if start != self._start:
            self._batch = {}
            rows = slice(start, start + BATCH_SIZE)
            conditions = None if self.conditions is None else self.conditions[rows]
            batch = next(decode_batches(self.model, self.latents[rows], conditions))
            self._start, self._batch = start, {part: batch[part] for part in self.parts}
        return self._batch[name][index - start]

    def volume(self, index: int) -> np.ndarray:
        """Returns a volume (x, y, z) float32."""
        return self.part(index, "reconstruction")[..., 0]


class DecodedImages(Images):
    """Images that the decoder of a run makes of latents, on its own grid.

    Args:
        run: a finished run.
        names: one an image.
        native_units: whether intensities are in the median units of the training cohort; else they lie in [0, 1].
    """

    # Of the picture beside the images.
    columns = 5
    description = "Decoding"
    unit = "images"

    def __init__(self, run: Run, names: Sequence[str], native_units: bool = False):
        super().__init__(run, names)
        self.native_units = native_units

    @abc.abstractmethod
    def codes(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the latents (n, latent) and the covariates beside them, (n, condition) or None."""

    @functools.cached_property
    def decoder(self) -> Decoder:
        """What decodes the latents."""
        return Decoder(self.model, *self.codes())

    def volume(self, index: int) -> np.ndarray:
        """Returns a volume (x, y, z) float32, intensities in [0, 1]."""
        volume = self.decoder.volume(range(len(self))[index])
        if not np.isfinite(volume).all():
            raise RunError(
                f"{self.names[index]}: the decoder of {self.run.directory} makes values that are no numbers, expected "
                "finite ones. Its weights or the latents are damaged: restore them, or fit again."
            )
        return np.clip(volume, 0.0, 1.0)

    def affine(self, index: int) -> np.ndarray:
        """Returns the (4, 4) affine of an image, mm."""
        return self.run.affine

    def is_oriented(self, index: int) -> bool:
        """Whether it is known which way the axes of an image run: not where the headers of most images that it was
        learned from are silent. Its own header is then silent, too."""
        return self._run_is_oriented

    @functools.cached_property
    def _run_is_oriented(self) -> bool:
        return self.run.is_oriented()

    def make(self, index: int) -> Nifti1Image:
        return self._image(index, self.volume(index))

    def _image(self, index: int, volume: np.ndarray) -> Nifti1Image:
        return self._placed(index, self.run.intensities.of_levels(volume) if self.native_units else volume)

    def _placed(self, index: int, volume: np.ndarray) -> Nifti1Image:
        """Returns a volume as an image whose header claims no more than is known of its place."""
        affine = self.affine(index)
        return make_image(volume, affine) if self.is_oriented(index) else make_unplaced(volume, affine)

    @property
    def titles(self) -> list[str]:
        """What stands above the images in a figure."""
        return self.names

    def plot(self) -> Figure:
        return self._plot([self.volume(index) for index in range(min(MOST_PLOTTED, len(self)))])

    def _plot(self, volumes: list[np.ndarray]) -> Figure:
        return plot_contact_sheet(volumes, self.titles[: len(volumes)], self.run.grid["zooms"], self.columns)

    def picture_path(self, directory: str | os.PathLike | None = None) -> Path:
        """Returns the path of the picture that `write` makes."""
        return self.target(directory) / "contact_sheet.png"

    def _files(self, directory: Path, index: int, volume: np.ndarray) -> Iterator[tuple[Path, Nifti1Image]]:
        """Yields the files of one image, and what is in them."""
        yield self.paths(directory)[index], self._image(index, volume)

    def _write(self, directory: Path) -> None:
        plotted = []
        with (
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar(self.description, len(self), self.unit) as advance,
        ):
            pending = deque()
            for index in range(len(self)):
                volume = self.volume(index)
                for path, image in self._files(directory, index, volume):
                    pending.append(pool.submit(write_image, path, image))
                if len(plotted) < MOST_PLOTTED:
                    plotted.append(volume)
                # Large volumes are decoded faster than they are compressed; they are not to fill the memory.
                while len(pending) > 4 * BATCH_SIZE:
                    pending.popleft().result()
                advance(1)
            for future in pending:
                future.result()
        save_figure(self._plot(plotted), self.picture_path(directory))
