"""Heads of people who were scanned several times, as the repeatability of latents is judged on them."""

import dataclasses
import logging

import numpy as np
import pandas as pd

from mrigen.data.cache import UnfitImages, VolumeCache, open_cache
from mrigen.data.cohort import Cohort
from mrigen.data.dataset import Dataset, open_cohort
from mrigen.data.persons import persons_of
from mrigen.data.pipeline import read_volumes
from mrigen.evaluation.heads import Heads
from mrigen.runs import Run
from mrigen.system.wording import counted

logger = logging.getLogger(__name__)

# People, below which those that were learned from are taken as well.
FEWEST = 8
# People that are looked at, at most.
MOST = 200
# What is brighter is head.
HEAD = 0.1


def gather_rescans(
    run: Run,
    against: str = "validation",
    dataset: Dataset | None = None,
    fewest: int = FEWEST,
    most: int = MOST,
) -> Heads | None:
    """Returns all scans of the people of a run's cohort who were scanned several times, whatever `data.visits` says.

    Pairs are sessions and runs of one id, and ids that `data.same_person` joins. The people of `against` are taken; if
    they are fewer than `fewest`, those of train and validation beside (the column `split` says who is who).

    Args:
        run: whose cohort, split and grid.
        against: "validation" or "heldout".
        dataset: of the run, so that images of a run with `data.visits: all` are not prepared again.
        fewest, most: people.

    Returns:
        heads as `Material.rescans` has them, `brains` where there is head at all; None where no two scans are of one.
    """
    data = run.recipe.data
    if data.visits == "all" and dataset is not None:
        table = dataset.cache.table
    else:
        table = open_cohort(data.model_copy(update={"visits": "all"})).table
    splits = table["participant_id"].map(run.split.set_index("participant_id")["split"])
    table = table.assign(
        record=np.arange(len(table)), who=persons_of(table, data.same_person), split=splits.astype(object)
    )
    chosen = _of_several_scans(table[splits == against])
    if chosen["who"].nunique() < fewest:
        chosen = _of_several_scans(table[splits.isin(("train", "validation", against))])
    if chosen.empty:
        return None
    people = chosen["who"].unique()
    if len(people) > most:
        kept = np.random.default_rng(0).choice(people, most, replace=False)
        chosen = chosen[chosen["who"].isin(kept)]
    chosen = chosen.sort_values(["who", "visit", "scan_id"], kind="stable")
    if data.visits == "all" and dataset is not None:
        return _heads(dataset.cache, chosen)
    return _prepare(run, chosen.drop(columns=["record"]))


def _of_several_scans(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["who"].duplicated(keep=False)]


def _prepare(run: Run, table: pd.DataFrame) -> Heads | None:
    """Returns the scans of a cohort's table; those that are unfit, or another one's voxels again, are left out."""
    cohort = Cohort(table.drop(columns=["who", "split"]).sort_values("scan_id").reset_index(drop=True))
    settings, apply_mask = run.recipe.preprocess, run.recipe.data.apply_mask
    try:
        cache = open_cache(cohort, settings, apply_mask)
    except UnfitImages as error:
        lost = set(error.unfit).union(*(found.scan_ids[1:] for found in error.duplicates))
        logger.warning("Rescans: %s left out: %s", counted(len(lost), "scan", "scans"), error.faults[0])
        table = _of_several_scans(table[~table["scan_id"].isin(lost)])
        if table.empty:
            return None
        kept = cohort.table["scan_id"].isin(table["scan_id"])
        cache = open_cache(
            dataclasses.replace(cohort, table=cohort.table[kept].reset_index(drop=True)), settings, apply_mask
        )
    records = pd.Series(np.arange(len(cache.table)), index=cache.table["scan_id"])
    return _heads(cache, table.assign(record=table["scan_id"].map(records)))


def _heads(cache: VolumeCache, table: pd.DataFrame) -> Heads:
    """Returns the heads of the records of a cache that a table names, in its order."""
    records = table["record"].to_numpy(dtype=int)
    volumes = read_volumes(cache, records)
    known = cache.table.iloc[records].reset_index(drop=True)
    table = table.reset_index(drop=True)
    people = pd.DataFrame(
        {
            "participant_id": table["participant_id"],
            "scan_id": table["scan_id"],
            "session": table["session_id"],
            "person": table["who"],
            "split": table["split"],
            "family": table["family"].where(table["family"].notna(), table["who"]),
            **{name: table[name] for name in ("sex", "age", "site", "visit")},
            **{name: known[name].astype(float) for name in ("head_volume_ml", "brain_volume_ml")},
        }
    )
    return Heads(volumes, people, volumes > HEAD)
