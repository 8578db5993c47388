"""The probe of a run on the people of its own cohort."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mrigen.probing.collapse_notes import collapse_notes, join_notes
from mrigen.probing.gathering import gather_inputs
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.learning_curve import ROWS, learning_curve
from mrigen.probing.permutation import PermutationTest, deconfounded_permutation_test, permutation_test
from mrigen.probing.permutation_cache import PermutationCache
from mrigen.probing.plan import ProbePlan, takes_plan
from mrigen.probing.protocol import Refit, run_probe
from mrigen.probing.result import ProbeResult, output_path
from mrigen.probing.rows import build_rows, learner_of
from mrigen.probing.sites import predict_site, select
from mrigen.runs import Run
from mrigen.system.progress import progress_bar


@takes_plan
def probe(run: Run, *, plan: ProbePlan, seed: int = 0) -> ProbeResult:
    """Predicts the sex of people, or another target, from the latents of a run, beside baselines in the same folds.

    Nothing is written but the figures of permutations, from which a test that broke off goes on (in the folder of the
    run); `ProbeResult.write` writes the files.

    Args:
        run: a finished run.
        target, confounds and the others: the fields of `ProbePlan`.
        seed: of folds, posterior draws and permutations.
        plan: the fields, all together.

    Raises:
        CohortError: the cohort is not that of the run, has too few people of a class, or the same image twice.
        RunError: the run lacks a file.
        UsageError: a field has no such value, or names something that the cohort does not have.

    Example:
        >>> result = probe(run, target="age", confounds=["sex"])  # doctest: +SKIP
        >>> result.to_frame()  # doctest: +SKIP
    """
    return probe_people(run, gather_inputs(run, run.open_dataset(), seed, plan), plan, seed)


def probe_people(
    run: Run,
    inputs: ProbeInputs,
    plan: ProbePlan,
    seed: int = 0,
    refits: Sequence[Refit] = (),
    encoders: Sequence[Run] = (),
) -> ProbeResult:
    """Returns the probe of a run; see `probe`.

    Args:
        run: a finished run.
        inputs: of `gather_inputs` with the same seed and plan.
        plan: what is asked.
        seed: of folds and permutations.
        refits: the folds of the nested protocol; encoders: their runs.
    """
    with progress_bar("Probing", 1, "fits") as advance:
        result = run_probe(
            inputs, seed=seed, plan=plan, refits=refits,
            progress=lambda done, total: advance(0, completed=done, total=total),
        )  # fmt: skip
    found = {}
    if plan.learning_curve:
        plain = dataclasses.replace(inputs, latents_against=None)
        rows = {name: row for name, row in build_rows(plain, ProbePlan(plan.target)).items() if name in ROWS}
        with progress_bar("Learning from fewer people", 1, "fits") as advance:
            found["learning_curve"] = learning_curve(
                inputs, rows, seed=seed, progress=lambda done, total: advance(0, completed=done, total=total)
            )
    if plan.harmonise:
        found["site_prediction"] = predict_site(inputs, seed)
    if plan.permutations:
        found |= _permutation_tests(run, inputs, plan, seed)
    collapsed = collapse_notes(run, result.predictors, plan, encoders)
    notes = join_notes(collapsed, result.row_notes, result.predictors)
    return dataclasses.replace(result, plan=plan, directory=run.directory, row_notes=notes, **found)


def _permutation_tests(run: Run, inputs: ProbeInputs, plan: ProbePlan, seed: int) -> dict[str, PermutationTest]:
    # People of one site exchange among themselves where sites differ in the confounds, or are folds.
    by_site = "site" in plan.confounds or plan.leave_site_out
    site = inputs.site if by_site else None

    def options(inputs: ProbeInputs, ending: str, others: tuple, advance) -> dict:
        path = output_path(run.directory, plan.target, ending)
        cache = PermutationCache(path, inputs, seed, (*others, *([inputs.site] if by_site else [])))
        return {"seed": seed, "jobs": plan.jobs, "progress": advance, "known": cache.read(), "keep": cache.write}

    with progress_bar("Permuting labels", plan.permutations, "permutations") as advance:
        found = {
            "permutation": permutation_test(
                learner_of(inputs.target)(inputs.latents), inputs.targets, inputs.groups, inputs.target,
                plan.permutations, site=site, **options(inputs, "_permutations.json", (), advance),
            )
        }  # fmt: skip
    if inputs.confounds is None:
        return found
    if inputs.confounds_known is not None:
        inputs = select(inputs, np.flatnonzero(inputs.confounds_known))
        site = inputs.site if by_site else None
    reliability = np.array([1.0 if value is None else value for value in inputs.reliability or (1.0,)], float)
    others = (inputs.confounds, reliability)
    with progress_bar("Permuting what confounds leave", plan.permutations, "permutations") as advance:
        found["deconfounded_permutation"] = deconfounded_permutation_test(
            inputs.latents, inputs.confounds, reliability, inputs.targets, inputs.groups, inputs.target,
            plan.permutations, site=site, **options(inputs, "_permutations_deconfounded.json", others, advance),
        )  # fmt: skip
    return found
