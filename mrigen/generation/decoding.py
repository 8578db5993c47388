"""The images that latents stand for."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS, UNITS
from mrigen.errors import CohortError
from mrigen.generation.images import DecodedImages
from mrigen.runs import Run
from mrigen.runs.images import check_given, conditions_of
from mrigen.runs.latents import IDS, LatentTable, latent_table

logger = logging.getLogger(__name__)


def decode(
    run: Run,
    latents: LatentTable | str | os.PathLike | pd.DataFrame | np.ndarray,
    *,
    given: Mapping[str, str | float] | None = None,
    native_units: bool = False,
) -> "DecodedLatents":
    """Returns the images that latents stand for.

    Args:
        run: a finished run.
        latents: of its model: a table as `encode` returns it, a data frame or a file of one, or an array (n, latent).
        given: covariates of everyone, for a model that is conditioned on any. The others are those of the table; where
            the table has none, those of the run's own people, by scan_id; unknown otherwise.
        native_units: whether intensities are in the median units of the training cohort; else they lie in [0, 1].

    Raises:
        UsageError: covariates that do not condition the model.
        CohortError: see `mrigen.runs.latents.read_latents`; or the latents are of another model.
    """
    return DecodedLatents(run, latents, given=given, native_units=native_units)


class DecodedLatents(DecodedImages):
    """The images that latents stand for, where the training images lie; see `decode`, whose arguments it takes.

    Attributes:
        table: the latents, and whose they are.
    """

    folder = "decoded"
    unit = "heads"

    def __init__(
        self,
        run: Run,
        latents: LatentTable | str | os.PathLike | pd.DataFrame | np.ndarray,
        *,
        given: Mapping[str, str | float] | None = None,
        native_units: bool = False,
    ):
        given = check_given(run, given)
        self.table = latent_table(latents)
        super().__init__(run, self.table.people["scan_id"], native_units)
        size, expected = self.table.latents["loc"].shape[1], run.load_latents()["loc"].shape[1]
        if size != expected:
            source = latents if isinstance(latents, (str, os.PathLike)) else "latents"
            raise CohortError(
                f"{source}: got {size} latent variables, expected {expected} as {run.directory} has. "
                "Name the run that the latents are of with `run`."
            )
        self._conditions = conditions_of(run, _with_own_covariates(run, self.table.people), given)

    def codes(self):
        return self.table.latents["loc"], self._conditions

    def to_frame(self) -> pd.DataFrame:
        """Returns whose images they are: participant_id, scan_id, and the covariates of the table."""
        return self.table.people.reset_index(drop=True)

    def _names_frame(self) -> pd.DataFrame:
        return self.to_frame()

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [self.target(directory) / f"{name}_desc-decoded_T1w.nii.gz" for name in self.names]

    def files(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [*self.paths(directory), self.picture_path(directory)]


def _with_own_covariates(run: Run, people: pd.DataFrame) -> pd.DataFrame:
    """Returns `people` with the covariates of the run's own, where the table has no covariates."""
    if run.covariates is None:
        return people
    columns = [COLUMNS[name] for name in run.covariates.names]
    numbers = [COLUMNS[name] for name in UNITS]
    if any(column in people for column in columns):
        faults = [
            f"{column}: got {value} in the table of latents, expected a number. Correct it, or write n/a."
            for column in columns
            if column in people and column in numbers
            for value in people[column][pd.to_numeric(people[column], errors="coerce").isna() & people[column].notna()]
        ]
        if faults:
            raise CohortError(faults)
        return people
    own = [column for column in columns if column in run.subjects]
    joined = people[list(IDS)].merge(run.subjects[["scan_id", *own]], on="scan_id", how="left")
    unknown = int(joined[own].isna().all(axis=1).sum()) if own else len(joined)
    if unknown:
        logger.info("Of %d of %d heads the model is told nothing: the table has no covariates", unknown, len(joined))
    return joined
