"""Metrics and intervals against scikit-learn and against counting pairs."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from mrigen.probing.intervals import (
    bootstrap_counts,
    metric_samples,
    pairwise_wins,
    percentile_interval,
    summarize_scores,
)

TARGET = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1])


@pytest.mark.parametrize("decimals", [8, 0], ids=["no ties", "ties"])
def test_weighted_metrics_equal_scikit_learn_on_the_repeated_people(decimals):
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=(3, len(TARGET))) + TARGET, decimals)
    predictions = (scores > 0.4).astype(int)
    counts = bootstrap_counts(TARGET, 20, seed=1)
    samples = metric_samples(TARGET, scores, predictions, counts)
    for sample, count in enumerate(counts):
        targets = np.repeat(TARGET, count)
        drawn = [(np.repeat(s, count), np.repeat(p, count)) for s, p in zip(scores, predictions, strict=True)]
        expected = {
            "roc_auc": np.mean([roc_auc_score(targets, s) for s, _ in drawn]),
            "balanced_accuracy": np.mean([balanced_accuracy_score(targets, p) for _, p in drawn]),
            "accuracy": np.mean([accuracy_score(targets, p) for _, p in drawn]),
        }
        for metric, value in expected.items():
            assert samples[metric][sample] == pytest.approx(value, abs=1e-6), metric


def test_equal_scores_are_worth_one_half():
    assert pairwise_wins(TARGET, np.zeros((2, len(TARGET)))).tolist() == np.full((5, 6), 0.5).tolist()


def test_bootstrap_keeps_class_sizes_and_depends_on_the_seed_alone():
    counts = bootstrap_counts(TARGET, 200, seed=3)
    assert set(counts[:, TARGET == 1].sum(axis=1)) == {5}
    assert set(counts[:, TARGET == 0].sum(axis=1)) == {6}
    np.testing.assert_array_equal(counts, bootstrap_counts(TARGET, 200, seed=3))
    assert (counts != bootstrap_counts(TARGET, 200, seed=4)).any()


def table(targets, scores):
    """One predictor: scores (num_repeats, n) as the table of a probe."""
    rows = [
        {"repeat": r, "participant_id": f"sub-{i:03d}", "score": s, "prediction": int(s > 0), "target": targets[i]}
        for r, row in enumerate(scores)
        for i, s in enumerate(row)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_repeats_of_the_same_people_do_not_narrow_the_interval():
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    scores = generator.normal(size=(1, 60)) + targets
    once = summarize_scores(table(targets, scores))["roc_auc"]
    five_times = summarize_scores(table(targets, np.repeat(scores, 5, axis=0)))["roc_auc"]
    assert once["value"] == pytest.approx(roc_auc_score(targets, scores[0]))
    assert five_times["ci"] == pytest.approx(once["ci"], abs=1e-6)


def test_interval_covers_the_true_area_about_as_often_as_it_says():
    generator, targets, covered = np.random.default_rng(0), np.arange(80) % 2, 0
    for _ in range(60):
        scores = generator.normal(size=(1, 80)) + targets  # true AUC: Phi(1 / sqrt 2) = 0.760
        counts = bootstrap_counts(targets, 300, seed=0)
        low, high = percentile_interval(metric_samples(targets, scores, (scores > 0.5).astype(int), counts)["roc_auc"])
        covered += low < 0.760 < high
    assert 51 <= covered < 60


@pytest.mark.parametrize("targets", [[], [1], [1, 1, 1]])
def test_one_class_gives_null_figures(targets):
    scores = table(targets, [[0.5] * len(targets)]) if targets else pd.DataFrame(columns=["target"])
    summary = summarize_scores(scores)["roc_auc"]
    assert (summary["value"], summary["ci"], summary["samples"]) == (None, [None, None], None)
    assert json.dumps(summary["ci"], allow_nan=False) == "[null, null]"
