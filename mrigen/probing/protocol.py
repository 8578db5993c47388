"""The probe: how well latents tell the sex of a person, cross-validated, beside baselines in the same folds."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mrigen.errors import CohortError, UsageError
from mrigen.probing.intervals import METRICS, percentile_interval, summarize_scores
from mrigen.probing.predictors import (
    KernelSVMPredictor,
    LogisticPredictor,
    MajorityPredictor,
    Predictor,
    PrincipalComponents,
    StandardizedVoxels,
    stratified_group_folds,
)

TRANSDUCTIVE, HELDOUT = "transductive", "heldout"
PROTOCOLS = {
    TRANSDUCTIVE: "repeated cross-validation over all people; transductive: the encoder saw images of test people",
    HELDOUT: "encoder and probe fitted on training and validation people, scored once on held-out people",
}
SPLITS = ("train", "validation", "heldout")
SCORE_COLUMNS = ("predictor", "protocol", "repeat", "participant_id", "score", "prediction", "target")


@dataclasses.dataclass(frozen=True)
class ProbeInputs:
    """What a probe is run on: plain arrays, one row a person.

    Attributes:
        participant_ids: (n,) str, all different.
        target: (n,) int, 0 (F) or 1 (M).
        groups: (n,) str, the family, or the person's own id; a group is never on both sides of a fold.
        site: (n,) str. Not used by the two protocols; carried for probes of the site itself.
        split: (n,) str, 'train', 'validation' or 'heldout': what the encoder was fitted on ('train', with
            'validation' for early stopping).
        latents: (n, d) float32, posterior means.
        latents_draw: (n, d) float32, one draw from each posterior; None for plain autoencoders.
        volumes: (n, D) float32, the flattened volumes on the grid of the model.
        head_volume: (n,) float, ml.
        brain_volume: (n,) float, ml, or None.
    """

    participant_ids: np.ndarray
    target: np.ndarray
    groups: np.ndarray
    site: np.ndarray
    split: np.ndarray
    latents: np.ndarray
    latents_draw: np.ndarray | None
    volumes: np.ndarray
    head_volume: np.ndarray
    brain_volume: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """Every score a probe gave, and the figures made of them.

    Attributes:
        scores: one row a predictor, protocol, repeat and person: `SCORE_COLUMNS`. Scores are log-odds (logistic) or
            scaled decision values (support vector machines); larger means class 1 (M).
        folds: repeat, fold, participant_id: the people that the transductive protocol tests in each fold; one table,
            because it is the same for every predictor.
        settings: predictor, protocol, repeat, fold, setting: the regularisation chosen inside each training part.
        predictors: names, in the order of the rows.
        num_subjects: protocol -> people scored, or that would have been.
        num_bootstrap, seed: of the intervals.
    """

    scores: pd.DataFrame
    folds: pd.DataFrame
    settings: pd.DataFrame
    predictors: tuple[str, ...]
    num_subjects: dict[str, int]
    num_bootstrap: int
    seed: int

    @functools.cached_property
    def _summaries(self) -> dict[tuple[str, str], dict]:
        scored = dict(list(self.scores.groupby(["protocol", "predictor"])))
        nobody = self.scores.iloc[:0]
        return {
            (protocol, name): summarize_scores(scored.get((protocol, name), nobody), self.num_bootstrap, self.seed)
            for protocol in PROTOCOLS
            for name in self.predictors
        }

    def rows(self) -> list[dict]:
        """Returns one dict a protocol and predictor: the figures and their 95 % intervals, ready for JSON.

        Figures are None, and intervals [None, None], for a protocol that could not be run.
        """
        return [
            {"predictor": name, "protocol": protocol}
            | {key: value for metric in METRICS for key, value in self._figures(protocol, name, metric)}
            | {"num_subjects": self.num_subjects[protocol]}
            for protocol in PROTOCOLS
            for name in self.predictors
        ]

    def _figures(self, protocol: str, name: str, metric: str) -> list[tuple[str, object]]:
        summary = self._summaries[protocol, name][metric]
        return [(metric, summary["value"]), (f"{metric}_ci", list(summary["ci"]))]

    def comparisons(self) -> list[dict]:
        """Returns `paired_difference` of `latents` against each other predictor, by protocol, AUC and accuracy."""
        return [
            paired_difference(self, "latents", other, protocol, metric)
            for protocol in PROTOCOLS
            for other in self.predictors
            if other != "latents"
            for metric in ("roc_auc", "balanced_accuracy")
        ]


def paired_difference(result: ProbeResult, a: str, b: str, protocol: str, metric: str = "roc_auc") -> dict:
    """Returns how much better predictor `a` is than `b` for the same people, with a 95 % interval.

    Both are computed on the same resamples of people, so what makes a person easy for both cancels.

    Args:
        result: of `run_probe`.
        a, b: names of predictors.
        protocol: 'transductive' or 'heldout'.
        metric: 'roc_auc', 'balanced_accuracy' or 'accuracy'.

    Returns:
        predictor, baseline, protocol, metric, difference (a - b), ci [low, high], num_subjects; difference None and
        ci [None, None] for a protocol that could not be run.

    Raises:
        UsageError: for a name that `result` does not have.
    """
    for what, name, known in (
        ("predictor", a, result.predictors),
        ("predictor", b, result.predictors),
        ("protocol", protocol, tuple(PROTOCOLS)),
        ("metric", metric, METRICS),
    ):
        if name not in known:
            raise UsageError(
                f"paired_difference: {what}: got {name!r}, expected one of {', '.join(known)}. Name one of these."
            )
    first, second = (result._summaries[protocol, name][metric] for name in (a, b))
    difference, interval = None, [None, None]
    if first["value"] is not None and second["value"] is not None:
        difference = first["value"] - second["value"]
        interval = percentile_interval(first["samples"] - second["samples"])
    return {
        "predictor": a,
        "baseline": b,
        "protocol": protocol,
        "metric": metric,
        "difference": difference,
        "ci": interval,
        "num_subjects": result.num_subjects[protocol],
    }


def run_probe(
    inputs: ProbeInputs,
    *,
    seed: int = 0,
    num_folds: int = 5,
    num_repeats: int = 5,
    num_bootstrap: int = 2000,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Returns the probe of `inputs`: each predictor in both protocols, all in the same folds.

    `transductive`: repeated stratified group k-fold over all people. Everything of the probe (scaling, principal
    components, the choice of regularisation) is fitted inside the training part of the fold; only the encoder was
    fitted on images (never labels) of people that are tested, hence the name.
    `heldout`: the probe is fitted on the training and validation people of the encoder and scored once on the
    held-out ones.

    Predictors: `latents`, `latents_draw` (if given), `dummy` (majority), `head_volume`, `brain_volume` (if given),
    `pca` (of the volumes, with as many components as there are latents), `voxel_svm_linear`, `voxel_svm_rbf`.

    In each repeat every person gets one out-of-fold score, and the scores of all folds are pooled. Log-odds may be
    pooled as they are; decision values of support vector machines are scaled first (see `KernelSVMPredictor`).

    Args:
        inputs: of n people.
        seed: of folds and resamples.
        num_folds: reduced to the number of people (families) of the rarer class.
        num_repeats: of the cross-validation, each with other folds.
        num_bootstrap: resamples of people for the intervals.
        progress: called as progress(done, total) after each fold.

    Raises:
        UsageError: if arrays do not fit together or hold values that are not usable.
        CohortError: if a class has fewer than two people (families), or a family is in the held-out people and in
            those that the encoder was fitted on.

    References:
        Varoquaux 2018, Cross-validation failure: small sample sizes lead to large error bars, NeuroImage 180.
        Snoek, Miletic and Scholte 2019, How to control for confounds in decoding analyses, NeuroImage 184.
    """
    inputs = _checked(inputs, num_folds, num_repeats, num_bootstrap)
    target, groups = inputs.target, inputs.groups
    tasks = []  # protocol, repeat, fold, training rows, test rows
    for repeat in range(num_repeats):
        folds = stratified_group_folds(target, groups, num_folds, _derived_seed(seed, repeat))
        if not folds:
            raise CohortError(_too_few(target, groups))
        tasks += [(TRANSDUCTIVE, repeat, fold, train, test) for fold, (train, test) in enumerate(folds)]
    fold_rows = [
        {"repeat": repeat, "fold": fold, "participant_id": person}
        for _, repeat, fold, _, test in tasks
        for person in inputs.participant_ids[test]
    ]
    fitted, heldout = np.flatnonzero(inputs.split != "heldout"), np.flatnonzero(inputs.split == "heldout")
    if all(len(np.unique(target[rows])) == 2 for rows in (fitted, heldout)):
        tasks.append((HELDOUT, 0, 0, fitted, heldout))

    # Thousands of small fits: more BLAS threads make them slower, and figures depend on their number.
    with threadpool_limits(1, user_api="blas"):
        predictors = _predictors(inputs)
        score_tables, settings = [], []
        for done, (protocol, repeat, fold, train, test) in enumerate(tasks):
            for name, predictor in predictors.items():
                result = predictor.fit_score(target, groups, train, test, _derived_seed(seed, repeat, fold + 1))
                score_tables.append(
                    pd.DataFrame(
                        {
                            "predictor": name,
                            "protocol": protocol,
                            "repeat": repeat,
                            "participant_id": inputs.participant_ids[test],
                            "score": result.score,
                            "prediction": result.prediction,
                            "target": target[test],
                        }
                    )
                )
                settings.append((name, protocol, repeat, fold, result.setting))
            if progress is not None:
                progress(done + 1, len(tasks))
    return ProbeResult(
        scores=pd.concat(score_tables, ignore_index=True)[list(SCORE_COLUMNS)],
        folds=pd.DataFrame(fold_rows),
        settings=pd.DataFrame(settings, columns=["predictor", "protocol", "repeat", "fold", "setting"]),
        predictors=tuple(predictors),
        num_subjects={TRANSDUCTIVE: len(target), HELDOUT: len(heldout)},
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def _predictors(inputs: ProbeInputs) -> dict[str, Predictor]:
    predictors: dict[str, Predictor] = {"latents": LogisticPredictor(inputs.latents)}
    if inputs.latents_draw is not None:
        predictors["latents_draw"] = LogisticPredictor(inputs.latents_draw)
    predictors["dummy"] = MajorityPredictor()
    predictors["head_volume"] = LogisticPredictor(inputs.head_volume[:, None])
    if inputs.brain_volume is not None:
        predictors["brain_volume"] = LogisticPredictor(inputs.brain_volume[:, None])
    predictors["pca"] = LogisticPredictor(PrincipalComponents(inputs.volumes, inputs.latents.shape[1]))
    voxels = StandardizedVoxels(inputs.volumes)
    predictors["voxel_svm_linear"] = KernelSVMPredictor(voxels, "linear")
    predictors["voxel_svm_rbf"] = KernelSVMPredictor(voxels, "rbf")
    return predictors


def _derived_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _too_few(target: np.ndarray, groups: np.ndarray) -> str:
    count = {label: len(np.unique(groups[target == label])) for label in (0, 1)}
    return (
        f"probe: target: got {count[0]} F and {count[1]} M (families counted once), expected at least 2 of each that "
        "can be put into different folds. Label more people, or leave out the probe."
    )


def _checked(inputs: ProbeInputs, num_folds: int, num_repeats: int, num_bootstrap: int) -> ProbeInputs:
    """Returns `inputs` as arrays of the right types; raises all faults together."""
    faults = [
        f"run_probe: {name}: got {value!r}, expected an integer >= {least}. Set for example {example}."
        for name, value, least, example in (
            ("num_folds", num_folds, 2, 5),
            ("num_repeats", num_repeats, 1, 5),
            ("num_bootstrap", num_bootstrap, 1, 2000),
        )
        if not isinstance(value, (int, np.integer)) or value < least
    ]
    arrays = {}
    num_people = len(inputs.participant_ids)
    for field in dataclasses.fields(ProbeInputs):
        value = getattr(inputs, field.name)
        if value is None and field.name in ("latents_draw", "brain_volume"):
            arrays[field.name] = None
            continue
        is_text = field.name in ("participant_ids", "groups", "site", "split")
        array = np.asarray(value).astype(str) if is_text else np.asarray(value)
        num_axes = 2 if field.name in ("latents", "latents_draw", "volumes") else 1
        arrays[field.name] = array
        if array.ndim != num_axes or len(array) != num_people or array.size == 0:
            expected = f"({num_people},)" if num_axes == 1 else f"({num_people}, at least 1)"
            faults.append(
                f"ProbeInputs: {field.name}: got shape {array.shape}, expected {expected}. Give one row a person."
            )
        elif not is_text and not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            faults.append(f"ProbeInputs: {field.name}: got dtype {array.dtype}, expected numbers. Convert the values.")
        elif not is_text and not _finite_rows(array).all():
            people = arrays["participant_ids"][~_finite_rows(array)]
            faults.append(
                f"ProbeInputs: {field.name}: got NaN or infinity for {_some(people)}, expected finite numbers. "
                "Leave out these people, or the predictor."
            )
    if not faults:
        faults += _value_faults(arrays)
    if faults:
        raise UsageError(faults)
    arrays["target"] = arrays["target"].astype(int)
    arrays["volumes"] = arrays["volumes"].astype(np.float32, copy=False)
    split_groups = np.unique(arrays["groups"][arrays["split"] == "heldout"])
    shared = np.intersect1d(split_groups, arrays["groups"][arrays["split"] != "heldout"])
    if len(shared):
        raise CohortError(
            f"probe: groups: got {_some(shared)} in the held-out people and in those of training or validation, "
            "expected each family on one side. Split the cohort by family and fit again."
        )
    return ProbeInputs(**arrays)


def _value_faults(arrays: dict[str, np.ndarray]) -> list[str]:
    faults = []
    ids, counts = np.unique(arrays["participant_ids"], return_counts=True)
    if counts.max() > 1:
        faults.append(
            f"ProbeInputs: participant_ids: got {_some(ids[counts > 1])} more than once, expected one row a person. "
            "Choose one session of each person."
        )
    for name, known in (("target", (0, 1)), ("split", SPLITS)):
        unknown = np.setdiff1d(arrays[name], known)
        if len(unknown):
            faults.append(
                f"ProbeInputs: {name}: got {_some(unknown)}, expected only {', '.join(map(str, known))}. "
                "Leave out the other people."
            )
    return faults


def _finite_rows(array: np.ndarray) -> np.ndarray:
    """Returns which rows are finite, (n,) bool, row by row: volumes are large."""
    return np.array([np.isfinite(row).all() for row in array], bool)


def _some(values: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"
