"""Starting a fit from a finished run: its weights, on its own grid or on a finer one over the same field of view."""

import numpy as np
import pandas as pd

from mrigen.data.dataset import Dataset
from mrigen.errors import UsageError
from mrigen.models.base import LatentModel
from mrigen.models.warm_start import copy_weights
from mrigen.recipe import Recipe
from mrigen.runs import Run, open_run
from mrigen.system.files import read_written_table
from mrigen.system.wording import some

SEEN_BEFORE = "seen_before.tsv"


def check_start(recipe: Recipe, dataset: Dataset) -> pd.DataFrame | None:
    """Returns what `people_seen` says of the run that `training.start_from` names; None without such a run.

    Raises:
        UsageError: the run is of another grid or field of view, or has learned from people whom this fit holds back.
            RunError: it is no finished run.
    """
    if recipe.training.start_from is None:
        return None
    run = open_run(recipe.training.start_from)
    origin = f"training.start_from: {run.directory}"
    faults = []
    if type(run.recipe.model) is not type(recipe.model):
        faults.append(
            f"{origin}: got a run of the kind {run.recipe.model.kind}, expected {recipe.model.kind}. Name another run."
        )
    extents = [
        np.multiply(shape, zooms)
        for shape, zooms in (
            (run.grid["volume_shape"], run.grid["zooms"]),
            (dataset.cache.volume_shape, recipe.preprocess.zooms),
        )
    ]
    if not np.allclose(*extents, atol=0.5 * max(run.grid["zooms"])):
        theirs, own = (" x ".join(f"{side:g}" for side in extent) for extent in extents)
        faults.append(
            f"{origin}: got a field of view of {theirs} mm, expected {own} mm. Set preprocess.volume_shape and "
            "preprocess.zooms so that their products are those of the run."
        )
    seen = people_seen(run)
    people = dataset.cache.table[["participant_id", "family"]].drop_duplicates("participant_id")
    people = people.merge(dataset.split, on="participant_id")
    names = []
    for split, learned_from in (("validation", ["train"]), ("heldout", ["train", "validation"])):
        held, learned = people[people["split"] == split], seen[seen["split"].isin(learned_from)]
        known = held["participant_id"].isin(learned["participant_id"]) | held["family"].isin(learned["family"].dropna())
        names += held.loc[known, "participant_id"].tolist()
    if names:
        faults.append(
            f"{origin}: got a run that has learned from {some(names)} "
            f"({len(names)} validation or held-out people of this fit, or their relatives), expected none of them. Set "
            f"data.split.seed and data.split as in {run.directory / 'recipe.yaml'}, or leave these people out."
        )
    if faults:
        raise UsageError(faults)
    return seen


def people_seen(run: Run) -> pd.DataFrame:
    """Returns participant_id, family and split of the people by whom a run, or one it started from, has learned (train)
    or chosen its best epoch (validation)."""
    people = run.subjects[["participant_id", "family"]].drop_duplicates("participant_id").merge(run.split)
    tables = [people[people["split"] != "heldout"]]
    before = run.directory / SEEN_BEFORE
    if before.is_file():
        tables.append(read_written_table(before, None))
    return pd.concat(tables, ignore_index=True).drop_duplicates()


def start_from(model: LatentModel, run: Run) -> None:
    """Gives a built model the weights of a finished run; see `mrigen.models.warm_start.copy_weights`.

    Raises:
        UsageError: a part does not fit, one line each.
    """
    try:
        copy_weights(model, run.load_model())
    except ValueError as error:
        origin = f"training.start_from: {run.directory}"
        raise UsageError([f"{origin}: {line}" for line in str(error).splitlines()]) from None
