"""The figures of a predictor on one set of test people, and what each of them adds to the error of a figure."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mrigen.probing.score_table import class_column
from mrigen.probing.targets import Target


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of some test people.

    Attributes:
        value: the figure.
        influence: (n,) what each person adds to its error: the figure's derivative by the person's weight, over n. They
            sum to zero; the sum of their squares is the variance of the figure among other people of the kind (for the
            ROC AUC that of DeLong et al. but for factors n / (n - 1)).
    """

    value: float
    influence: np.ndarray

    def __sub__(self, other: "Figure") -> "Figure":
        """Returns the paired difference for the same people."""
        return Figure(self.value - other.value, self.influence - other.influence)

    @staticmethod
    def mean(figures: Sequence["Figure"]) -> "Figure":
        """Returns the mean of figures of the same people."""
        return Figure(
            float(np.mean([figure.value for figure in figures])),
            np.mean([figure.influence for figure in figures], axis=0),
        )


def measure(
    target: Target, targets: np.ndarray, scores: np.ndarray, predictions: np.ndarray
) -> dict[str, Figure] | None:
    """Returns each of `target.metrics`; None where the people are too few, or alike.

    Args:
        target: what is predicted.
        targets: (n,).
        scores: (n,), larger means class 1; for three or more classes (n, classes); predictions of numbers.
        predictions: (n,).

    References:
        DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated receiver operating
        characteristic curves, Biometrics 44.
    """
    if target.classes is None:
        return _of_numbers(targets.astype(np.float64), scores) if np.ptp(targets) > 0 else None
    labels = np.unique(targets)
    if len(labels) < 2:
        return None
    correct = (predictions == targets).astype(np.float64)
    shares = [_mean_of(correct, targets == label) for label in labels]
    if target.task == "binary":
        areas = [roc_auc(targets == 1, scores)]
    else:
        areas = [roc_auc(targets == label, scores[:, label]) for label in labels]
    return {"balanced_accuracy": _average(shares), "roc_auc": _average(areas), "accuracy": _mean_of(correct)}


def pairwise_wins(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Returns (m, n) float64: 1 where score i of the first lies above score j of the second, 0.5 where they tie."""
    return (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)


def roc_auc(is_positive: np.ndarray, scores: np.ndarray) -> Figure:
    """Returns the ROC AUC (the Mann-Whitney statistic) of scores (n,); both classes are there."""
    wins = pairwise_wins(scores[is_positive], scores[~is_positive])
    value, influence = float(wins.mean()), np.zeros(len(scores))
    influence[is_positive] = (wins.mean(axis=1) - value) / wins.shape[0]
    influence[~is_positive] = (wins.mean(axis=0) - value) / wins.shape[1]
    return Figure(value, influence)


def _mean_of(values: np.ndarray, chosen: np.ndarray | None = None) -> Figure:
    chosen = np.ones(len(values), bool) if chosen is None else chosen
    mean = float(values[chosen].mean())
    return Figure(mean, np.where(chosen, (values - mean) / chosen.sum(), 0.0))


def _average(figures: list[Figure]) -> Figure:
    values, influences = zip(*((figure.value, figure.influence) for figure in figures), strict=True)
    return Figure(float(np.mean(values)), np.mean(influences, axis=0))


def _of_numbers(targets: np.ndarray, predicted: np.ndarray) -> dict[str, Figure]:
    count, error = len(targets), (predicted - targets) ** 2
    squares, squares_without = _products(targets, targets)
    value = 1.0 - error.mean() / (squares / (count - 1))
    without = 1.0 - (error.sum() - error) / (count - 1) / np.maximum(squares_without / max(count - 2, 1), 1e-300)
    return {
        "mae": _mean_of(np.abs(predicted - targets)),
        "r": _correlation(targets, predicted),
        "r2": _left_out(value, without),
    }


def _correlation(targets: np.ndarray, predicted: np.ndarray) -> Figure:
    if not predicted.std() > 1e-12:
        return Figure(0.0, np.zeros(len(targets)))  # Predictions that do not differ follow nothing.
    both, first, second = (_products(*pair) for pair in
                           ((targets, predicted), (targets, targets), (predicted, predicted)))  # fmt: skip
    value, without = (xy / np.sqrt(np.maximum(xx * yy, 1e-300)) for xy, xx, yy in zip(both, first, second, strict=True))
    return _left_out(float(value), without)


def _products(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the sum of products about the means, of all n people and (n,) of all but each."""
    products = (x - x.mean()) * (y - y.mean())
    return products.sum(), products.sum() - products * len(x) / (len(x) - 1.0)


def _left_out(value: float, without: np.ndarray) -> Figure:
    """Returns a figure from what it is without each person, (n,).

    Its derivatives by people's weights would do for many people, but a fold has a dozen, whose own means and deviations
    are in the figure.
    """
    away = without.mean() - without
    return Figure(float(value), away * (len(without) - 1.0) / len(without))


def columns_of(table: pd.DataFrame, target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns targets, scores and predictions, as `measure` takes them, of rows of the table of scores."""
    if target.task == "multiclass":
        scores = table[[class_column(name) for name in target.classes]].to_numpy(dtype=float)
    else:
        scores = table["score"].to_numpy(dtype=float)
    kind = float if target.classes is None else int
    return table["target"].to_numpy(dtype=kind), scores, table["prediction"].to_numpy(dtype=kind)
