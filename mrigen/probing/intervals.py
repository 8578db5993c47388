"""Metrics of a two-class predictor over people, with bootstrap intervals.

Every metric here is a weighted mean over people or over pairs of people, so that 2000 resamples are one matrix
product instead of 2000 sorts.
"""

import math

import numpy as np
import pandas as pd

METRICS = ("balanced_accuracy", "roc_auc", "accuracy")
CONFIDENCE = 0.95


def pairwise_wins(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns (num_positive, num_negative) float32: how often person i of class 1 scores above person j of class 0.

    A tie counts one half; several rows of scores are averaged. The mean of the matrix is the ROC AUC (the
    Mann-Whitney statistic), the mean over rows of the AUC of each row; its mean with weights on people is the AUC of
    a weighted sample.

    Args:
        targets: (n,) int, 0 or 1.
        scores: (num_repeats, n).
    """
    positive, negative = scores[:, targets == 1], scores[:, targets == 0]
    wins = np.zeros((positive.shape[1], negative.shape[1]), np.float32)
    for row_positive, row_negative in zip(positive, negative, strict=True):
        wins += row_positive[:, None] > row_negative
        wins += np.float32(0.5) * (row_positive[:, None] == row_negative)
    return wins / np.float32(len(scores))


def bootstrap_counts(targets: np.ndarray, num_bootstrap: int, seed: int) -> np.ndarray:
    """Returns how often each person is drawn in each resample, (num_bootstrap, n) int; classes keep their sizes.

    Args:
        targets: (n,) int, the classes; the resampling is stratified by them.
        num_bootstrap: number of resamples.
        seed: of the draws; the same targets, number and seed give the same resamples, so that two predictors of the
            same people can be compared in pairs.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros((num_bootstrap, len(targets)), np.int64)
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        uniform = np.full(len(members), 1.0 / len(members))
        counts[:, members] = generator.multinomial(len(members), uniform, size=num_bootstrap)
    return counts


def metric_samples(
    targets: np.ndarray, scores: np.ndarray, predictions: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns each of `METRICS`, averaged over repeats, for each weighted sample of people.

    Args:
        targets: (n,) int, 0 or 1; both present.
        scores: (num_repeats, n), larger means class 1.
        predictions: (num_repeats, n) int, 0 or 1.
        counts: (num_samples, n) weights of the people; ones give the plain metric.

    Returns:
        A dict of arrays (num_samples,).
    """
    correct = (predictions == targets).mean(axis=0)
    counts = counts.astype(np.float64)
    positive, negative = counts[:, targets == 1], counts[:, targets == 0]
    num_positive, num_negative = positive.sum(axis=1), negative.sum(axis=1)
    right_positive, right_negative = positive @ correct[targets == 1], negative @ correct[targets == 0]
    wins = pairwise_wins(targets, scores)
    won = np.einsum("bj,bj->b", positive.astype(np.float32) @ wins, negative, dtype=np.float64)
    return {
        "balanced_accuracy": 0.5 * (right_positive / num_positive + right_negative / num_negative),
        "roc_auc": won / (num_positive * num_negative),
        "accuracy": (right_positive + right_negative) / (num_positive + num_negative),
    }


def percentile_interval(samples: np.ndarray) -> list[float]:
    """Returns the 95 % percentile interval [low, high] of bootstrap samples."""
    tail = (1.0 - CONFIDENCE) / 2.0
    return [float(value) for value in np.quantile(samples, [tail, 1.0 - tail])]


def people_by_repeats(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns targets (n,), scores and predictions (num_repeats, n) of ONE predictor in one protocol.

    People are in sorted order of `participant_id`, the same for every predictor.

    Args:
        scores: rows with the columns repeat, participant_id, score, prediction, target.
    """
    wide = scores.pivot(index="repeat", columns="participant_id", values=["score", "prediction"])
    targets = scores.groupby("participant_id")["target"].first().sort_index().to_numpy(int)
    return targets, wide["score"].to_numpy(float), wide["prediction"].to_numpy(int)


def summarize_scores(scores: pd.DataFrame, num_bootstrap: int = 2000, seed: int = 0) -> dict[str, dict]:
    """Returns the metrics, their intervals and their bootstrap samples of one predictor in one protocol.

    The figure is the mean over repeats of the metric of the pooled out-of-fold scores. The interval is the percentile
    interval of a stratified bootstrap over people; a person is drawn with all repeats, because repeats of the same
    people are no new evidence. It holds for new test people with these fitted models, not for new training people.

    Args:
        scores: rows with the columns repeat, participant_id, score, prediction, target.
        num_bootstrap: number of resamples.
        seed: of the resamples.

    Returns:
        For each of `METRICS` a dict: value, ci [low, high], samples (num_bootstrap,). Without people of both classes
        value is None, ci [None, None] and samples None.

    References:
        Varoquaux 2018, Cross-validation failure: small sample sizes lead to large error bars, NeuroImage 180.
    """
    if not len(scores) or scores["target"].nunique() < 2:
        return {metric: {"value": None, "ci": [None, None], "samples": None} for metric in METRICS}
    targets, wide_scores, wide_predictions = people_by_repeats(scores)
    plain = metric_samples(targets, wide_scores, wide_predictions, np.ones((1, len(targets))))
    drawn = metric_samples(targets, wide_scores, wide_predictions, bootstrap_counts(targets, num_bootstrap, seed))
    return {
        metric: {
            "value": json_float(plain[metric][0]),
            "ci": percentile_interval(drawn[metric]),
            "samples": drawn[metric],
        }
        for metric in METRICS
    }


def json_float(value: float) -> float | None:
    """Returns `value` as a Python float, None for NaN or infinity, which JSON does not know."""
    value = float(value)
    return value if math.isfinite(value) else None
