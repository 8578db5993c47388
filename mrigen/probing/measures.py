"""The figures of a row for every kind of target, with bootstrap intervals over people."""

import numpy as np
import pandas as pd

from mrigen.probing import intervals
from mrigen.probing.intervals import bootstrap_counts, json_float, pairwise_wins, percentile_interval
from mrigen.probing.score_table import class_column
from mrigen.probing.targets import Target


def measure(
    target: Target, targets: np.ndarray, scores: np.ndarray, predictions: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns each of `target.metrics`, averaged over repeats, for each weighted sample of people, (num_samples,).

    Args:
        target: what is predicted.
        targets: (n,).
        scores: (num_repeats, n); for three or more classes (num_repeats, n, classes).
        predictions: (num_repeats, n).
        counts: (num_samples, n) weights of the people; ones give the plain figures.
    """
    if target.task == "binary":
        return intervals.metric_samples(targets, scores, predictions, counts)
    counts = counts.astype(np.float64)
    return _of_classes(targets, scores, predictions, counts) if target.classes else _of_numbers(targets, scores, counts)


def _of_classes(targets, scores, predictions, counts) -> dict[str, np.ndarray]:
    correct = (predictions == targets).mean(axis=0)
    recalls, areas = [], []
    for label in np.unique(targets):
        inside, outside = counts[:, targets == label], counts[:, targets != label]
        recalls.append(inside @ correct[targets == label] / inside.sum(axis=1))
        if outside.shape[1]:
            wins = pairwise_wins((targets == label).astype(int), scores[:, :, label])
            won = np.einsum("bj,bj->b", inside.astype(np.float32) @ wins, outside, dtype=np.float64)
            areas.append(won / (inside.sum(axis=1) * outside.sum(axis=1)))
    return {
        "balanced_accuracy": np.mean(recalls, axis=0),
        "roc_auc": np.mean(areas, axis=0),
        "accuracy": counts @ correct / counts.sum(axis=1),
    }


def _of_numbers(targets, predicted, counts) -> dict[str, np.ndarray]:
    weights = counts / counts.sum(axis=1, keepdims=True)
    centred = targets - targets.mean()
    variance = weights @ centred**2 - (weights @ centred) ** 2
    correlations, shares = [], []
    for row in predicted:
        other = row - row.mean()
        other_variance = weights @ other**2 - (weights @ other) ** 2
        covariance = weights @ (centred * other) - (weights @ centred) * (weights @ other)
        product = np.sqrt(np.maximum(variance * other_variance, 0.0))
        # Predictions that do not differ follow nothing.
        correlations.append(np.divide(covariance, product, out=np.zeros_like(product), where=product > 1e-12))
        error = weights @ (row - targets) ** 2
        shares.append(1.0 - np.divide(error, variance, out=np.ones_like(error), where=variance > 0))
    return {
        "mae": weights @ np.abs(predicted - targets).mean(axis=0),
        "r": np.mean(correlations, axis=0),
        "r2": np.mean(shares, axis=0),
    }


def wide(scores: pd.DataFrame, target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns targets (n,), scores and predictions as `measure` takes them, of ONE predictor in one protocol."""
    if target.task == "binary":
        return intervals.people_by_repeats(scores)
    columns = [class_column(name) for name in target.classes] if target.classes else ["score"]
    by_person = scores.pivot(index="repeat", columns="participant_id", values=[*columns, "prediction"])
    targets = scores.groupby("participant_id")["target"].first().sort_index().to_numpy()
    values = np.stack([by_person[column].to_numpy(float) for column in columns], axis=-1)
    return targets, values if target.classes else values[..., 0], by_person["prediction"].to_numpy(targets.dtype)


def summarize(scores: pd.DataFrame, target: Target, num_bootstrap: int = 2000, seed: int = 0) -> dict[str, dict]:
    """Returns the figures, their intervals and their bootstrap samples of one predictor in one protocol.

    See `intervals.summarize_scores`, which this is for two classes. Resamples keep the sizes of classes; those of
    people with numbers are plain.
    """
    if target.task == "binary":
        return intervals.summarize_scores(scores, num_bootstrap, seed)
    if not len(scores) or scores["target"].nunique() < 2:
        return {metric: {"value": None, "ci": [None, None], "samples": None} for metric in target.metrics}
    targets, values, predictions = wide(scores, target)
    plain = measure(target, targets, values, predictions, np.ones((1, len(targets))))
    resampled = targets if target.classes else np.zeros(len(targets), int)
    drawn = measure(target, targets, values, predictions, bootstrap_counts(resampled, num_bootstrap, seed))
    return {
        metric: {
            "value": json_float(plain[metric][0]),
            "ci": percentile_interval(drawn[metric]),
            "samples": drawn[metric],
        }
        for metric in target.metrics
    }
