"""The probe of a run: gathers what the protocol needs and writes what it found."""

import dataclasses
import logging
import re
from pathlib import Path

import numpy as np

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import read_volumes
from mrigen.encoding import encode_cache
from mrigen.errors import CohortError, RunError
from mrigen.files import write_json, write_table
from mrigen.probing.calibration import draw_calibration
from mrigen.probing.confounds import encode_confounds
from mrigen.probing.harmonise import harmonised
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.permutation import permutation_test
from mrigen.probing.plan import ProbePlan
from mrigen.probing.protocol import run_probe
from mrigen.probing.result import ProbeResult
from mrigen.probing.roc import draw_roc
from mrigen.probing.rows import learner_of
from mrigen.probing.targets import Target, read_target
from mrigen.progress import progress_bar
from mrigen.runs import Run

logger = logging.getLogger(__name__)


def probe(run: Run, seed: int = 0, plan: ProbePlan | None = None) -> ProbeResult:
    """Predicts the sex of people, or what the plan says, from the latents of a run, beside baselines in the same folds.

    Writes probe.json (rows and paired comparisons), probe_scores.tsv, probe_folds.tsv, probe_roc.png and
    probe_calibration.png to the run; probe_<target>.json and so on of another target than sex.

    Args:
        run: a finished run.
        seed: of folds, posterior draws, permutations and bootstrap.
        plan: another target, and more rows, protocols and tests.

    Raises:
        CohortError: the cohort is not that of the run, or has too few people of a class.
        RunError: the run lacks a file.
        UsageError: the plan names something that the cohort does not have.
    """
    plan = plan or ProbePlan()
    dataset = run.open_dataset()
    inputs = gather_inputs(run, dataset, seed, plan)
    with progress_bar("Probing", 1, "fits") as advance:
        result = run_probe(
            inputs, seed=seed, plan=plan, progress=lambda done, total: advance(0, completed=done, total=total)
        )
    if plan.harmonise:
        result = dataclasses.replace(result, telling_site=tell_site(inputs, seed))
    if plan.permutations:
        with progress_bar("Permuting labels", plan.permutations, "permutations") as advance:
            test = permutation_test(
                learner_of(inputs.meaning)(inputs.latents), inputs.target, inputs.groups, inputs.meaning,
                plan.permutations, seed=seed, jobs=plan.jobs, progress=advance,
            )  # fmt: skip
        result = dataclasses.replace(result, permutation=test)
    _write(run.directory, result, plan)
    return result


def output_path(directory: Path, target: str, ending: str) -> Path:
    """Returns where a probe of `target` writes a file: probe_roc.png, or probe_age_folds.tsv."""
    stem = "probe" if target == "sex" else "probe_" + re.sub(r"[^\w.-]", "-", target)
    return directory / f"{stem}{ending}"


def tell_site(inputs: ProbeInputs, seed: int = 0, **settings) -> ProbeResult:
    """Returns how well the site can be told from latents as they are, and harmonised in each fold.

    Sites of fewer than two families are left out.

    Args:
        inputs: of people of at least two such sites.
        seed: of the folds.
        settings: of `run_probe`.
    """
    sites, codes = np.unique(inputs.site, return_inverse=True)
    families = np.array([len(np.unique(inputs.groups[codes == code])) for code in range(len(sites))])
    chosen = np.flatnonzero(families[codes] > 1)
    kept = select(inputs, chosen)
    sites, codes = np.unique(kept.site, return_inverse=True)
    if len(sites) < 2:
        raise CohortError(
            f"--harmonise site: got {len(sites)} sites of several families, expected at least two. "
            "Leave out --harmonise."
        )
    meaning = Target("site", tuple(sites.tolist()))
    kept = dataclasses.replace(kept, target=codes, meaning=meaning)
    learn = learner_of(meaning)
    predictors = {"latents": learn(kept.latents), "latents_harmonised": learn(harmonised(kept.latents, kept.site))}
    return run_probe(kept, seed=seed, predictors=predictors, **settings)


def select(inputs: ProbeInputs, rows: np.ndarray) -> ProbeInputs:
    """Returns the inputs of some people."""
    arrays = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    return ProbeInputs(**{k: v[rows] if isinstance(v, np.ndarray) else v for k, v in arrays.items()})


def _write(directory: Path, result: ProbeResult, plan: ProbePlan) -> None:
    meaning = result.meaning
    if meaning.kind == "binary":
        draw_roc(result, output_path(directory, meaning.name, "_roc.png"))
        draw_calibration(result, output_path(directory, meaning.name, "_calibration.png"))
    write_table(output_path(directory, meaning.name, "_scores.tsv"), result.scores)
    write_table(output_path(directory, meaning.name, "_folds.tsv"), result.folds)
    if result.site_folds is not None:
        write_table(output_path(directory, meaning.name, "_site_folds.tsv"), result.site_folds)
    content = {
        "target": meaning.name,
        "classes": None if meaning.classes is None else list(meaning.classes),
        "seed": result.seed,
        "protocols": result.protocols,
        "rows": result.rows(),
        "comparisons": result.comparisons(),
    }
    if plan.confounds:
        content["confounds"] = list(plan.confounds)
    if result.permutation is not None:
        content["permutation"] = result.permutation.as_dict()
    if result.telling_site is not None:
        content["telling_site"] = result.telling_site.rows()
    write_json(output_path(directory, meaning.name, ".json"), content)


def gather_inputs(run: Run, dataset: Dataset, seed: int = 0, plan: ProbePlan | None = None) -> ProbeInputs:
    """Returns one row for each person whose target is known (the first visit), in the order of the cohort's table.

    Raises:
        CohortError: nobody has a known sex, or all are alike in what is asked.
        UsageError: the plan names a column that is not there.
    """
    plan = plan or ProbePlan()
    table = dataset.cache.table
    meaning, values = read_target(table, plan.target)
    rows = np.flatnonzero(~np.isnan(values) & ~table["participant_id"].duplicated())
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
    confounds = encode_confounds(people, plan.confounds) if plan.confounds else None
    return ProbeInputs(
        participant_ids=people["participant_id"].to_numpy(dtype=str),
        target=values[rows].astype(float if meaning.classes is None else int),
        groups=people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        site=people["site"].to_numpy(dtype=str),
        split=dataset.splits_of_rows()[rows],
        latents=loc,
        latents_draw=draw,
        volumes=read_volumes(dataset.cache, rows).reshape(len(rows), -1),
        head_volume=people["head_volume_ml"].to_numpy(dtype=float),
        brain_volume=brain_volume,
        confounds=confounds,
        latents_untrained=encode_cache(run.build_model(), dataset.cache)["loc"][rows] if plan.untrained else None,
        meaning=meaning,
    )
