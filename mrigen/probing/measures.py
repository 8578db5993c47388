"""The figures of a row for every kind of target, with bootstrap intervals over people."""

import numpy as np
import pandas as pd

from mrigen.probing import intervals
from mrigen.probing.intervals import bootstrap_counts, json_float, pairwise_wins, percentile_interval
from mrigen.probing.targets import Target


def class_column(name: str) -> str:
    """Returns the column of the table of scores that holds the scores of one class of three or more."""
    return f"score.{name}"


def measure(
    meaning: Target, target: np.ndarray, scores: np.ndarray, predictions: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns each of `meaning.metrics`, averaged over repeats, for each weighted sample of people, (num_samples,).

    Args:
        meaning: of the target.
        target: (n,).
        scores: (num_repeats, n); for three or more classes (num_repeats, n, classes).
        predictions: (num_repeats, n).
        counts: (num_samples, n) weights of the people; ones give the plain figures.
    """
    if meaning.kind == "binary":
        return intervals.metric_samples(target, scores, predictions, counts)
    counts = counts.astype(np.float64)
    return _of_classes(target, scores, predictions, counts) if meaning.classes else _of_numbers(target, scores, counts)


def _of_classes(target, scores, predictions, counts) -> dict[str, np.ndarray]:
    correct = (predictions == target).mean(axis=0)
    recalls, areas = [], []
    for label in np.unique(target):
        inside, outside = counts[:, target == label], counts[:, target != label]
        recalls.append(inside @ correct[target == label] / inside.sum(axis=1))
        if outside.shape[1]:
            wins = pairwise_wins((target == label).astype(int), scores[:, :, label])
            won = np.einsum("bj,bj->b", inside.astype(np.float32) @ wins, outside, dtype=np.float64)
            areas.append(won / (inside.sum(axis=1) * outside.sum(axis=1)))
    return {
        "balanced_accuracy": np.mean(recalls, axis=0),
        "roc_auc": np.mean(areas, axis=0),
        "accuracy": counts @ correct / counts.sum(axis=1),
    }


def _of_numbers(target, predicted, counts) -> dict[str, np.ndarray]:
    weights = counts / counts.sum(axis=1, keepdims=True)
    centred = target - target.mean()
    variance = weights @ centred**2 - (weights @ centred) ** 2
    correlations, shares = [], []
    for row in predicted:
        other = row - row.mean()
        other_variance = weights @ other**2 - (weights @ other) ** 2
        covariance = weights @ (centred * other) - (weights @ centred) * (weights @ other)
        product = np.sqrt(np.maximum(variance * other_variance, 0.0))
        # Predictions that do not differ follow nothing.
        correlations.append(np.divide(covariance, product, out=np.zeros_like(product), where=product > 1e-12))
        error = weights @ (row - target) ** 2
        shares.append(1.0 - np.divide(error, variance, out=np.ones_like(error), where=variance > 0))
    return {
        "mae": weights @ np.abs(predicted - target).mean(axis=0),
        "r": np.mean(correlations, axis=0),
        "r2": np.mean(shares, axis=0),
    }


def wide(scores: pd.DataFrame, meaning: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns target (n,), scores and predictions as `measure` takes them, of ONE predictor in one protocol."""
    if meaning.kind == "binary":
        return intervals.people_by_repeats(scores)
    columns = [class_column(name) for name in meaning.classes] if meaning.classes else ["score"]
    by_person = scores.pivot(index="repeat", columns="participant_id", values=[*columns, "prediction"])
    target = scores.groupby("participant_id")["target"].first().sort_index().to_numpy()
    values = np.stack([by_person[column].to_numpy(float) for column in columns], axis=-1)
    return target, values if meaning.classes else values[..., 0], by_person["prediction"].to_numpy(target.dtype)


def summarize(scores: pd.DataFrame, meaning: Target, num_bootstrap: int = 2000, seed: int = 0) -> dict[str, dict]:
    """Returns the figures, their intervals and their bootstrap samples of one predictor in one protocol.

    See `intervals.summarize_scores`, which this is for two classes. Resamples keep the sizes of classes; those of
    people with numbers are plain.
    """
    if meaning.kind == "binary":
        return intervals.summarize_scores(scores, num_bootstrap, seed)
    if not len(scores) or scores["target"].nunique() < 2:
        return {metric: {"value": None, "ci": [None, None], "samples": None} for metric in meaning.metrics}
    target, values, predictions = wide(scores, meaning)
    plain = measure(meaning, target, values, predictions, np.ones((1, len(target))))
    resampled = target if meaning.classes else np.zeros(len(target), int)
    drawn = measure(meaning, target, values, predictions, bootstrap_counts(resampled, num_bootstrap, seed))
    return {
        metric: {
            "value": json_float(plain[metric][0]),
            "ci": percentile_interval(drawn[metric]),
            "samples": drawn[metric],
        }
        for metric in meaning.metrics
    }
