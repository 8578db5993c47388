"""`qc`, as Python has it: of a cohort before any fit, or of a run."""

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen import runs
from mrigen.api.cohorts import split_data, write_cohort
from mrigen.api.settings import RecipeLike, resolve_recipe
from mrigen.data.cohort import Cohort, index_cohort
from mrigen.recipe import Recipe
from mrigen.system.backend import load_tensorflow

if TYPE_CHECKING:
    from mrigen.quality import Quality


def qc(data: Any = None, *, recipe: RecipeLike = "vae", num_workers: int | None = None, **settings: Any) -> "Quality":
    """Returns what is wrong or strange about the images of a cohort; nothing is written before `.write()` of it.

    Args:
        data: a run; or the cohort as `fit` takes it: a BIDS folder, a table, a folder of NIfTI, a mapping with keys of
            the recipe's block `data`, a list of images, or a data frame. None takes that of the recipe.
        recipe: how images are prepared for the comparison with each other; of a run, its own.
        num_workers: threads; all cores by default.
        **settings: changes of the recipe, as of `fit`.

    Raises:
        UsageError, RecipeError, CohortError: the recipe or the tables are not valid. Unfit images are flags.

    Example:
        >>> found = qc("/data/bids")  # doctest: +SKIP
        >>> found.write("qc")  # doctest: +SKIP
    """
    load_tensorflow()
    from mrigen.quality import check_images

    if isinstance(data, runs.Run):
        resolved, frame, directory = data.recipe, None, data.directory / "qc"
    else:
        block, frame = split_data(data)
        resolved, directory = resolve_recipe(recipe, block, settings), Path("qc")
    with contextlib.ExitStack() as stack:
        if frame is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            resolved, _ = write_cohort(frame, resolved, Path(folder))
        found = check_images(_cohort(resolved), resolved.preprocess, resolved.data.apply_mask, num_workers=num_workers)
    return dataclasses.replace(found, directory=directory)


def _cohort(recipe: Recipe) -> Cohort:
    if recipe.data.source == "files":
        return index_cohort(recipe.data)
    from mrigen.data.dataset import open_cohort

    return open_cohort(recipe.data)
