"""The cohort of a recipe, the synthetic one included: where that lies, who is in it, and its making. No TensorFlow."""

import hashlib
import logging
from pathlib import Path

import pandas as pd

from mrigen.data.cohort import Cohort, index_cohort
from mrigen.data.phantom import PHANTOM_VERSION, PhantomSettings, draw_factors, draw_scans, write_phantom_cohort
from mrigen.recipe import DataRecipe
from mrigen.system.files import default_cache_directory
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)


def open_cohort(data: DataRecipe, directory: Path | None = None) -> Cohort:
    """Returns the cohort of a recipe's `data` block; the synthetic one is made first where it is asked for.

    Raises:
        CohortError: see `index_cohort`; or no source is named.
    """
    if data.source == "files":
        return index_cohort(data)
    settings, root = phantom_settings(data), phantom_root(data, directory)
    if not (root / "participants.tsv").is_file():
        logger.info("Synthetic cohort: making %d people in %s", data.num_subjects, root)
        with progress_bar("Making the synthetic cohort", data.num_subjects) as advance:
            write_phantom_cohort(root, settings, progress=advance)
    return index_cohort(data.model_copy(update={"source": "files", "root": str(root), "mask": "phantom"}))


def know_cohort(data: DataRecipe, directory: Path | None = None) -> pd.DataFrame:
    """Returns the table of a recipe's cohort, without making anything: of a synthetic one that is not there yet, who
    will be in it (participant_id, visit, sex, age and site, one row an image). It is made only where some are left out.

    Raises:
        CohortError: see `index_cohort`.
    """
    is_there = data.source == "files" or (phantom_root(data, directory) / "participants.tsv").is_file()
    if is_there or data.where or data.exclude:
        return open_cohort(data, directory).table
    settings = phantom_settings(data)
    table = draw_scans(settings) if settings.num_scanners > 1 else draw_factors(settings)
    table = table.assign(visit=table.groupby("participant_id").cumcount())
    if data.visits == "first":
        table = table[table["visit"] == 0]
    names = [name for name in ("participant_id", "visit", "sex", "age", "site") if name in table]
    return table[names].reset_index(drop=True)


def phantom_settings(data: DataRecipe) -> PhantomSettings:
    """Returns the settings of a recipe's synthetic cohort."""
    return PhantomSettings(num_subjects=data.num_subjects, **data.phantom.model_dump())


def phantom_root(data: DataRecipe, directory: Path | None = None) -> Path:
    """Returns the folder of a recipe's synthetic cohort, whether it is there or not."""
    settings = phantom_settings(data)
    what = f"{PHANTOM_VERSION} {settings}" + (f" {settings.num_scanners} scanners" if settings.num_scanners > 1 else "")
    name = hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
    return Path(directory or default_cache_directory()) / f"phantom-{name}"
