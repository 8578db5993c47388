"""Which predictors a probe compares."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrigen.errors import CohortError, UsageError
from mrigen.probing.confounds import FEWEST_PAIRS, LEAST_TRUE, AmongPredictor, calibrated_size, match_sizes
from mrigen.probing.deconfounding import DeconfoundedPredictor, KernelModel, LinearModel, beside_target, true_share
from mrigen.probing.harmonise import harmonised
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.learners import (
    ClassifierPredictor,
    MajorityClassPredictor,
    MeanPredictor,
    RidgePredictor,
    SoftmaxPredictor,
)
from mrigen.probing.plan import ProbePlan
from mrigen.probing.predictors import (
    DrawsPredictor,
    KernelSVMPredictor,
    LogisticPredictor,
    MajorityPredictor,
    Predictor,
    PrincipalComponents,
    StandardizedVoxels,
)
from mrigen.probing.reliability import LOWEST
from mrigen.probing.targets import Target

# The row of latents without confounds whose measures are taken as little reliable.
BOUND = f"latents_deconfounded_at_{LOWEST:g}"


def learner_of(target: Target) -> Callable[..., Predictor]:
    """Returns the linear predictor of a kind of target, a function of features."""
    return {
        "binary": LogisticPredictor,
        "multiclass": functools.partial(SoftmaxPredictor, num_classes=len(target.classes or ())),
        "regression": functools.partial(RidgePredictor, target=target),
    }[target.task]


def build_rows(inputs: ProbeInputs, plan: ProbePlan) -> dict[str, Predictor]:
    """Returns the predictors by name, in the order of the rows; see `run_probe`.

    Raises:
        UsageError: classifiers for numbers. CohortError: one site to be harmonised.
    """
    target = inputs.target
    learn = learner_of(target)
    rows: dict[str, Predictor] = {"latents": learn(inputs.latents)}
    if inputs.latents_draw is not None:
        rows["latents_draw"] = DrawsPredictor(learn, inputs.latents_draw, inputs.latents.shape[1])
    rows["dummy"] = _dummy(target)
    rows["head_volume"] = learn(inputs.head_volume[:, None])
    if inputs.brain_volume is not None:
        rows["brain_volume"] = learn(inputs.brain_volume[:, None])
    components = PrincipalComponents(inputs.volumes, inputs.latents.shape[1])
    rows["pca"] = learn(components)
    voxels = StandardizedVoxels(inputs.volumes)
    if target.task == "binary":
        rows["voxel_svm_linear"] = KernelSVMPredictor(voxels, "linear")
        rows["voxel_svm_rbf"] = KernelSVMPredictor(voxels, "rbf")
    if inputs.latents_untrained is not None:
        rows["untrained"] = learn(inputs.latents_untrained)
    if inputs.latents_against is not None:
        rows[against_row(plan)] = learn(inputs.latents_against)
    if inputs.confounds is not None:
        rows |= _rows_of_confounds(inputs, plan, components, voxels)
    if target.classes is None:
        rows["latents_bias_corrected"] = RidgePredictor(inputs.latents, target, bias_corrected=True)
    if plan.harmonise:
        if len(np.unique(inputs.site)) < 2:
            raise CohortError(
                "got one site, expected at least two. Leave out `harmonise`.", parameter="harmonise='site'"
            )
        rows["latents_harmonised"] = learn(harmonised(inputs.latents, inputs.site))
    if plan.classifiers and target.classes is None:
        raise UsageError(
            f"got {', '.join(plan.classifiers)} for the numbers of {target.name}, expected a target of classes. "
            "Leave them out.",
            parameter="classifiers",
        )
    for name in plan.classifiers:
        if name != "logistic":  # the row `latents`
            rows[f"latents_{name}"] = ClassifierPredictor(name, inputs.latents, len(target.classes))
    if plan.cnn:
        from mrigen.probing.cnn import CNNPredictor  # What permutes labels in other processes needs no TensorFlow.

        rows["cnn"] = CNNPredictor(inputs.volumes, inputs.volume_shape, inputs.zooms, target)
    return rows


def _rows_of_confounds(
    inputs: ProbeInputs, plan: ProbePlan, components: PrincipalComponents, voxels: StandardizedVoxels
) -> dict[str, Predictor]:
    target, confounds = inputs.target, inputs.confounds
    learn = learner_of(target)
    # As many copies of the confounds as there are latents: what is penalised is the choice among latents.
    copies = np.tile(confounds, max(1, inputs.latents.shape[1] // confounds.shape[1]))
    rows = {"confounds": learn(confounds), "confounds_and_latents": learn(np.hstack([inputs.latents, copies]))}
    known = None if inputs.confounds_known is None else np.flatnonzero(inputs.confounds_known)

    def without(model, otherwise: float = 1.0) -> Predictor:
        said = _reliability(inputs)
        exact, reliability = ([least if value is None else value for value in said] for least in (1.0, otherwise))
        predictor = DeconfoundedPredictor(model, confounds, reliability, target, learned_with=exact)
        return predictor if known is None else AmongPredictor(predictor, known, target)

    rows["latents_deconfounded"] = without(LinearModel(inputs.latents, target))
    if None in _reliability(inputs):
        rows[BOUND] = without(LinearModel(inputs.latents, target), LOWEST)
    rows["pca_deconfounded"] = without(LinearModel(components, target))
    if target.task == "binary":
        rows["voxel_svm_linear_deconfounded"] = without(KernelModel(voxels))
        matched = matched_people(inputs, plan)
        if matched is not None and len(matched) >= 2 * FEWEST_PAIRS:
            rows["latents_size_matched"] = AmongPredictor(learn(inputs.latents), matched)
    return rows


def matched_people(inputs: ProbeInputs, plan: ProbePlan) -> np.ndarray | None:
    """Returns the rows of people who are matched in size; None where no size is among the confounds.

    Where the reliability of the size is known, they are matched in the true size that is to be expected.
    """
    found = _size(inputs, plan)
    if found is None:
        return None
    name, size = found
    known = np.flatnonzero(np.isfinite(size))
    targets, size = inputs.targets[known], size[known]
    reliability = _reliability_of(inputs, name)
    if reliability is not None:
        size = calibrated_size(targets, size, reliability)
    return known[match_sizes(targets, size)]


def describe_rows(inputs: ProbeInputs, plan: ProbePlan) -> tuple[tuple[str, ...], dict[str, str]]:
    """Returns sentences about the rows of a probe, and predictor -> a few words about its row."""
    if inputs.confounds is None:
        reason = inputs.confounds_refused
        return (() if reason is None else (f"There are no rows of confounds: {reason}",)), {}
    notes, about = [], {}
    reliability = _reliability(inputs)
    names = inputs.confound_names or tuple(plan.confounds)
    by_name = _by_confound(names, reliability)
    unsure = sorted(name for name, value in by_name.items() if value is None)
    if unsure:
        which = " and ".join(unsure)
        notes.append(
            f"How reliably {which} is measured was not said. `latents_deconfounded` takes it as exact, and leaves in "
            f"the latents what the measure misses; `{BOUND}` takes {LOWEST:g} of its variance as true. The truth lies "
            f"between the two. Say it with `reliability`, for example `reliability={{{unsure[0]!r}: 0.8}}`."
        )
        for name in ("latents_deconfounded", "pca_deconfounded", "voxel_svm_linear_deconfounded"):
            about[name] = f"{which} taken as exact: an upper bound"
        about[BOUND] = f"reliability of {which} taken as {LOWEST:g}: a lower bound"
    said = {name: value for name, value in by_name.items() if value not in (None, 1.0)}
    if said:
        words = ", ".join(f"{name} {value:.2f}" for name, value in said.items())
        for name in ("latents_deconfounded", "pca_deconfounded", "voxel_svm_linear_deconfounded"):
            about.setdefault(name, f"reliability: {words}")
    for name, value, share in _impossible(inputs, names, reliability):
        notes.append(
            f"{name} differs by {inputs.target.name} by more than a reliability of {value:.2g} allows (of its variance "
            f"among people who are alike in {inputs.target.name}, {max(share, 0.0):.0%} would be true): "
            f"{LEAST_TRUE:.0%} is taken instead."
        )
    found = _size(inputs, plan) if inputs.target.task == "binary" else None
    if found is not None:
        matched, name = matched_people(inputs, plan), found[0]
        if len(matched) < 2 * FEWEST_PAIRS:
            notes.append(
                f"{len(matched) // 2} pairs are matched in {name}, fewer than {FEWEST_PAIRS}: there is no row "
                "`latents_size_matched`."
            )
        else:
            exact = _reliability_of(inputs, name)
            how = f"measured {name}: what the measure misses is not matched" if exact is None else (
                f"the true {name} to be expected at a reliability of {exact:.2g}"
            )  # fmt: skip
            lost, total = len(inputs.targets) - len(matched), len(inputs.targets)
            about["latents_size_matched"] = f"matched in {how}; {lost} of {total} people have no partner"
    return tuple(notes), about


def _reliability(inputs: ProbeInputs) -> tuple[float | None, ...]:
    return (1.0,) * inputs.confounds.shape[1] if inputs.reliability is None else tuple(inputs.reliability)


def _reliability_of(inputs: ProbeInputs, name: str) -> float | None:
    return _by_confound(inputs.confound_names, _reliability(inputs)).get(name)


def _by_confound(names, reliability) -> dict[str, float | None]:
    """Returns the reliability of each confound: that of its first column (the second says who is unknown)."""
    return dict(reversed(list(zip(names, reliability, strict=False))))


def _impossible(inputs, names, reliability) -> list[tuple[str, float, float]]:
    """Returns name, reliability and true share within classes of the confounds of which too little would be true."""
    values = np.array([LOWEST if value is None else value for value in reliability])
    shares = true_share(inputs.confounds, beside_target(inputs.targets, inputs.target), values)
    return [
        (name, float(value), float(share))
        for name, value, share in zip(names, values, shares, strict=False)
        if share < LEAST_TRUE
    ]


def _size(inputs: ProbeInputs, plan: ProbePlan) -> tuple[str, np.ndarray] | None:
    if "head_size" in plan.confounds:
        return "head_size", inputs.head_volume
    if "brain_volume_ml" in plan.confounds and inputs.brain_volume is not None:
        return "brain_volume_ml", inputs.brain_volume
    return None


def against_row(plan: ProbePlan) -> str:
    """Returns the name of the row of another run's latents."""
    return f"latents_of_{Path(plan.against).resolve().name}"


def _dummy(target: Target) -> Predictor:
    if target.classes is None:
        return MeanPredictor()
    return MajorityPredictor() if target.task == "binary" else MajorityClassPredictor(len(target.classes))
