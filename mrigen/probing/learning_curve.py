"""How the figures of a probe grow with the number of people it learns from."""

from collections.abc import Callable

import numpy as np

from mrigen.probing.curves import LearningCurve
from mrigen.probing.folds import derived_seed, target_folds
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.predictors import Predictor
from mrigen.probing.protocol import one_thread, score_tasks
from mrigen.probing.score_table import TRANSDUCTIVE
from mrigen.probing.summaries import summarize

ROWS = ("latents", "head_volume", "voxel_svm_linear")
FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
# With fewer, inner folds choose by accident.
FEWEST_PEOPLE = 10


def learning_curve(
    inputs: ProbeInputs,
    predictors: dict[str, Predictor],
    *,
    seed: int = 0,
    num_folds: int = 5,
    num_repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> LearningCurve:
    """Returns the figures of predictors that learn from a part of the training people of each fold.

    Folds and test people are those of the transductive protocol. The parts of a fold are nested: a larger one holds
    every smaller one. Families stay whole, and classes in proportion.

    Args:
        inputs: checked.
        predictors: by name.
        seed, num_folds, num_repeats: see `run_probe`.
        progress: called as progress(done, total) after each fold.
    """
    targets, groups, target = inputs.targets, inputs.groups, inputs.target
    folds = [
        (repeat, fold, train, test)
        for repeat in range(num_repeats)
        for fold, (train, test) in enumerate(target_folds(targets, groups, target, num_folds, seed, repeat))
    ]
    orders = [
        training_order(target.strata(targets), groups, train, derived_seed(seed, 30, repeat, fold))
        for repeat, fold, train, _ in folds
    ]
    smallest = min(len(train) for _, _, train, _ in folds)
    fractions = [part for part in FRACTIONS if part == 1.0 or part * smallest >= FEWEST_PEOPLE]
    rows = []
    for done, fraction in enumerate(fractions):
        tasks, counts = [], []
        for (repeat, fold, train, test), order in zip(folds, orders, strict=True):
            part = train if fraction == 1.0 else first_families(order, groups, round(fraction * len(train)))
            counts.append(len(part))
            tasks.append((TRANSDUCTIVE, repeat, fold, part, test))
        report = None
        if progress is not None:
            report = lambda step, total, done=done: progress(done * total + step, len(fractions) * total)  # noqa: E731
        with one_thread():
            scores, _ = score_tasks(inputs, tasks, predictors, seed, report)
        for name in predictors:
            row = {"predictor": name, "num_training": float(np.mean(counts))}
            summary = summarize(scores[scores["predictor"] == name], target, row["num_training"])
            for metric in target.metrics:
                row |= {metric: summary.value(metric), f"{metric}_ci": summary.interval(metric)}
            rows.append(row)
    return LearningCurve(tuple(rows), target)


def training_order(strata: np.ndarray, groups: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """Returns the training rows in an order whose every beginning has classes in proportion, relatives in a row.

    Args:
        strata: (n,) int, by what parts are stratified.
        groups: (n,) str, families.
        train: rows.
        seed: of the order.
    """
    generator = np.random.default_rng(seed)
    names, first = np.unique(groups[train], return_index=True)
    label = strata[train][first]  # a family counts with the class of its first member
    position = np.empty(len(names))
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        # As when cards of two unequal packs are laid out evenly.
        position[members] = (generator.permutation(len(members)) + generator.uniform()) / len(members)
    by_family = {name: train[groups[train] == name] for name in names}
    return np.concatenate([by_family[name] for name in names[np.argsort(position, kind="stable")]])


def first_families(order: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Returns the first `count` rows of `order`, and the relatives of the last of them, sorted."""
    chosen = order[: max(1, count)]
    return np.sort(order[: len(chosen) + int(np.isin(groups[order[len(chosen) :]], groups[chosen]).sum())])
