"""Figures of one set of people against scikit-learn, and what people add to their error against leaving them out."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, mean_absolute_error, roc_auc_score

from mrigen.probing.measures import measure, pairwise_wins
from mrigen.probing.targets import SEX, Target

AGE, GROUP = Target("age", None), Target("group", ("a", "b", "c"))
TARGETS = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1])


def of_kind(target, count, seed=0):
    """Returns targets, scores and predictions of `count` people."""
    generator = np.random.default_rng(seed)
    if target.classes is None:
        targets = 40.0 + 10.0 * generator.normal(size=count)
        scores = targets + 5.0 * generator.normal(size=count) + 2.0
        return targets, scores, scores
    targets = np.arange(count) % len(target.classes)
    if target.task == "binary":
        scores = generator.normal(size=count) + targets
        return targets, scores, (scores > 0.5).astype(int)
    scores = generator.normal(size=(count, 3)) + (targets[:, None] == np.arange(3))
    return targets, scores, scores.argmax(axis=1)


@pytest.mark.parametrize("decimals", [8, 0], ids=["no ties", "ties"])
def test_figures_of_two_classes_equal_scikit_learn(decimals):
    scores = np.round(np.random.default_rng(0).normal(size=len(TARGETS)) + TARGETS, decimals)
    predictions = (scores > 0.4).astype(int)
    figures = measure(SEX, TARGETS, scores, predictions)
    assert figures["roc_auc"].value == pytest.approx(roc_auc_score(TARGETS, scores))
    assert figures["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(TARGETS, predictions))
    assert figures["accuracy"].value == pytest.approx(accuracy_score(TARGETS, predictions))


def test_figures_of_three_classes_equal_scikit_learn():
    targets, scores, predictions = of_kind(GROUP, 30)
    figures = measure(GROUP, targets, scores, predictions)
    areas = [roc_auc_score(targets == label, scores[:, label]) for label in range(3)]
    assert figures["roc_auc"].value == pytest.approx(np.mean(areas))
    assert figures["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(targets, predictions))


def test_figures_of_numbers_equal_scikit_learn():
    targets, scores, _ = of_kind(AGE, 30)
    figures = measure(AGE, targets, scores, scores)
    assert figures["mae"].value == pytest.approx(mean_absolute_error(targets, scores))
    assert figures["r"].value == pytest.approx(np.corrcoef(targets, scores)[0, 1])
    assert figures["r2"].value == pytest.approx(1.0 - np.mean((targets - scores) ** 2) / targets.var(ddof=1))


def test_predictions_that_do_not_differ_follow_nothing():
    targets = np.arange(10.0)
    assert measure(AGE, targets, np.full(10, 4.5), np.full(10, 4.5))["r"].value == 0.0


@pytest.mark.parametrize("target", [SEX, GROUP, AGE], ids=["two classes", "three classes", "numbers"])
def test_influence_is_what_the_figure_loses_without_the_person(target):
    targets, scores, predictions = of_kind(target, 300)
    figures = measure(target, targets, scores, predictions)
    for metric, figure in figures.items():
        without = np.array(
            [measure(target, *(np.delete(part, row, axis=0) for part in (targets, scores, predictions)))[metric].value
             for row in range(300)]
        )  # fmt: skip
        found = figure.influence
        assert found.sum() == pytest.approx(0.0, abs=1e-12)
        assert np.corrcoef(figure.value - without, found)[0, 1] > 0.999, metric
        assert (figure.value - without).std() == pytest.approx(found.std(), rel=0.05), metric


def test_equal_scores_are_worth_one_half():
    assert pairwise_wins(np.zeros(2), np.zeros(3)).tolist() == np.full((2, 3), 0.5).tolist()


@pytest.mark.parametrize("targets", [[1], [1, 1, 1]])
def test_one_class_has_no_figures(targets):
    assert measure(SEX, np.array(targets), np.zeros(len(targets)), np.zeros(len(targets), int)) is None
