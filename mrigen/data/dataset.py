"""A recipe's people, images and split, opened together."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.cache import VolumeCache, open_cache
from mrigen.data.covariates import Covariates
from mrigen.data.preprocess import grid_affine, resample
from mrigen.data.splits import check_split, split_subjects
from mrigen.data.synthetic import open_cohort
from mrigen.errors import CohortError
from mrigen.imaging.volumes import Volume, read_volume
from mrigen.recipe import Recipe
from mrigen.system.progress import progress_bar


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Who is in a study, their prepared volumes, and how they are divided.

    Attributes:
        cache: the prepared volumes; `cache.table` has one row an image.
        split: columns participant_id and split, one row a person.
        notes: lines about what was left out of the cohort.
        covariates: those that the recipe's model is conditioned on, None where there are none.
    """

    cache: VolumeCache
    split: pd.DataFrame
    notes: tuple[str, ...] = ()
    covariates: Covariates | None = None

    @functools.cached_property
    def _conditions(self) -> np.ndarray | None:
        return None if self.covariates is None else self.covariates.encode(self.cache.table)

    def conditions(self, rows) -> np.ndarray | None:
        """Returns the conditions of the people of `rows`, (rows, condition) float32, or None."""
        return None if self._conditions is None else self._conditions[np.asarray(rows)]

    def rows(self, *splits: str) -> np.ndarray:
        """Returns the rows of `cache.table` whose people are in one of `splits` (all, if none is named)."""
        chosen = self.split if not splits else self.split[self.split["split"].isin(splits)]
        return np.flatnonzero(self.cache.table["participant_id"].isin(chosen["participant_id"]))

    def mean_mask(self, zooms) -> np.ndarray | None:
        """Returns the share of the training people whose masks cover each voxel of the grid, (x, y, z) float32; None
        where none has a mask.

        Args:
            zooms: of the grid, mm.
        """
        table = self.cache.table.iloc[self.rows("train")]
        total, count = np.zeros(self.cache.volume_shape), 0
        for person in table[table["mask_path"].notna()].itertuples():
            mask = read_volume(person.mask_path)
            affine = grid_affine((person.centre_x, person.centre_y, person.centre_z), zooms, self.cache.volume_shape)
            total += resample(Volume((mask.array > 0).astype(np.float32), mask.affine), affine, self.cache.volume_shape)
            count += 1
        return (total / count).astype(np.float32) if count else None

    def splits_of_rows(self) -> np.ndarray:
        """Returns the split of each row of `cache.table`, (rows,) str."""
        splits = self.split.set_index("participant_id")["split"]
        return self.cache.table["participant_id"].map(splits).to_numpy(dtype=str)


def open_dataset(recipe: Recipe, split: pd.DataFrame | None = None, directory: Path | None = None) -> Dataset:
    """Returns the people, volumes and split of a recipe; images are checked and prepared on the first call.

    Args:
        recipe: data and preprocess are used.
        split: the split of an earlier run, checked against the cohort; a new one is made without it.
        directory: folder of caches.

    Raises:
        CohortError: every fault of tables, images and split.
    """
    cohort = open_cohort(recipe.data, directory)
    if split is None:
        split = split_subjects(cohort.table, recipe.data.split)
    check_split(cohort.table, split)
    missing = set(cohort.table["participant_id"]) ^ set(split["participant_id"])
    if missing:
        some = ", ".join(sorted(missing)[:5])
        raise CohortError(
            f"split: got {len(missing)} people who are not in both the cohort and the split ({some}), expected the "
            "cohort of the run. Restore the data folder, or fit again."
        )
    with progress_bar("Checking and preparing images", len(cohort.table)) as advance:
        cache = open_cache(cohort, recipe.preprocess, recipe.data.apply_mask, directory, advance)
    notes, unmasked = cohort.notes, int(cohort.table["mask_path"].isna().sum())
    if recipe.data.apply_mask and unmasked:
        notes = (*notes, f"{unmasked} images without a mask stay as they are; expected are brains stripped before.")
    dataset = Dataset(cache, split, notes)
    if not recipe.model.covariates:
        return dataset
    return dataclasses.replace(dataset, covariates=Covariates.of(cache.table, split, recipe.model.covariates))
