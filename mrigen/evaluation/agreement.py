"""Do runs of one cohort, from other seeds or splits, find the same people alike?"""

from typing import Any

import numpy as np
import pandas as pd

from mrigen.evaluation.heads import PCA, Heads, Material
from mrigen.evaluation.representations import LATENTS, UNTRAINED, active, encode
from mrigen.evaluation.result import Row
from mrigen.runs import Run
from mrigen.statistics.pca import gram_matrix, gram_scores
from mrigen.statistics.repeatability import FEWEST_FOR_CKA, Estimate, cka_interval
from mrigen.system.wording import counted

FIGURE = "cka"


def agreement(material: Material) -> tuple[list[Row], list[str], dict[str, Any]]:
    """Returns how alike the run and each of `Material.others` find people: the mean linear CKA, of latents, of
    untrained networks, and of principal components of whom each run learned from.

    People are those that no run learned from, or all that are known where these are too few.

    Returns:
        rows, notes and, for each group, the CKA with each other run by its folder.

    References:
        See `mrigen.statistics.repeatability.linear_cka`.
    """
    runs = [run for run in (material.run, *material.others) if run is not None]
    heads = _everybody(material)
    ids = heads.people["participant_id"].to_numpy(dtype=str)
    learned = [np.isin(ids, run.split.loc[run.split["split"] == "train", "participant_id"]) for run in runs]
    known = np.all([np.isin(ids, run.subjects["participant_id"]) for run in runs], axis=0)
    unseen = known & ~np.any(learned, axis=0) & np.isin(ids, material.unseen.people["participant_id"])
    chosen, notes = unseen, []
    if unseen.sum() < FEWEST_FOR_CKA:
        chosen = known
        notes.append(
            f"CKA is of all {counted(int(known.sum()), 'person', 'people')} that the runs share, those that were "
            f"learned from, too: {int(unseen.sum())} were seen by none."
        )
    if chosen.sum() < FEWEST_FOR_CKA:
        few = counted(int(chosen.sum()), "person", "people")
        return [Row(FIGURE, LATENTS, None, note=f"{few} in common")], [], {}
    picked = heads.take(chosen)
    gram = gram_matrix(heads.volumes.reshape(len(heads), -1))
    views = {
        LATENTS: [_saved(run, ids[chosen]) for run in runs],
        PCA: [_components(gram, of_run, run)[chosen] for of_run, run in zip(learned, runs, strict=True)],
        UNTRAINED: [_untrained(run, picked) for run in runs],
    }
    rows, pairs = [], {}
    for group, (first, *others) in views.items():
        estimates = [_compare(first, other, picked.families) for other in others]
        rows.append(_mean_row(group, estimates, len(picked)))
        pairs[group] = {
            str(run.directory): estimate.value for run, estimate in zip(material.others, estimates, strict=True)
        }
    return rows, notes, pairs


def _compare(first: np.ndarray | None, second: np.ndarray | None, families: np.ndarray) -> Estimate:
    return Estimate(None) if first is None or second is None else cka_interval(first, second, families)


def _mean_row(group: str, estimates: list[Estimate], count: int) -> Row:
    known = [estimate for estimate in estimates if estimate.value is not None]
    if not known:
        return Row(FIGURE, group, None, note="constant, or on another grid")
    # The mean is as wide as one: all share the run and its people.
    bounds = [(e.low, e.high) for e in known if e.low is not None and e.high is not None]
    low, high = np.mean(bounds, axis=0).tolist() if len(bounds) == len(known) else (None, None)
    value, note = float(np.mean([e.value for e in known])), "" if len(known) == 1 else f"mean of {len(known)} runs"
    if group == UNTRAINED and value > 1.0 - 1e-6:
        note = "one seed: the same network"
    return Row(FIGURE, group, value, low, high, n=count, note=note)


def _everybody(material: Material) -> Heads:
    """Returns never-seen people and those that were learned from, everybody once."""
    parts = (material.unseen, material.taught)
    people = pd.concat([part.people for part in parts], ignore_index=True)
    volumes, brains = (np.concatenate([getattr(part, name) for part in parts]) for name in ("volumes", "brains"))
    return Heads(volumes, people, brains).take(~people["participant_id"].duplicated().to_numpy())


def _saved(run: Run, ids: np.ndarray) -> np.ndarray:
    """Returns the latents that a run keeps of people's first images, (people, latent)."""
    latents = run.load_latents()
    table = run.subjects.sort_values("visit", kind="stable") if "visit" in run.subjects else run.subjects
    scans = table.drop_duplicates("participant_id").set_index("participant_id")["scan_id"].loc[list(ids)]
    rows = pd.Series(np.arange(len(latents["scan_id"])), index=latents["scan_id"])
    return active(latents)[rows.loc[list(scans)].to_numpy()]


def _components(gram: np.ndarray, learned: np.ndarray, run: Run) -> np.ndarray:
    """Returns the scores of everybody on as many principal components of whom a run learned from as it has latents."""
    if learned.sum() < 2:
        return np.zeros((len(gram), 1))
    return gram_scores(gram, np.flatnonzero(learned), active(run.load_latents()).shape[1])


def _untrained(run: Run, heads: Heads) -> np.ndarray | None:
    if tuple(run.grid["volume_shape"]) != heads.volumes.shape[1:]:
        return None
    return encode(run.build_model(), heads.volumes)["loc"]
