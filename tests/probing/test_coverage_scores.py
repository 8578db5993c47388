"""The benchmark of coverage: its kept scores are those of a probe."""

import numpy as np
import pytest

from benchmarks import coverage
from mrigen.probing.predictors import LogisticPredictor
from mrigen.probing.protocol import run_probe


def test_kept_scores_are_those_of_a_probe(tmp_path, monkeypatch, small_grids):
    cell = (60, 0.95, True, 16)
    monkeypatch.setattr(coverage, "BLOCK", 1)
    monkeypatch.setattr(coverage.joblib, "Parallel", lambda n_jobs: lambda calls: [call(*a) for call, a, _ in calls])
    coverage.score_cohorts(tmp_path, cell, 1)
    ((seed, scores),) = coverage.kept_scores(tmp_path, cell)
    targets, families, *latents = coverage.draw(coverage._generator(60, 0.95, True, seed), *cell[:3])
    predictors = dict(zip(("latents", "blurred"), map(LogisticPredictor, latents), strict=True))
    result = run_probe(coverage._inputs(targets, families, latents[0]), seed=seed, predictors=predictors)
    for row, kept in zip(("latents", "blurred"), scores, strict=True):
        found = result.scores[result.scores["predictor"] == row]
        assert kept[found["repeat"], found["participant_id"].astype(int)] == pytest.approx(found["score"], rel=1e-5)
    cohort = coverage.one_cohort(*cell, seed, scores)
    assert cohort["roc_auc"] == pytest.approx([result.rows()[0]["roc_auc"], *result.rows()[0]["roc_auc_ci"]], abs=1e-6)
    assert np.diff(cohort["roc_auc_90"]) < np.diff(cohort["roc_auc"][1:])
