"""Opening a fit: the folder of a new run, or the state of an unfinished one."""

import dataclasses
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import pandas as pd
import tensorflow as tf

from mrigen.analysis.evaluation import choose_counted
from mrigen.data.cohort import index_cohort
from mrigen.data.dataset import Dataset, open_dataset
from mrigen.models.base import LatentModel
from mrigen.models.building import build_model
from mrigen.quality import Quality, admit, check_images
from mrigen.recipe import Recipe, dump_recipe
from mrigen.runs import Run, open_run, write_facts
from mrigen.runs.holding import CLAIMS
from mrigen.runs.naming import COHORT_PREFIX
from mrigen.system.files import remove_leftovers, write_json, write_table
from mrigen.system.stopping import StopRequest
from mrigen.training.callbacks import Progress, load_progress
from mrigen.training.devices import Placement
from mrigen.training.epochs import people_batches
from mrigen.training.precision import choose_precision
from mrigen.training.refusals import (
    SEEN_BEFORE,
    check_batch,
    check_changes,
    check_precision,
    check_trackers,
    people_seen,
    refuse_fit,
)
from mrigen.training.state import FitState
from mrigen.training.warm_start import start_from

logger = logging.getLogger(__name__)

# The file that a new run is given last, before training.
LAST_FILE = "grid.json"
# What was found about the images of a run before it was fitted, as mrigen qc writes it.
QUALITY_TABLE = "qc.tsv"


def open_new(
    recipe: Recipe,
    directory: Path,
    name: str,
    force: bool,
    placement: Placement,
    stop: StopRequest,
    started: float,
) -> FitState:
    """Returns a new fit; writes its folder when all that can be refused was. See `fit`."""
    refuse_fit(recipe, directory, force)
    if directory.is_dir():
        remove_leftovers(directory)
    before = recipe.training.start_from
    make_deterministic(recipe.training.seed)
    quality = _look_first(recipe)
    dataset = open_dataset(recipe)
    if quality is not None:
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *quality.header_notes, quality.findings[0]))
    seen = None if before is None else people_seen(open_run(before, is_told=False))
    precision, reason = choose_precision(recipe.training.precision)
    check_batch(recipe.training.batch_size, len(dataset.rows("train")), placement.num_replicas)
    check_precision(precision, placement.num_replicas)
    model = None
    if before is not None:  # Whether the weights fit is to be known before anything is written.
        model = make_model(recipe, dataset, precision)
        start_from(model, open_run(before))
    if force and directory.exists():
        _clear(directory, recipe.data.root)
    run = Run(directory)
    directory.mkdir(parents=True, exist_ok=True)
    dump_recipe(recipe, directory / "recipe.yaml")
    write_facts(
        run,
        {
            "recipe": name,
            "settings": recipe.model_dump(mode="json"),
            "precision": precision,
            "precision_reason": reason,
            "data_fingerprint": dataset.cache.key,
        },
    )
    write_table(directory / "split.tsv", dataset.split)
    write_table(directory / "subjects.tsv", dataset.cache.table)
    if quality is not None:
        write_table(directory / QUALITY_TABLE, quality.to_frame())
    if seen is not None:
        write_table(directory / SEEN_BEFORE, seen)
    write_json(directory / LAST_FILE, _describe_grid(recipe, dataset))
    # The variables of several devices are made in their strategy.
    model = model if placement.strategy is None else None
    return FitState(run, recipe, dataset, Progress(), placement, stop, model, started=started)


def _look_first(recipe: Recipe) -> Quality | None:
    """Looks at everyone's images before they are used: says what is strange, and refuses what cannot be used. Nothing
    is strange about the synthetic cohort."""
    if recipe.data.source != "files":
        return None
    quality = check_images(
        index_cohort(recipe.data),
        recipe.preprocess,
        recipe.data.apply_mask,
        refuse_copies=recipe.data.copies == "refuse",
    )
    admit(quality)
    return quality


def open_unfinished(
    run: Run, recipe: Recipe | None, placement: Placement, stop: StopRequest, started: float
) -> FitState | None:
    """Returns an unfinished fit as it stands; None if it is complete. `recipe`: what it is thought to be, or None."""
    directory, checkpoint = run.directory, run.directory / "checkpoint"
    if not (directory / LAST_FILE).is_file() and not checkpoint.exists():
        facts = run.facts if (directory / "run.json").is_file() else {}
        check_changes(run, facts, recipe)
        logger.info("%s broke off before training; beginning again", directory)
        return open_new(run.recipe, directory, facts.get("recipe", "recipe"), True, placement, stop, started)
    own, facts = run.recipe, run.facts
    check_changes(run, facts, recipe)
    if run.is_complete:
        remove_leftovers(directory)
        shutil.rmtree(checkpoint, ignore_errors=True)  # Of a process that was killed in its last moment.
        logger.info("%s is complete; nothing to do", directory)
        return None
    check_trackers(own.training.trackers)
    make_deterministic(own.training.seed)
    dataset = run.open_dataset()
    check_batch(own.training.batch_size, len(dataset.rows("train")), placement.num_replicas)
    check_precision(facts["precision"], placement.num_replicas)
    remove_leftovers(directory)
    progress = load_progress(checkpoint)
    with log_file(directory / "log.txt"):
        logger.info("Resuming %s after epoch %d, step %d of the next", directory, progress.epoch, progress.step)
    return FitState(run, own, dataset, progress, placement, stop, started=started)


def make_model(recipe: Recipe, dataset: Dataset, precision: str) -> LatentModel:
    """Returns the model of a recipe, built and adapted to the training people."""
    shape, seed = dataset.cache.volume_shape, recipe.training.seed
    model = build_model(recipe.model, shape, precision, seed, dataset.covariates)
    mask = None
    if recipe.model.counted_voxels == "brain":
        mask = choose_counted(dataset, None, "brain", recipe.preprocess.zooms)
    model.adapt(people_batches(dataset, "train"), mask)
    return model


def make_deterministic(seed: int) -> None:
    """Seeds everything, and has TensorFlow compute the same from the same."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _clear(directory: Path, cohort: str | None) -> None:
    """Removes what is in the folder of a run, but the cohort that the new one was given in memory."""
    kept = None if cohort is None else Path(cohort).resolve()
    for path in list(directory.iterdir()):
        if kept is not None and path.name.startswith(COHORT_PREFIX) and kept.is_relative_to(path.resolve()):
            continue
        if path.name == CLAIMS:  # This fit's own is among them.
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _describe_grid(recipe: Recipe, dataset: Dataset) -> dict:
    """Returns where samples are written: the median of the training people's grid centres, and of their scales."""
    table = dataset.cache.table.iloc[dataset.rows("train")]
    return {
        "zooms": list(recipe.preprocess.zooms),
        "volume_shape": list(dataset.cache.volume_shape),
        "centre": [float(table[f"centre_{axis}"].median()) for axis in "xyz"],
        "median_low": float(table["low"].median()) if "low" in table else 0.0,
        "median_scale": float(table["scale"].median()),
        "median_surround": _median_surround(table),
    }


def _median_surround(table: pd.DataFrame) -> float | None:
    """Returns what was around most images, where these were cut out."""
    if "surround" not in table or 2 * table["surround"].notna().sum() <= len(table):
        return None
    return float(table["surround"].median())


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Adds what mrigen says to a file, as long as the context lasts."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("mrigen")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
