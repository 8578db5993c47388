"""The probe of a run: gathers what the protocol needs and writes what it found."""

import dataclasses
import functools
import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError, RunError, UsageError
from mrigen.probing.calibration import draw_calibration
from mrigen.probing.confounds import encode_confounds
from mrigen.probing.harmonise import harmonised
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.intervals import json_float
from mrigen.probing.learning_curve import ROWS, draw_learning_curve, learning_curve
from mrigen.probing.likeness import same_images
from mrigen.probing.permutation import permutation_test
from mrigen.probing.plan import ProbePlan
from mrigen.probing.protocol import Refit, run_probe
from mrigen.probing.registrations import COLUMN, registration_log_det
from mrigen.probing.result import ProbeResult
from mrigen.probing.roc import draw_roc
from mrigen.probing.rows import build_rows, learner_of
from mrigen.probing.targets import Target, read_target
from mrigen.runs import Run, open_run
from mrigen.runs.encoding import encode_cache
from mrigen.system.files import read_json, write_json, write_table
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)


def probe(
    run: Run,
    seed: int = 0,
    plan: ProbePlan | None = None,
    inputs: ProbeInputs | None = None,
    refits: Sequence[Refit] = (),
) -> ProbeResult:
    """Predicts the sex of people, or what the plan says, from the latents of a run, beside baselines in the same folds.

    Writes probe.json (rows and paired comparisons), probe_scores.tsv, probe_folds.tsv, probe_roc.png and
    probe_calibration.png to the run; probe_<target>.json and so on of another target than sex.

    Args:
        run: a finished run.
        seed: of folds, posterior draws, permutations and bootstrap.
        plan: another target, and more rows, protocols and tests.
        inputs: of `gather_inputs` with the same seed and plan; gathered if None.
        refits: the folds of the nested protocol, which `mrigen.probing.nested` makes.

    Raises:
        CohortError: the cohort is not that of the run, has too few people of a class, or the same image twice.
        RunError: the run lacks a file.
        UsageError: the plan names something that the cohort does not have.
    """
    plan = plan or ProbePlan()
    if inputs is None:
        inputs = gather_inputs(run, run.open_dataset(), seed, plan)
    with progress_bar("Probing", 1, "fits") as advance:
        result = run_probe(
            inputs, seed=seed, plan=plan, refits=refits,
            progress=lambda done, total: advance(0, completed=done, total=total),
        )  # fmt: skip
    if plan.learning_curve:
        plain = dataclasses.replace(inputs, latents_against=None)
        rows = {name: row for name, row in build_rows(plain, ProbePlan(plan.target)).items() if name in ROWS}
        with progress_bar("Learning from fewer people", 1, "fits") as advance:
            curve = learning_curve(
                inputs, rows, seed=seed, progress=lambda done, total: advance(0, completed=done, total=total)
            )
        result = dataclasses.replace(result, learning_curve=curve)
    if plan.harmonise:
        result = dataclasses.replace(result, telling_site=tell_site(inputs, seed))
    if plan.permutations:
        kept = KeptPermutations(output_path(run.directory, plan.target, "_permutations.json"), inputs, seed)
        with progress_bar("Permuting labels", plan.permutations, "permutations") as advance:
            test = permutation_test(
                learner_of(inputs.meaning)(inputs.latents), inputs.target, inputs.groups, inputs.meaning,
                plan.permutations, seed=seed, jobs=plan.jobs, progress=advance,
                known=kept.read(), keep=kept.write,
            )  # fmt: skip
        result = dataclasses.replace(result, permutation=test)
    write_result(run.directory, result, plan)
    return result


@dataclasses.dataclass(frozen=True)
class KeptPermutations:
    """Figures of permutations in a file of the run, so that a test that broke off goes on.

    Attributes:
        path: of the file.
        inputs: of the probe; what was found with others, or with another seed, is not taken.
        seed: of the probe.
    """

    path: Path
    inputs: ProbeInputs
    seed: int

    @property
    def key(self) -> str:
        """Digest of what the figures depend on."""
        digest = hashlib.blake2b(f"{self.seed} {self.inputs.meaning}".encode(), digest_size=16)
        for part in (self.inputs.latents, self.inputs.target, self.inputs.groups):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def read(self) -> list[float]:
        """Returns the figures that are there, the first first; NaN where a permutation gave none."""
        if not self.path.is_file():
            return []
        try:
            content = read_json(self.path)
        except ValueError:
            return []
        if content.get("key") != self.key:
            return []
        return [float("nan") if value is None else value for value in content["null"]]

    def write(self, null: list[float]) -> None:
        """Writes the figures so far."""
        write_json(self.path, {"key": self.key, "null": [json_float(value) for value in null]})


def output_path(directory: Path, target: str, ending: str, cohort: str | None = None) -> Path:
    """Returns where a probe of `target` writes a file: probe_roc.png, probe_age_folds.tsv, or, of another cohort,
    probe_external-ds1_roc.png."""
    names = ["probe"] + ([f"external-{cohort}"] if cohort else []) + ([] if target == "sex" else [target])
    stem = "_".join(re.sub(r"[^\w.-]", "-", name) for name in names)
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


def write_result(directory: Path, result: ProbeResult, plan: ProbePlan, cohort: str | None = None) -> None:
    """Writes the files of a probe; see `probe`. `cohort` is the name of another cohort that was scored."""
    meaning = result.meaning
    path = functools.partial(output_path, directory, meaning.name, cohort=cohort)
    if meaning.kind == "binary":
        draw_roc(result, path(ending="_roc.png"))
        draw_calibration(result, path(ending="_calibration.png"))
    write_table(path(ending="_scores.tsv"), result.scores)
    if len(result.folds):
        write_table(path(ending="_folds.tsv"), result.folds)
    if result.site_folds is not None:
        write_table(path(ending="_site_folds.tsv"), result.site_folds)
    if result.nested_folds is not None:
        write_table(path(ending="_nested_folds.tsv"), result.nested_folds)
    if result.learning_curve is not None:
        draw_learning_curve(result.learning_curve, path(ending="_learning_curve.png"))
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
    if plan.against:
        content["against"] = str(plan.against)
    if result.learning_curve is not None:
        content["learning_curve"] = list(result.learning_curve.rows)
    if result.permutation is not None:
        content["permutation"] = result.permutation.as_dict()
    if result.telling_site is not None:
        content["telling_site"] = result.telling_site.rows()
    write_json(path(ending=".json"), content)


def gather_inputs(run: Run, dataset: Dataset, seed: int = 0, plan: ProbePlan | None = None) -> ProbeInputs:
    """Returns one row for each person whose target is known (the first visit), in the order of the cohort's table.

    Raises:
        CohortError: nobody has a known sex, all are alike in what is asked, or an image is there under two ids.
        UsageError: the plan names a column that is not there.
    """
    plan = plan or ProbePlan()
    table, names = dataset.cache.table, plan.confounds
    if plan.registration:
        table = table.assign(**{COLUMN: registration_log_det(table, plan.registration)})
        names = tuple(dict.fromkeys((*names, COLUMN)))
    meaning, values = read_target(table, plan.target)
    rows = np.flatnonzero(~np.isnan(values) & ~table["participant_id"].duplicated())
    people = table.iloc[rows]
    latents = run.load_latents()
    if list(latents["scan_id"]) != list(table["scan_id"]):
        raise RunError(f"{run.directory}: latents.npz is of other images, expected those of the run. Fit again.")
    brain_volume = people["brain_volume_ml"].to_numpy(dtype=float)
    if np.isnan(brain_volume).any():
        if not np.isnan(brain_volume).all():
            logger.warning("Brain volume is known for some people only, so its row is left out")
        brain_volume = None
    confounds = encode_confounds(people, names) if names else None
    volumes = read_volumes(dataset.cache, rows)
    _refuse_same_images(people, volumes)
    against = None if plan.against is None else latents_against(run, Path(plan.against), people)
    return ProbeInputs(
        participant_ids=people["participant_id"].to_numpy(dtype=str),
        target=values[rows].astype(float if meaning.classes is None else int),
        groups=people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        site=people["site"].to_numpy(dtype=str),
        split=dataset.splits_of_rows()[rows],
        latents=latents["loc"][rows],
        latents_draw=draw_latents(latents, seed, rows),
        volumes=volumes.reshape(len(rows), -1),
        head_volume=people["head_volume_ml"].to_numpy(dtype=float),
        brain_volume=brain_volume,
        confounds=confounds,
        latents_untrained=encode_cache(run.build_model(), dataset.cache)["loc"][rows] if plan.untrained else None,
        latents_against=against,
        meaning=meaning,
        volume_shape=dataset.cache.volume_shape,
        zooms=tuple(run.recipe.preprocess.zooms),
    )


def draw_latents(latents: dict[str, np.ndarray], seed: int, rows: np.ndarray) -> np.ndarray | None:
    """Returns one draw from the posteriors of some rows, (rows, d) float32; None for plain autoencoders."""
    if "scale" not in latents:
        return None
    noise = np.random.default_rng(seed).standard_normal(latents["loc"].shape)
    return (latents["loc"][rows] + latents["scale"][rows] * noise[rows]).astype(np.float32)


def _refuse_same_images(people: pd.DataFrame, volumes: np.ndarray) -> None:
    ids = people["participant_id"].to_numpy(dtype=str)
    faults = [
        f"probe: got one image as {ids[first]} and as {ids[second]}, expected an image to be there once: it would be "
        f"tested by what it taught. Fit again with {ids[second]} in data.exclude."
        for first, second in same_images(volumes)
    ]
    if faults:
        raise CohortError(faults)


def latents_against(run: Run, directory: Path, people: pd.DataFrame) -> np.ndarray:
    """Returns the latents (n, d) that another run has of the same people.

    Args:
        run: the run that is probed.
        directory: of the other run.
        people: rows of the cohort's table that are probed.

    Raises:
        RunError: not a finished run. UsageError: it is the same run, lacks people, or divides them otherwise.
    """
    other = open_run(directory)
    if other.directory.resolve() == run.directory.resolve():
        raise UsageError(f"--against {directory}: got the run itself, expected another. Name another run.")
    latents = other.load_latents()
    rows = pd.Index(latents["scan_id"]).get_indexer(people["scan_id"])
    names = people["participant_id"]
    splits = [part.split.set_index("participant_id")["split"].reindex(names) for part in (run, other)]
    lacking = names[rows < 0].tolist()
    moved = names[(splits[0] != splits[1].to_numpy()).to_numpy() & (rows >= 0)].tolist()
    faults = [
        f"--against {directory}: {what} {', '.join(some[:5])}{' and more' if some[5:] else ''}, expected {wanted}. "
        f"Fit it on the same data with data.split.file={run.directory / 'split.tsv'}."
        for what, some, wanted in (
            ("got no latents of", lacking, f"everyone who is probed in {run.directory}"),
            ("got another split of", moved, "its encoder to have seen the same people"),
        )
        if some
    ]
    if faults:
        raise UsageError(faults)
    return latents["loc"][rows]
