"""Heads given to a run: its own people by their ids, and new images, prepared as the run's own were."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.checking import find_faults, mask_faults
from mrigen.data.covariates import COLUMNS
from mrigen.data.preprocess import Prepared, grid_affine, prepare_volume
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.volumes import SUFFIXES, read_volume
from mrigen.runs import Run
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Heads:
    """Images on the grid of a run.

    Attributes:
        prepared: one an image.
        people: what is known of whom they show, one row an image, with the columns of `COLUMNS` as far as there are
            any: of the run's own images what the run knows, of others the head size that was measured.
        zooms: of the grid, mm.
    """

    prepared: tuple[Prepared, ...]
    people: pd.DataFrame
    zooms: tuple[float, ...]

    @property
    def volumes(self) -> np.ndarray:
        """The images, (n, x, y, z) uint8; divided by 255 they are intensities in [0, 1]."""
        return np.stack([prepared.array for prepared in self.prepared])

    def affine(self, index: int) -> np.ndarray:
        """Returns the (4, 4) affine of the grid of one image."""
        prepared = self.prepared[index]
        return grid_affine(prepared.centre, self.zooms, prepared.array.shape)


def prepare_images(run: Run, images: Sequence[str | os.PathLike]) -> Heads:
    """Returns images as the model of a run takes them, by the run's own preprocessing.

    Where the run was fitted on brains that masks had stripped, its own images are stripped likewise; others are taken
    as they are, and a line of the log says so.

    Raises:
        CohortError: the faults of every unfit image and mask, all together.
    """
    apply_mask = run.recipe.data.apply_mask
    own = run.subjects.assign(place=[os.path.realpath(path) for path in run.subjects["path"]]).set_index("place")
    own = own[~own.index.duplicated()]
    found, rows, faults = [], [], []
    with progress_bar("Preparing images", len(images), "images") as advance:
        for image in images:
            place = os.path.realpath(image)
            person = own.loc[place].to_dict() if place in own.index else {}
            mask_path = person.get("mask_path")
            try:
                volume = read_volume(image)
                unfit = find_faults(image, volume)
                mask = None
                if isinstance(mask_path, str) and not unfit:
                    mask = read_volume(mask_path)
                    unfit = mask_faults(mask_path, mask, volume)
            except CohortError as error:
                unfit = list(error.faults)
            faults += unfit
            if not faults:
                if apply_mask and mask is None:
                    logger.warning(
                        "%s: is taken as it is; the run was fitted on brains without skull, which this should be, too",
                        image,
                    )
                prepared = prepare_volume(volume, mask, run.recipe.preprocess, apply_mask)
                found.append(prepared)
                known = {column: person[column] for column in COLUMNS.values() if column in person}
                rows.append({**known, COLUMNS["head_size"]: prepared.head_volume})
            advance(1)
    if faults:
        raise CohortError(list(dict.fromkeys(faults)))
    return Heads(tuple(found), pd.DataFrame(rows), tuple(run.recipe.preprocess.zooms))


def check_given(run: Run, given: Mapping[str, str | float]) -> None:
    """Refuses covariates that the model of a run cannot be told.

    Raises:
        UsageError: the model is told none, or not these, or a value that no training person has.
    """
    if run.covariates is not None:
        run.covariates.check(given)
    elif given:
        raise UsageError(
            f"--given: got {', '.join(given)} for a model that is told nothing of people, expected a run whose recipe "
            "names covariates in model.condition. Leave it out, or name another run with --run."
        )


def conditions_of(run: Run, people: pd.DataFrame, given: Mapping[str, str | float] | None = None) -> np.ndarray | None:
    """Returns what the decoder of a run is told of people, (n, condition) float32; None where it is told nothing.

    Args:
        run: whose model.
        people: one row a person, with the columns of `COLUMNS` as far as there are any; the rest is unknown.
        given: values for everyone, instead of those of `people`; see `check_given`.
    """
    if run.covariates is None:
        return None
    given = {COLUMNS[name]: value for name, value in (given or {}).items()}
    return run.covariates.encode(people.assign(**given))


def stem_of(image: str | os.PathLike) -> str:
    """Returns the name of an image without its suffixes and, in BIDS, without T1w.

    Example:
        >>> stem_of("anat/sub-01_T1w.nii.gz")
        'sub-01'
    """
    name = Path(image).name
    name = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
    return name.removesuffix("_T1w")


def check_different(images: Sequence[str | os.PathLike]) -> None:
    """Refuses images of one name: what is written of them would have one name, too.

    Raises:
        UsageError: naming the second.
    """
    seen = set()
    for image in images:
        if stem_of(image) in seen:
            raise UsageError(f"{image}: another image has the same name, expected different ones. Rename it.")
        seen.add(stem_of(image))
