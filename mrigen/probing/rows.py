"""Which predictors a probe compares."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrigen.errors import CohortError, UsageError
from mrigen.probing.confounds import FEWEST_PAIRS, AmongPredictor, deconfounded, match_sizes
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
from mrigen.probing.targets import Target

logger = logging.getLogger(__name__)


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
    rows["pca"] = learn(PrincipalComponents(inputs.volumes, inputs.latents.shape[1]))
    if target.task == "binary":
        voxels = StandardizedVoxels(inputs.volumes)
        rows["voxel_svm_linear"] = KernelSVMPredictor(voxels, "linear")
        rows["voxel_svm_rbf"] = KernelSVMPredictor(voxels, "rbf")
    if inputs.latents_untrained is not None:
        rows["untrained"] = learn(inputs.latents_untrained)
    if inputs.latents_against is not None:
        rows[against_row(plan)] = learn(inputs.latents_against)
    if inputs.confounds is not None:
        rows["confounds"] = learn(inputs.confounds)
        rows["latents_deconfounded"] = learn(deconfounded(inputs.latents, inputs.confounds))
        if "head_size" in plan.confounds and target.task == "binary":
            matched = match_sizes(inputs.targets, inputs.head_volume)
            if len(matched) < 2 * FEWEST_PAIRS:
                logger.warning(
                    "%d pairs are matched in head size, too few for the row latents_size_matched", len(matched) // 2
                )
            else:
                rows["latents_size_matched"] = AmongPredictor(learn(inputs.latents), matched)
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


def against_row(plan: ProbePlan) -> str:
    """Returns the name of the row of another run's latents."""
    return f"latents_of_{Path(plan.against).resolve().name}"


def _dummy(target: Target) -> Predictor:
    if target.classes is None:
        return MeanPredictor()
    return MajorityPredictor() if target.task == "binary" else MajorityClassPredictor(len(target.classes))
