"""Confounds: what they tell, latents without them, and that nothing of it is learned from test people."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from mrigen.errors import CohortError, UsageError
from mrigen.probing.confounds import CALIPER, AmongPredictor, deconfounded, encode_confounds, match_sizes
from mrigen.probing.plan import ProbePlan
from mrigen.probing.predictors import LogisticPredictor
from mrigen.probing.protocol import run_probe
from mrigen.probing.result import paired_difference

QUICK = {"num_folds": 4, "num_repeats": 2}
PLAN = ProbePlan(confounds=("head_size",))

pytestmark = pytest.mark.usefixtures("small_grids")


@pytest.fixture
def planted():
    """Returns a function of the shape effect (sd): latents of people whose head size tells their sex."""

    def make(make_inputs, shape, num_people=240):
        generator = np.random.default_rng(3)
        inputs = make_inputs(num_people=num_people, latents_draw=None, brain_volume=None)
        side = 2.0 * inputs.targets - 1.0
        size = 0.9 * side + generator.normal(size=num_people)
        latents = generator.normal(size=(num_people, 4))
        latents[:, 0] += 3.0 * size
        latents[:, 1] += shape * side - size
        return dataclasses.replace(
            inputs, latents=latents, head_volume=3500.0 + 300.0 * size, confounds=size[:, None],
            volumes=inputs.volumes[:, :9],
        )  # fmt: skip

    return make


def areas(inputs):
    result = run_probe(inputs, plan=PLAN, **QUICK)
    return result, {row["predictor"]: row["roc_auc"] for row in result.rows() if row["protocol"] == "transductive"}


def test_an_effect_of_size_alone_goes_with_the_size(planted, make_inputs):
    result, auc = areas(planted(make_inputs, shape=0.0))
    assert auc["latents"] > 0.82
    assert auc["confounds"] > 0.82
    assert auc["latents_deconfounded"] == pytest.approx(0.5, abs=0.1)
    assert auc["latents_size_matched"] == pytest.approx(0.5, abs=0.12)
    matched = next(row for row in result.rows() if row["predictor"] == "latents_size_matched")
    assert 20 <= matched["num_subjects"] < 200
    # Compared on the people that both scored.
    assert (
        paired_difference(result, "latents", "latents_size_matched", "transductive")["num_subjects"]
        == (matched["num_subjects"])
    )


def test_an_effect_of_shape_stays(planted, make_inputs):
    _, auc = areas(planted(make_inputs, shape=1.5))
    assert auc["latents"] > 0.9
    assert auc["latents_deconfounded"] > 0.75
    assert auc["latents_size_matched"] > 0.85


def test_the_regression_is_that_of_the_training_people():
    generator = np.random.default_rng(0)
    latents, confounds = generator.normal(size=(50, 6)), generator.normal(size=(50, 2))
    train = np.arange(35)
    confounds[35:] += 4.0
    latents[35:] -= 3.0 * confounds[35:, :1]  # among the test people, all is different
    residuals = deconfounded(latents, confounds)(train)
    expected = latents - LinearRegression().fit(confounds[train], latents[train]).predict(confounds)
    np.testing.assert_allclose(residuals, expected, atol=1e-10)
    on_all = latents - LinearRegression().fit(confounds, latents).predict(confounds)
    assert np.abs(residuals - on_all).max() > 0.5


def test_scores_of_a_fold_do_not_depend_on_who_else_is_tested(make_inputs):
    inputs = make_inputs(num_people=60, signal=0.5)
    confounds = np.random.default_rng(0).normal(size=(60, 1))
    others = np.flatnonzero(inputs.split == "heldout")[1:]
    latents, moved = inputs.latents.copy(), confounds.copy()
    latents[others] *= 50.0
    moved[others] += 20.0
    scores = []
    for changes in ({"confounds": confounds}, {"confounds": moved, "latents": latents}):
        table = run_probe(dataclasses.replace(inputs, **changes), plan=PLAN, **QUICK).scores
        table = table[(table["protocol"] == "heldout") & (table["predictor"] == "latents_deconfounded")]
        scores.append(table.set_index("participant_id")["score"].iloc[0])
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)


def test_matched_people_are_alike_in_size_and_as_many_of_each_class():
    generator = np.random.default_rng(0)
    targets = np.repeat([0, 1], [50, 70])
    size = 3500.0 + 300.0 * (generator.normal(size=120) + 1.5 * targets)
    rows = match_sizes(targets, size)
    assert np.bincount(targets[rows]).tolist() == [len(rows) // 2] * 2
    women, men = (np.sort(size[rows][targets[rows] == label]) for label in (0, 1))
    assert np.abs(women - men).max() < CALIPER * size.std()
    assert 20 <= len(rows) < 100
    assert len(match_sizes(targets, size + 1e5 * targets)) == 0


def test_a_predictor_among_some_leaves_the_others_unscored():
    generator = np.random.default_rng(0)
    targets, latents = np.arange(40) % 2, generator.normal(size=(40, 2))
    groups, rows = np.arange(40).astype(str), np.arange(0, 40, 3)
    train, test = np.arange(30), np.arange(30, 40)
    predictor = AmongPredictor(LogisticPredictor(latents), rows)
    score = predictor.fit_score(targets, groups, train, test, 0).score
    np.testing.assert_array_equal(np.isfinite(score), np.isin(test, rows))
    latents[np.setdiff1d(train, rows)] = 1e6  # learned from the chosen people alone
    np.testing.assert_array_equal(predictor.fit_score(targets, groups, train, test, 0).score, score)


def test_confounds_as_numbers():
    table = pd.DataFrame(
        {"age": [20.0, np.nan, 40.0], "site": ["b", "a", None], "head_volume_ml": [1.0, 2.0, 3.0], "same": ["x"] * 3}
    )
    encoded = encode_confounds(table, ["head_size", "age", "site"])
    np.testing.assert_allclose(encoded[:, 0], [-(1.5**0.5), 0.0, 1.5**0.5])
    np.testing.assert_allclose(encoded[:, 1:3], [[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(encoded[:, 3:], [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])  # b, n/a
    with pytest.raises(UsageError, match=r"confounds='agee': got a column .* Did you mean age"):
        encode_confounds(table, ["agee"])
    with pytest.raises(CohortError, match=r"confounds='same': got the same value for everyone.* Leave same out"):
        encode_confounds(table, ["same"])


def test_too_few_pairs_leave_the_row_out(make_inputs):
    inputs = make_inputs(num_people=30)
    inputs = dataclasses.replace(inputs, confounds=inputs.head_volume[:, None] + 1.0,
                                 head_volume=inputs.head_volume + 1e4 * inputs.targets)  # fmt: skip
    result = run_probe(inputs, plan=PLAN, **QUICK)
    assert "latents_size_matched" not in result.predictors
    assert "latents_deconfounded" in result.predictors
    assert any(note.startswith("0 pairs are matched in head_size, fewer than 10") for note in result.notes)
