"""The same person under another covariate: as another scanner, sex or age would show the person."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mrigen.data.covariates import COLUMNS, Covariates, clean_given
from mrigen.data.pipeline import read_volumes
from mrigen.data.preprocess import grid_affine
from mrigen.errors import UsageError
from mrigen.generation.densities import choose_density
from mrigen.generation.images import DecodedImages, Decoder
from mrigen.imaging.figures import plot_contact_sheet
from mrigen.runs import Run
from mrigen.system.files import write_table

# People in the picture: three volumes each.
MOST_PICTURED = 7


def transfer(
    run: Run, given: Mapping[str, str | float], *, split: str = "heldout", keep_detail: bool = False
) -> "Transfer":
    """Returns people's images as they would be with other covariates.

    A model that is conditioned on covariates decodes the latents of a person with the values that are `given`, and with
    the person's own otherwise. Of another model the latents are moved by what ridge regression says that the covariates
    add to them; people whose own values are unknown are then left out.

    Args:
        run: a finished run.
        given: the new values, such as {"site": "B"}.
        split: of whom: "train", "validation" or "heldout".
        keep_detail: whether what the model does not reconstruct of a person's own image is added again, so that only
            what the covariates change is changed.

    Raises:
        UsageError: nothing given, an unknown covariate or value, or nobody to transfer.
        CohortError: the training people do not differ in a covariate.
    """
    return Transfer(run, given, split=split, keep_detail=keep_detail).prepare()


class Transfer(DecodedImages):
    """People's images under other covariates, each where the person's own lies; see `transfer`, whose arguments it
    takes. `write` makes `<scan id>_desc-transferred_T1w.nii.gz`, intensities in [0, 1], and transfer.tsv (see
    `to_frame`), in RUN/transfer by default.

    Attributes:
        given, keep_detail: as they were given.
        people: rows of the run's subjects.tsv, one an image.
    """

    folder = "transfer"
    description, unit = "Transferring", "subjects"
    columns = 3

    def __init__(
        self, run: Run, given: Mapping[str, str | float], *, split: str = "heldout", keep_detail: bool = False
    ):
        self.given = clean_given(given)
        if not self.given:
            raise UsageError("got nothing, expected a covariate to change, such as `given={'site': 'B'}`.", "given")
        self._covariates = run.covariates or Covariates.of(run.subjects, run.split, list(self.given))
        self._covariates.check(self.given)
        if split not in ("train", "validation", "heldout"):
            raise UsageError(f"got {split}, expected train, validation or heldout.", "split")
        latents = run.load_latents(split)
        people = pd.DataFrame({"scan_id": latents["scan_id"]}).merge(run.subjects, on="scan_id", how="left")
        self._is_conditional = run.covariates is not None
        if not self._is_conditional:
            people = people[people[[COLUMNS[name] for name in self.given]].notna().all(axis=1)]
        if not len(people):
            raise UsageError(
                "got nobody whose covariates are known, expected one person or more.", parameter=f"split={split!r}"
            )
        super().__init__(run, people["scan_id"])
        self.people = people
        self.keep_detail = keep_detail
        self._loc = latents["loc"][people.index]
        self._before = self._covariates.encode(people)
        changed = people.assign(**{COLUMNS[name]: value for name, value in self.given.items()})
        self._after = self._covariates.encode(changed)

    def prepare(self) -> "Transfer":
        self.codes()
        return self

    def codes(self):
        return self._moved, self._after if self._is_conditional else None

    @functools.cached_property
    def _moved(self) -> np.ndarray:
        """The latents (n, latent) that are decoded."""
        if self._is_conditional:
            return self._loc
        density = choose_density(self.run, self.model, "gaussian", covariates=self._covariates)
        return self._loc + (self._after - self._before) @ density.effects

    @functools.cached_property
    def _own(self) -> Decoder:
        """What decodes the latents as they are: the people's reconstructions."""
        return Decoder(self.model, self._loc, self._before if self._is_conditional else None)

    @functools.cached_property
    def _originals(self) -> np.ndarray:
        """The people's own images (n, x, y, z) float32 in [0, 1]; of the first alone, where no others are needed."""
        dataset = self.run.open_dataset()
        count = len(self) if self.keep_detail else MOST_PICTURED
        rows = pd.Index(dataset.cache.table["scan_id"]).get_indexer(self.people["scan_id"].iloc[:count])
        return read_volumes(dataset.cache, rows)

    def volume(self, index: int) -> np.ndarray:
        index = range(len(self))[index]
        volume = self.decoder.volume(index)
        if self.keep_detail:
            volume = self._originals[index] + volume - self._own.volume(index)
        return np.clip(volume, 0.0, 1.0)

    def affine(self, index: int) -> np.ndarray:
        person = self.people.iloc[index]
        centre = (person["centre_x"], person["centre_y"], person["centre_z"])
        return grid_affine(centre, self.run.grid["zooms"], self.run.grid["volume_shape"])

    def is_oriented(self, index: int) -> bool:
        return self.run.is_oriented([self.people["scan_id"].iloc[index]])

    def to_frame(self) -> pd.DataFrame:
        """Returns whose images they are: scan_id, participant_id, path (the name that `write` gives the file), and of
        each covariate that was given the value before and after."""
        table = self.people[["scan_id", "participant_id"]].assign(path=[path.name for path in self.paths()])
        for name, value in self.given.items():
            table[f"{name}_before"], table[f"{name}_after"] = self.people[COLUMNS[name]], value
        return table.reset_index(drop=True)

    def _names_frame(self) -> pd.DataFrame:
        return self.to_frame()

    def plot(self) -> Figure:
        """Returns a figure of the first people: the image, what the model makes of it, and what was changed."""
        return self._plot([self.volume(index) for index in range(min(MOST_PICTURED, len(self)))])

    def _plot(self, volumes: list[np.ndarray]) -> Figure:
        pictures, titles = [], []
        for index, volume in enumerate(volumes[:MOST_PICTURED]):
            pictures += [self._originals[index], self._own.volume(index), volume]
            titles += [f"{self.names[index]} {what}" for what in ("image", "model", "new")]
        return plot_contact_sheet(pictures, titles, self.run.grid["zooms"], self.columns)

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [self.target(directory) / f"{name}_desc-transferred_T1w.nii.gz" for name in self.names]

    def picture_path(self, directory: str | os.PathLike | None = None) -> Path:
        return self.target(directory) / "transfer.png"

    def _write(self, directory: Path) -> None:
        _ = self._originals  # Before anything is written: the cohort may have changed.
        super()._write(directory)
        write_table(directory / "transfer.tsv", self.to_frame())
