"""The row `latents_draw`: what a draw of the latents tells in the mean, not what one matrix of noise happens to."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mrigen.probing import gathering
from mrigen.probing.gathering import NUM_DRAWS, draw_latents
from mrigen.probing.predictors import DrawsPredictor, LogisticPredictor
from mrigen.probing.protocol import run_probe

OF_DRAWS = ("latents_draw", "transductive")


def probe_draws(inputs, **latents):
    """Returns the row of draws of these latents, of posteriors of width `scale`."""
    draws = draw_latents(latents, 0, np.arange(len(latents["loc"])))
    predictors = {"latents_draw": DrawsPredictor(LogisticPredictor, draws, latents["loc"].shape[1])}
    return run_probe(inputs, predictors=predictors)


@pytest.fixture
def auc_of(small_grids):
    def auc_of(inputs, **latents):
        rows = {(row["predictor"], row["protocol"]): row for row in probe_draws(inputs, **latents).rows()}
        return rows[OF_DRAWS]["roc_auc"]

    return auc_of


def test_draws_of_nothing_are_at_chance(make_inputs, auc_of, monkeypatch):
    """The same noise, for eight ways of who is a woman: one draw is far off now and then, the mean of twenty is not."""
    nothing = {"loc": np.zeros((60, 8), np.float32), "scale": np.ones((60, 8), np.float32)}
    everyone = [make_inputs(seed=seed) for seed in range(8)]
    many = [auc_of(inputs, **nothing) for inputs in everyone]
    monkeypatch.setattr(gathering, "NUM_DRAWS", 1)
    one = [auc_of(inputs, **nothing) for inputs in everyone]
    assert np.abs(np.array(many) - 0.5).max() < 0.06 < np.abs(np.array(one) - 0.5).max()
    assert np.std(many) < 0.5 * np.std(one)


def test_draws_of_something_tell_it(make_inputs, auc_of):
    inputs = make_inputs(signal=1.5)
    told = [auc_of(inputs, loc=inputs.latents, scale=np.full((60, 5), scale, np.float32)) for scale in (0.1, 3.0)]
    assert told[0] > 0.95 > told[1] > 0.6


def test_each_draw_is_scored_once_in_each_protocol(make_inputs, small_grids):
    inputs = make_inputs()
    result = probe_draws(inputs, loc=inputs.latents, scale=np.ones((60, 5), np.float32))
    for protocol, count in (("transductive", 60), ("heldout", 12)):
        scores = result.scores[result.scores["protocol"] == protocol]
        assert sorted(scores["draw"].unique()) == list(range(NUM_DRAWS))
        assert not scores.duplicated(["draw", "participant_id"]).any() and len(scores) == NUM_DRAWS * count
    # Draws are other draws: the same folds, other scores. A fold's figure is their mean.
    first = result.scores[(result.scores["protocol"] == "heldout")].pivot(
        index="participant_id", columns="draw", values="score"
    )
    assert (first[0] != first[5]).all()
    targets = inputs.targets[inputs.split == "heldout"]
    expected = np.mean([roc_auc_score(targets, first[draw].sort_index()) for draw in first])
    rows = {row["protocol"]: row for row in result.rows()}
    assert rows["heldout"]["roc_auc"] == pytest.approx(expected)
    assert rows["heldout"]["num_folds"] == 1 and rows["transductive"]["num_folds"] == 25
    low, high = rows["heldout"]["roc_auc_ci"]
    assert low < expected < high


def test_spatial_latents_have_as_many_draws_as_fit(monkeypatch):
    monkeypatch.setattr(gathering, "MOST_NUMBERS", 70)
    latents = {"loc": np.zeros((5, 4)), "scale": np.ones((5, 4))}
    assert draw_latents(latents, 0, np.arange(5)).shape == (5, 12)
    assert draw_latents({"loc": latents["loc"]}, 0, np.arange(5)) is None
