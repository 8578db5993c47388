"""The probe: how well latents predict something of a person, cross-validated, beside baselines in the same folds."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mrigen.errors import CohortError
from mrigen.probing.folds import derived_seed, site_folds, target_folds
from mrigen.probing.inputs import ProbeInputs, checked
from mrigen.probing.plan import ProbePlan
from mrigen.probing.predictors import DrawsPredictor, FoldScores, Predictor
from mrigen.probing.result import ProbeResult
from mrigen.probing.rows import build_rows, describe_rows
from mrigen.probing.score_table import (
    DRAW,
    HELDOUT,
    LEAVE_SITE_OUT,
    NESTED,
    SCORE_COLUMNS,
    TRANSDUCTIVE,
    class_column,
)
from mrigen.probing.stand_ins import stand_ins_of
from mrigen.probing.targets import Target

Task = tuple[str, int, int, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Refit:
    """One fold of the nested protocol: latents of an encoder that saw nobody who is tested in it.

    Attributes:
        train, test: row numbers.
        latents: (n, d) float32, posterior means of everyone.
        latents_draw: (n, draws * d) float32, draws from each posterior; None for plain autoencoders.
    """

    train: np.ndarray
    test: np.ndarray
    latents: np.ndarray
    latents_draw: np.ndarray | None


def run_probe(
    inputs: ProbeInputs,
    *,
    seed: int = 0,
    num_folds: int = 5,
    num_repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
    plan: ProbePlan | None = None,
    predictors: dict[str, Predictor] | None = None,
    refits: Sequence[Refit] = (),
    notes: Sequence[str] = (),
) -> ProbeResult:
    """Returns the probe of `inputs`: each predictor in each protocol, all in the same folds.

    `transductive`: repeated stratified group k-fold over all people. Everything of the probe (scaling, principal
    components, the choice of regularisation) is fitted inside the training part of the fold; only the encoder was
    fitted on images (never labels) of people that are tested, hence the name.
    `heldout`: the probe is fitted on the training and validation people of the encoder and scored once on the
    held-out ones.
    `leave-site-out`, where the plan says so: each site that can be scored is a fold; people with relatives there are in
    neither part.
    `nested`, where there are refits: each of them is a fold, whose latents are those of its own encoder.

    Predictors: `latents`, `latents_draw` (if given; a mean over many draws), `dummy` (majority), `head_volume`,
    `brain_volume` (if given), `pca` (of the volumes, with as many components as there are latents), `voxel_svm_linear`,
    `voxel_svm_rbf` (two classes only); then those of the inputs and the plan: `untrained`, `latents_of_<another run>`,
    `confounds`, `latents_deconfounded`, `latents_size_matched`, `latents_harmonised`, `latents_<classifier>`, `cnn`.
    But for the last they are logistic regressions, or, for numbers, ridge regressions.

    In each repeat every person gets one out-of-fold score; figures are those inside a fold, the mean over folds (see
    `mrigen.probing.summaries.summarize`).

    Args:
        inputs: of n people.
        seed: of folds and fits.
        num_folds: reduced to the number of people (families) of the rarer class.
        num_repeats: of the cross-validation, each with other folds.
        progress: called as progress(done, total) after each fold.
        plan: classifiers, confounds, harmonise and leave_site_out are looked at here.
        predictors: others than those of the inputs and the plan.
        refits: the folds of the nested protocol; another run's latents have no row in it.
        notes: sentences about the people, for the result, beside those of the inputs and of the rows.

    Raises:
        UsageError: if arrays do not fit together or hold values that are not usable.
        CohortError: if a class has fewer than two people (families), or a family is in the held-out people and in
            those that the encoder was fitted on.

    References:
        Varoquaux 2018, Cross-validation failure: small sample sizes lead to large error bars, NeuroImage 180.
        Snoek, Miletic and Scholte 2019, How to control for confounds in decoding analyses, NeuroImage 184.
    """
    plan = plan or ProbePlan()
    inputs = checked(inputs, num_folds, num_repeats)
    targets, groups, target = inputs.targets, inputs.groups, inputs.target
    tasks = []  # protocol, repeat, fold, training rows, test rows
    for repeat in range(num_repeats):
        folds = target_folds(targets, groups, target, num_folds, seed, repeat)
        if not folds:
            raise CohortError(target.too_few(targets, groups))
        tasks += [(TRANSDUCTIVE, repeat, fold, train, test) for fold, (train, test) in enumerate(folds)]
    fold_rows = [
        {"repeat": repeat, "fold": fold, "participant_id": person}
        for _, repeat, fold, _, test in tasks
        for person in inputs.participant_ids[test]
    ]
    fitted, heldout = np.flatnonzero(inputs.split != "heldout"), np.flatnonzero(inputs.split == "heldout")
    num_subjects = {TRANSDUCTIVE: len(targets), HELDOUT: len(heldout)}
    if target.can_score(targets[fitted], targets[heldout]):
        tasks.append((HELDOUT, 0, 0, fitted, heldout))
    sites = site_folds(targets, groups, inputs.site, target) if plan.leave_site_out else {}
    tasks += [(LEAVE_SITE_OUT, 0, fold, train, test) for fold, (train, test) in enumerate(sites.values())]
    if sites:
        num_subjects[LEAVE_SITE_OUT] = sum(len(test) for _, test in sites.values())

    if refits:
        num_subjects[NESTED] = sum(len(refit.test) for refit in refits)
    said, row_notes = describe_rows(inputs, plan) if predictors is None else ((), {})
    total = len(tasks) + len(refits)
    with one_thread():
        predictors = predictors or build_rows(inputs, plan)
        parts = [score_tasks(inputs, tasks, predictors, seed, _within(progress, 0, total))]
        for fold, refit in enumerate(refits):
            own = dataclasses.replace(
                inputs, latents=refit.latents, latents_draw=refit.latents_draw, latents_against=None
            )
            rows = build_rows(own, plan)
            if "cnn" in rows:  # It does not depend on the encoder, and remembers its fit of the same fold.
                rows["cnn"] = predictors["cnn"]
            task = (NESTED, 0, fold, refit.train, refit.test)
            parts.append(score_tasks(own, [task], rows, seed, _within(progress, len(tasks) + fold, total)))
        scores, settings = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
        stand_ins = stand_ins_of(scores, inputs, predictors)
    return ProbeResult(
        scores=scores,
        folds=pd.DataFrame(fold_rows),
        settings=settings,
        predictors=tuple(predictors),
        num_subjects=num_subjects,
        seed=seed,
        target=target,
        site_folds=_table_of_sites(sites, inputs) if sites else None,
        nested_folds=_table_of_refits(refits, inputs) if refits else None,
        notes=(*inputs.notes, *said, *notes),
        row_notes=row_notes,
        stand_ins=stand_ins,
    )


def _within(progress: Callable[[int, int], None] | None, before: int, total: int):
    return None if progress is None else lambda done, _: progress(before + done, total)


def one_thread():
    """Returns a context in which linear algebra has one thread: there are thousands of small fits, which more threads
    make slower, and figures depend on their number."""
    return threadpool_limits(1, user_api="blas")


def score_tasks(
    inputs: ProbeInputs,
    tasks: Sequence[Task],
    predictors: dict[str, Predictor],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the tables `scores` and `settings` of a `ProbeResult`: each predictor in each of `tasks`.

    A predictor with an attribute `num_repeats` is only run in so many repeats of a cross-validation. A
    `DrawsPredictor` is run with each of its draws, in the one repeat that there is or some in each.

    Args:
        inputs: of n people, checked.
        tasks: protocol, repeat, fold, training rows, test rows.
        predictors: by name.
        seed: of the fits.
        progress: called as progress(done, total) after each task.
    """
    targets, target = inputs.targets, inputs.target
    tables, settings = [], []
    num_repeats = {protocol: 1 + max(task[1] for task in tasks if task[0] == protocol) for protocol, *_ in tasks}
    for done, (protocol, repeat, fold, train, test) in enumerate(tasks):
        for name, predictor in predictors.items():
            if repeat >= getattr(predictor, "num_repeats", repeat + 1):
                continue
            for draw, one in _draws(predictor, repeat, num_repeats[protocol]):
                result = one.fit_score(targets, inputs.groups, train, test, derived_seed(seed, repeat, fold + 1))
                columns = {"predictor": name, "protocol": protocol, "repeat": repeat, "fold": fold, "draw": draw}
                columns |= {"participant_id": inputs.participant_ids[test], "family": inputs.groups[test]}
                columns |= _columns(result, target) | {"target": targets[test]}
                tables.append(pd.DataFrame(columns))
                settings.append((name, protocol, repeat, fold, result.setting))
        if progress is not None:
            progress(done + 1, len(tasks))
    per_class = [class_column(name) for name in target.classes] if target.task == "multiclass" else []
    scores = _scored(pd.concat(tables, ignore_index=True))[[*SCORE_COLUMNS, DRAW, *per_class]]
    return scores, pd.DataFrame(settings, columns=["predictor", "protocol", "repeat", "fold", "setting"])


def _draws(predictor: Predictor, repeat: int, num_repeats: int) -> list[tuple[int, Predictor]]:
    """Returns the predictors to be run in a repeat, with the numbers of their draws."""
    if not isinstance(predictor, DrawsPredictor):
        return [(0, predictor)]
    # Repeats share the draws out; where there are more of them than draws, these come again.
    first, count = repeat % predictor.num_draws, predictor.num_draws
    return [(number, predictor.of_draw(number)) for number in range(first, count, num_repeats)]


def _columns(result: FoldScores, target: Target) -> dict[str, np.ndarray]:
    columns = {"score": result.score, "prediction": result.prediction}
    if target.task == "multiclass":
        columns["score"] = result.score[np.arange(len(result.score)), result.prediction]
        columns |= {class_column(name): result.score[:, label] for label, name in enumerate(target.classes)}
    return columns


def _scored(scores: pd.DataFrame) -> pd.DataFrame:
    """Leaves out the people whom a predictor did not score in each repeat."""
    unscored = scores[scores["score"].isna()]
    if not len(unscored):
        return scores
    keys = ["predictor", "protocol", "participant_id"]
    left_out = pd.MultiIndex.from_frame(scores[keys]).isin(pd.MultiIndex.from_frame(unscored[keys]))
    return scores[~left_out].reset_index(drop=True)


def _table_of_sites(sites: dict, inputs: ProbeInputs) -> pd.DataFrame:
    rows = [(site, person) for site, (_, test) in sites.items() for person in inputs.participant_ids[test]]
    return pd.DataFrame(rows, columns=["site", "participant_id"])


def _table_of_refits(refits: Sequence[Refit], inputs: ProbeInputs) -> pd.DataFrame:
    rows = [(fold, person) for fold, refit in enumerate(refits) for person in inputs.participant_ids[refit.test]]
    return pd.DataFrame(rows, columns=["fold", "participant_id"])
