"""Images along a line through the latent space."""

import functools
import html
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mrigen.generation.images import MOST_ROWS, DecodedImages
from mrigen.imaging.figures import plot_contact_sheet, save_figure
from mrigen.imaging.volumes import Nifti1Image, write_image
from mrigen.runs import Run
from mrigen.system.targets import refuse_taken, writing


class Walk(DecodedImages):
    """The images along a line through the latent space, one a step; `image` is all of them as one of four axes.

    Args:
        run: a finished run.
        name: of the file.
        titles: one a step.
        latents: (steps, latent). conditions: (steps, condition), or None.
        folder: see `Images`.
        load_model: returns the model of the run, where several walks share one.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        titles: Sequence[str],
        latents: np.ndarray | None = None,
        conditions: np.ndarray | None = None,
        folder: str = "walks",
        load_model: Callable | None = None,
    ):
        super().__init__(run, titles)
        self.name, self.folder, self.columns = name, folder, len(titles)
        self._load_model = load_model or run.load_model
        self._codes = latents, conditions

    @functools.cached_property
    def model(self):
        return self._load_model()

    def codes(self):
        return self._codes

    @property
    def image(self) -> Nifti1Image:
        """All steps as one image (x, y, z, step), which viewers play as a film."""
        return self._sequence(self._volumes())

    def _volumes(self) -> list[np.ndarray]:
        return [self.volume(index) for index in range(len(self))]

    def _sequence(self, volumes: list[np.ndarray]) -> Nifti1Image:
        return self._placed(0, np.moveaxis(np.stack(volumes), 0, -1))

    def plot(self) -> Figure:
        return self._plot(self._volumes())

    def to_frame(self) -> pd.DataFrame:
        """Returns the titles of the steps."""
        return pd.DataFrame({"step": range(len(self)), "title": self.names})

    def _names_frame(self) -> pd.DataFrame:
        return self.to_frame()

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the file of `image`: the only one that `write` makes beside its picture."""
        return [self.target(directory) / f"{self.name}.nii.gz"]

    def picture_path(self, directory: str | os.PathLike | None = None) -> Path:
        return self.target(directory) / f"{self.name}.png"

    def _write(self, directory: Path) -> None:
        volumes = self._volumes()
        write_image(self.paths(directory)[0], self._sequence(volumes))
        save_figure(self._plot(volumes), self.picture_path(directory))


class Walks(Sequence):
    """Several walks, each with a name.

    Attributes:
        run: that they are of.
        directory: where they were written last; None before.
    """

    def __init__(self, run: Run, walks: Sequence[Walk]):
        self.run = run
        self.directory: Path | None = None
        self._walks = list(walks)

    def __len__(self) -> int:
        return len(self._walks)

    def __getitem__(self, index):
        return self._walks[index]

    def __repr__(self) -> str:
        return f"Walks({len(self)} of {self.run.directory}, {len(self[0])} steps each)"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.to_frame().head(MOST_ROWS).to_html(index=False)}"

    @property
    def names(self) -> list[str]:
        """Of the walks."""
        return [walk.name for walk in self]

    def to_frame(self) -> pd.DataFrame:
        """Returns the name of each walk, and its steps."""
        return pd.DataFrame({"name": self.names, "steps": [", ".join(walk.names) for walk in self]})

    def plot(self) -> Figure:
        """Returns a figure of the middle slices, walks one below the other."""
        volumes = [walk.volume(index) for walk in self for index in range(len(walk))]
        titles = [f"{walk.name.removeprefix('traversal_')} {title}" for walk in self for title in walk.names]
        return plot_contact_sheet(volumes, titles, self.run.grid["zooms"], len(self[0]))

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the files that `write` returns."""
        return [path for walk in self for path in walk.paths(directory)]

    def check_target(self, directory: str | os.PathLike | None = None, force: bool = False) -> None:
        """Refuses what `write` would refuse, before anything is made.

        Raises:
            UsageError: a file is there already.
        """
        refuse_taken(self.paths(directory), force)

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes each walk as a NIfTI of four axes, with a picture beside it, and returns the paths.

        Args:
            directory: where to write; a folder of the run by default.
            force: whether files of that name are replaced.

        Raises:
            UsageError: a file is there already.
        """
        self.check_target(directory, force)
        with writing(self.paths(directory)):
            for walk in self:
                walk.write(directory, force=True)
        self.directory = self[0].directory
        return self.paths(directory)
