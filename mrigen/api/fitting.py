"""`fit`, `resume` and `plan_fit`, as Python has them: recipes by name, cohorts in memory, settings as keywords."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen import runs
from mrigen.api.cohorts import split_data, write_cohort
from mrigen.api.run import Run
from mrigen.api.settings import RecipeLike, name_of, resolve_recipe
from mrigen.errors import MrigenError, RunError
from mrigen.recipe import Recipe
from mrigen.runs.naming import new_run_directory
from mrigen.system.backend import load_tensorflow
from mrigen.system.notices import noting
from mrigen.system.wording import counted
from mrigen.training.refusals import refuse_fit, refuse_resume

if TYPE_CHECKING:
    from mrigen.training import Plan

logger = logging.getLogger(__name__)

# The share of a brain (or upper head) from which on it is said that the grid leaves it out.
NOTABLE_LOSS = 0.02


def fit(
    recipe: RecipeLike = "vae",
    data: Any = None,
    *,
    directory: str | os.PathLike | None = None,
    force: bool = False,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Trains the model of a recipe and returns its run, whose folder holds everything about it.

    A progress bar is drawn in a terminal and in a notebook, unless the environment variable MRIGEN_QUIET is set. What
    should be known of the result is a `MrigenWarning`; notes go to the logger `mrigen` and to the run's log.txt.

    Args:
        recipe: name of a shipped recipe, path of a YAML file, a mapping of its blocks, or a `Recipe`.
        data: the cohort, if the recipe has none: a BIDS folder, a table with a column of paths, a folder of NIfTI;
            a mapping with keys of the recipe's block `data`; a list of paths or nibabel images; or a data frame with a
            column of these. Of the last two a table is kept in the run, and the images that were in memory.
        directory: of the run; runs/<recipe>-<time> if None.
        force: whether an older run in `directory` is replaced.
        resume: whether a fit that is in `directory` already goes on; it is begun where there is none.
        **settings: changes of the recipe: the name of a key (`epochs=20`, `latent_dim=16`), a block with some of its
            keys (`training={"epochs": 20}`), or a dotted key (`**{"data.split.seed": 1}`).

    Raises:
        UsageError, RecipeError, CohortError: before anything is written. TrainingError: the loss is no longer a number.

    Example:
        >>> run = fit("vae", "/data/bids", epochs=20)  # doctest: +SKIP
    """
    block, frame = split_data(data)
    resolved, name = resolve_recipe(recipe, block, settings), name_of(recipe)
    with _run_directory(directory, name) as path:
        fresh = None
        try:
            if frame is not None:
                resolved, fresh = write_cohort(frame, resolved, path)
            goes_on = resume and (path / "recipe.yaml").is_file()
            if goes_on:
                refuse_resume(path, resolved)
            else:
                refuse_fit(resolved, path, force)
            load_tensorflow()
            from mrigen import training

            with noting(), _saying_how_to_go_on(path):
                if goes_on:
                    fitted = training.resume(path, resolved)
                else:
                    fitted = training.fit(resolved, path, name, force)
        except BaseException:
            if fresh is not None and not _is_of(path, resolved):
                shutil.rmtree(fresh, ignore_errors=True)
            raise
    return _finished(fitted, path)


def resume(directory: str | os.PathLike) -> Run:
    """Goes on with the fit of an unfinished run from its last checkpoint, and returns the run.

    On CPU the run becomes, bit for bit, what it would have been without the break. A finished run is returned as it is.

    Raises:
        RunError: not a run. CohortError: its cohort or images changed.
    """
    path = Path(directory)
    if not (path / "recipe.yaml").is_file():
        raise RunError(f"{directory}: no recipe.yaml, expected a run made by mrigen fit. Check the path.")
    refuse_resume(path)
    load_tensorflow()
    from mrigen import training

    with noting(), _saying_how_to_go_on(path):
        fitted = training.resume(path)
    return _finished(fitted, path)


def plan_fit(recipe: RecipeLike = "vae", data: Any = None, **settings: Any) -> "Plan":
    """Returns what a fit will take: people, memory, disk and time, by a few steps on random volumes; nothing is kept.

    Args:
        recipe, data, **settings: as of `fit`. Without a cohort the figures are those of the model alone.

    Raises:
        UsageError, RecipeError, CohortError: as of `fit`.
    """
    block, frame = split_data(data)
    resolved = resolve_recipe(recipe, block, settings)
    with contextlib.ExitStack() as stack:
        if frame is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            resolved, _ = write_cohort(frame, resolved, Path(folder))
        refuse_fit(resolved, needs_people=False)
        load_tensorflow()
        from mrigen import training

        return training.plan_fit(resolved)


@contextlib.contextmanager
def _run_directory(directory: str | os.PathLike | None, name: str) -> Iterator[Path]:
    """Yields the folder of a new run; one that nobody named is made at once, so that no other process takes it.

    It is removed when nothing came of it.
    """
    if directory is not None:
        path, was_there = Path(directory), Path(directory).exists()
    else:
        path, was_there = new_run_directory(name), False
        while True:
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                path = new_run_directory(name)
    try:
        yield path
    finally:
        if not was_there and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@contextlib.contextmanager
def _saying_how_to_go_on(path: Path) -> Iterator[None]:
    """Has an interrupted fit say how it goes on: who did not name the folder does not know it."""
    try:
        yield
    except KeyboardInterrupt as error:
        if (path / "checkpoint").is_dir():
            error.add_note(f"What was done up to the last checkpoint is kept. Go on with mrigen.resume({str(path)!r}).")
        raise


def _is_of(path: Path, recipe: Recipe) -> bool:
    """Whether the run in a folder was begun with the cohort of a recipe."""
    try:
        return runs.Run(path).recipe.data.root == recipe.data.root
    except MrigenError:
        return False


def _finished(fitted: runs.Run | None, path: Path) -> Run:
    run = Run(path if fitted is None else fitted.directory)
    if fitted is not None:
        lost = run.subjects["lost_fraction"]
        count = int((lost > NOTABLE_LOSS).sum())
        if count:
            logger.warning(
                "The grid leaves out more than %.0f %% of the brain (or upper head) of %s; up to %.0f %%. Set a larger "
                "volume_shape or zooms; run.subjects['lost_fraction'] says whose.",
                100 * NOTABLE_LOSS, counted(count, "image", "images"), 100 * lost.max(),
            )  # fmt: skip
    return run
