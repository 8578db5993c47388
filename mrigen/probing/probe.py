"""The probe of a run: gathers what the protocol needs and writes what it found."""

import logging

import numpy as np

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError, RunError
from mrigen.files import write_json, write_table
from mrigen.probing.protocol import PROTOCOLS, ProbeInputs, ProbeResult, run_probe
from mrigen.probing.roc import draw_roc
from mrigen.progress import progress_bar
from mrigen.runs import Run

logger = logging.getLogger(__name__)


def probe(run: Run, seed: int = 0) -> ProbeResult:
    """Classifies sex from the latents of a run, beside baselines in the same folds.

    Writes probe.json (rows and paired comparisons), probe_scores.tsv, probe_folds.tsv and probe_roc.png to the run.

    Args:
        run: a finished run.
        seed: of folds, posterior draws and bootstrap.

    Raises:
        CohortError: the cohort is not that of the run, or has too few people of either sex.
        RunError: the run lacks a file.
    """
    dataset = run.open_dataset()
    inputs = gather_inputs(run, dataset, seed)
    with progress_bar("Probing", 1, "fits") as advance:
        result = run_probe(inputs, seed=seed, progress=lambda done, total: advance(0, completed=done, total=total))
    draw_roc(result, run.directory / "probe_roc.png")
    write_table(run.directory / "probe_scores.tsv", result.scores)
    write_table(run.directory / "probe_folds.tsv", result.folds)
    content = {
        "target": "sex",
        "classes": ["F", "M"],
        "seed": seed,
        "protocols": PROTOCOLS,
        "rows": result.rows(),
        "comparisons": result.comparisons(),
    }
    write_json(run.directory / "probe.json", content)
    return result


def gather_inputs(run: Run, dataset: Dataset, seed: int = 0) -> ProbeInputs:
    """Returns one row for each person of known sex (the first visit), in the order of the cohort's table.

    Raises:
        CohortError: nobody has a known sex.
    """
    table = dataset.cache.table
    rows = np.flatnonzero(table["sex"].isin(["F", "M"]) & ~table["participant_id"].duplicated())
    if not len(rows):
        raise CohortError(
            "sex: got nobody whose sex is known, expected F and M in participants.tsv. "
            "Name the column with data.sex_column."
        )
    people = table.iloc[rows]
    latents = run.load_latents()
    if list(latents["scan_id"]) != list(table["scan_id"]):
        raise RunError(f"{run.directory}: latents.npz is of other images, expected those of the run. Fit again.")
    loc, draw = latents["loc"][rows], None
    if "scale" in latents:
        noise = np.random.default_rng(seed).standard_normal(latents["loc"].shape)
        draw = (loc + latents["scale"][rows] * noise[rows]).astype(np.float32)
    brain_volume = people["brain_volume_ml"].to_numpy(dtype=float)
    if np.isnan(brain_volume).any():
        if not np.isnan(brain_volume).all():
            logger.warning("Brain volume is known for some people only, so its row is left out")
        brain_volume = None
    return ProbeInputs(
        participant_ids=people["participant_id"].to_numpy(dtype=str),
        target=(people["sex"] == "M").to_numpy(dtype=int),
        groups=people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        site=people["site"].to_numpy(dtype=str),
        split=dataset.splits_of_rows()[rows],
        latents=loc,
        latents_draw=draw,
        volumes=read_volumes(dataset.cache, rows).reshape(len(rows), -1),
        head_volume=people["head_volume_ml"].to_numpy(dtype=float),
        brain_volume=brain_volume,
    )
