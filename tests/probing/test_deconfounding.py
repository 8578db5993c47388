"""Predictors without confounds that are measured with error: told known bad from known good."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from benchmarks.reliability import SIGNAL, people
from mrigen.errors import CohortError, UsageError
from mrigen.probing.confounds import calibrated_size, deconfounded, match_sizes, read_confounds
from mrigen.probing.deconfounding import (
    DeconfoundedPredictor,
    KernelModel,
    LinearModel,
    Slopes,
    expected_truth,
    slope_operator,
    true_share,
)
from mrigen.probing.plan import ProbePlan
from mrigen.probing.predictors import LogisticPredictor, StandardizedVoxels, stratified_group_folds
from mrigen.probing.protocol import run_probe
from mrigen.probing.reliability import of_columns, read_reliability
from mrigen.probing.rows import BOUND, describe_rows, matched_people
from mrigen.probing.targets import SEX, Target

pytestmark = pytest.mark.usefixtures("small_grids")


def area(predictor, inputs):
    """Returns the mean AUC over five folds."""
    folds = stratified_group_folds(inputs.targets, inputs.groups, 5, 0)
    return np.mean(
        [
            roc_auc_score(
                inputs.targets[test], predictor.fit_score(inputs.targets, inputs.groups, train, test, 0).score
            )
            for train, test in folds
        ]
    )


def without(inputs, reliability):
    return DeconfoundedPredictor(LinearModel(inputs.latents, SEX), inputs.confounds, [reliability], SEX)


def measured(num_people=20000, seed=0):
    """Returns classes, true and measured sizes (reliability .79 over people)."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, num_people)
    truth = 1.5 * targets + generator.normal(size=num_people)
    size = truth + np.sqrt(truth.var() * (1 / 0.79 - 1)) * generator.normal(size=num_people)
    return targets, truth, size


def test_slopes_are_those_on_the_true_confound():
    targets, truth, size = measured()
    beside, sizes = targets[:, None].astype(float), size[:, None]
    features = 2.0 * truth[:, None] + 0.7 * beside + np.random.default_rng(1).normal(size=(len(truth), 1))
    slope = slope_operator(sizes, beside, np.array([0.79])) @ features
    assert slope == pytest.approx(2.0, abs=0.05)
    plain = LinearRegression().fit(np.hstack([beside, sizes]), features)
    assert plain.coef_[0, 1] == pytest.approx(2.0 * true_share(sizes, beside, np.array([0.79]))[0], abs=0.05)
    np.testing.assert_allclose(slope_operator(sizes, beside, np.ones(1)) @ features, plain.coef_[:, 1:], rtol=1e-9)


def test_two_confounds_of_which_one_is_exact():
    targets, truth, size = measured()
    generator, beside = np.random.default_rng(2), targets[:, None].astype(float)
    age = 0.5 * truth + generator.normal(size=len(truth))
    features = (2.0 * truth - 1.0 * age + generator.normal(size=len(truth)))[:, None]
    slopes = slope_operator(np.stack([size, age], axis=1), beside, np.array([0.79, 1.0])) @ features
    np.testing.assert_allclose(slopes[:, 0], [2.0, -1.0], atol=0.06)
    # A confound that is there twice, or that is constant, does no harm.
    twice = np.stack([age, age, np.zeros(len(age))], axis=1)
    alone = slope_operator(age[:, None], beside, np.ones(1)) @ features
    np.testing.assert_allclose((slope_operator(twice, beside, np.ones(3)) @ features).sum(), alone[0, 0], rtol=1e-6)


def test_people_of_one_expected_truth_have_one_truth():
    targets, truth, size = measured()
    expected = expected_truth(size[:, None], targets[:, None].astype(float), np.array([0.79]))[:, 0]
    np.testing.assert_allclose(expected, calibrated_size(targets, size, 0.79), rtol=1e-6)
    design = np.stack([expected, targets], axis=1)
    assert LinearRegression().fit(design, truth).coef_ == pytest.approx([1.0, 0.0], abs=0.05)
    rows = np.arange(600)
    for values, difference in ((size, 0.25), (expected, 0.0)):
        matched = match_sizes(targets[rows], values[rows])
        means = [truth[matched][targets[matched] == label].mean() for label in (0, 1)]
        assert (means[1] - means[0] > difference) if difference else abs(means[1] - means[0]) < 0.25


def test_what_is_certain_of_the_target_stays():
    targets, _, size = measured(400)
    beside, noise = targets[:, None].astype(float), np.random.default_rng(3).normal(size=400)
    slopes_of = Slopes(size[:, None], beside, np.ones(1))
    both, alone = (slope_operator(size[:, None], columns, np.ones(1)) for columns in (beside, beside[:, :0]))
    scores = np.stack([0.5 * size + noise, 0.5 * size + noise + 4.0 * targets], axis=1)
    found = slopes_of(scores)
    assert found[0, 0] == pytest.approx((alone @ scores)[0, 0], abs=0.01)
    assert found[0, 1] == pytest.approx((both @ scores)[0, 1], rel=0.05)


@pytest.mark.parametrize("effect", [0.0, 0.1, 0.3, 0.5])
def test_slopes_are_drawn_to_those_without_the_target_by_how_certain_it_is(effect):
    """Against ordinary least squares: w = max(0, 1 - 4 / chi2) of the target's coefficient beside the confound."""
    targets, _, size = measured(400)
    design = np.stack([np.ones(400), size, targets], axis=1)
    noise = np.random.default_rng(4).normal(size=400)
    noise -= design @ np.linalg.lstsq(design, noise, rcond=None)[0]  # Nothing by chance.
    scores = (0.5 * size + effect * targets + noise)[:, None]
    found = np.linalg.lstsq(design, scores[:, 0], rcond=None)[0]
    variance = np.mean((scores[:, 0] - design @ found) ** 2)
    wald = found[2] ** 2 / (variance * np.linalg.inv(design.T @ design)[2, 2])
    weight = max(0.0, 1.0 - 4.0 / wald)
    alone = np.polyfit(size, scores[:, 0], 1)[0]
    assert weight == 0.0 if effect < 0.2 else 0.1 < weight < 0.9
    slopes = Slopes(size[:, None], targets[:, None].astype(float), np.ones(1))
    assert slopes(scores)[0, 0] == pytest.approx(weight * found[1] + (1.0 - weight) * alone, rel=1e-6)
    # A score that is the same for all says nothing, not NaN.
    assert slopes(np.zeros((400, 1)))[0, 0] == 0.0


def test_who_scores_above_nought_is_taken_for_the_second_class():
    inputs = people(0, 120, SIGNAL, True)
    (train, test), *_ = stratified_group_folds(inputs.targets, inputs.groups, 5, 0)
    found = without(inputs, 0.79).fit_score(inputs.targets, inputs.groups, train, test, 0)
    assert (found.score > 0).any() and (np.abs(found.score) < 1).any()
    np.testing.assert_array_equal(found.prediction, found.score > 0)


def test_size_alone_leaves_nothing_and_a_signal_stays():
    nothing, signal, old = [], [], []
    for seed in range(8):
        inputs = people(seed, 300, 0.0, True)
        nothing.append(area(without(inputs, 0.79), inputs))
        old.append(area(LogisticPredictor(deconfounded(inputs.latents, inputs.confounds)), inputs))
        inputs = people(seed, 300, SIGNAL, True)
        signal.append(area(without(inputs, 0.79), inputs))
    assert np.mean(nothing) == pytest.approx(0.5, abs=0.06)
    assert np.mean(old) > 0.57  # what regression on a measured size leaves
    assert np.mean(signal) > 0.61


def test_voxels_are_freed_as_latents_are():
    inputs = people(1, 200, 0.0, True)
    generator = np.random.default_rng(0)
    volumes = (inputs.latents @ generator.normal(size=(16, 300)) + generator.normal(size=(200, 300))).astype(np.float32)
    predictor = DeconfoundedPredictor(KernelModel(StandardizedVoxels(volumes)), inputs.confounds, [0.79], SEX)
    assert area(predictor, inputs) < 0.65


def test_scores_know_nothing_of_who_is_tested():
    inputs = people(0, 80, 0.5, True)
    train, test = np.arange(60), np.arange(60, 80)
    latents, confounds = inputs.latents.copy(), inputs.confounds.copy()
    scores = []
    for _ in range(2):
        predictor = DeconfoundedPredictor(LinearModel(latents, SEX), confounds, [0.79], SEX)
        scores.append(predictor.fit_score(inputs.targets, inputs.groups, train, test, 0).score[0])
        latents[61:], confounds[61:] = 9.0, -7.0
    assert scores[0] == scores[1]


@pytest.mark.parametrize("classes", [None, ("a", "b", "c")])
def test_numbers_and_three_classes(classes):
    # Pooled over inner folds, scores of strong penalties would look confounded: a model's mean score goes with what
    # the people that it has not seen lack.
    target, found, names = Target("it", classes), [], np.arange(120).astype(str)
    for seed in range(10):
        size, other, noise = np.random.default_rng(seed).normal(size=(3, 120))
        values = size + other
        targets = values if classes is None else np.digitize(values, [-0.7, 0.7])
        latents = np.stack([size + noise, *np.random.default_rng(seed + 99).normal(size=(4, 120))], axis=1)
        predictor = DeconfoundedPredictor(LinearModel(latents, target), size[:, None], [1.0], target)
        for train, test in stratified_group_folds(target.strata(targets), names, 3, 0):
            score = predictor.fit_score(targets, names, train, test, 0).score
            assert score.shape == ((len(test),) if classes is None else (len(test), 3))
            score = score if classes is None else score[:, 2] - score[:, 0]
            found.append(np.corrcoef(score, values[test])[0, 1])
    assert abs(np.mean(found)) < 0.15


def test_bounds_where_nothing_is_said(small_grids):
    inputs = people(0, 100, 0.0, False)
    plan = ProbePlan(confounds=("head_size",))
    result = run_probe(inputs, plan=plan, num_folds=3, num_repeats=1)
    auc = {row["predictor"]: row["roc_auc"] for row in result.rows() if row["protocol"] == "transductive"}
    assert auc[BOUND] < auc["latents_deconfounded"]
    assert any("How reliably head_size is measured was not said" in note for note in result.notes)
    assert "a lower bound" in result.row_notes[BOUND]
    assert "what the measure misses is not matched" in result.row_notes["latents_size_matched"]
    pairs = {(row["predictor"], row["baseline"]) for row in result.comparisons()}
    assert ("confounds_and_latents", "confounds") in pairs
    said = dataclasses.replace(inputs, reliability=(0.79,))
    notes, about = describe_rows(said, plan)
    assert not notes
    assert about["latents_deconfounded"] == "reliability: head_size 0.79"
    assert "to be expected at a reliability of 0.79" in about["latents_size_matched"]
    assert "of 100 people have no partner" in about["latents_size_matched"]
    assert set(matched_people(said, plan)) != set(matched_people(inputs, plan))
    notes, _ = describe_rows(dataclasses.replace(inputs, reliability=(0.3,)), plan)
    assert "differs by sex by more than a reliability of 0.3 allows" in notes[0]


def test_people_of_unknown_size_are_left_out(small_grids):
    inputs = people(0, 100, 0.0, True)
    known = np.arange(100) % 4 > 0
    inputs = dataclasses.replace(inputs, confounds_known=known)
    scores = run_probe(inputs, plan=ProbePlan(confounds=("age",)), num_folds=3, num_repeats=1).scores
    scored = set(scores[scores["predictor"] == "latents_deconfounded"]["participant_id"])
    assert scored == set(inputs.participant_ids[known])
    assert set(scores[scores["predictor"] == "confounds"]["participant_id"]) == set(inputs.participant_ids)


def test_what_is_unknown_is_told():
    table = pd.DataFrame({"age": [20.0, np.nan, 40.0, 30.0], "scanner": ["b", None, "a", "a"], "tiv": [1.0, 2, 3, 4]})
    found = read_confounds(table, ["age", "scanner", "tiv"])
    assert found.names == ("age", "age", "scanner", "scanner", "tiv")
    assert found.known.tolist() == [True, False, True, True]
    assert found.notes[0].startswith("age is not known of 1 of 4 people (25%): rows without confounds leave them out")
    assert "who count as alike in it" in found.notes[1]
    assert of_columns(found.names, found.is_measure, {}) == (1.0, 1.0, 1.0, 1.0, None)
    assert of_columns(found.names, found.is_measure, {"tiv": 0.7, "age": 0.9}) == (0.9, 1.0, 1.0, 1.0, 0.7)


def test_a_second_measure_says_how_reliable_the_first_is():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=400)
    one, two = (truth + 0.5 * generator.normal(size=400) for _ in range(2))
    table = pd.DataFrame(
        {"participant_id": np.tile(np.arange(400).astype(str), 2), "head_volume_ml": np.r_[one, two],
         "tiv": np.tile(two, 2), "wrong": np.tile(-two, 2)}
    )  # fmt: skip
    rows = np.arange(400)
    for value in ("visits", "tiv"):
        found, notes = read_reliability(table, rows, {"head_size": value})
        assert found["head_size"] == pytest.approx(0.8, abs=0.04)
        assert "over 400 people; what both measures get wrong alike is not in it" in notes[0]
    assert read_reliability(table, rows, {"head_size": 0.7}) == ({"head_size": 0.7}, ())
    with pytest.raises(CohortError, match=r"reliability='head_size': got measures that go together by r = -0.8"):
        read_reliability(table, rows, {"head_size": "wrong"})
    with pytest.raises(CohortError, match=r"got 0 people who are measured twice .*expected at least 20"):
        read_reliability(table.head(400), rows, {"head_size": "visits"})
    with pytest.raises(UsageError, match="got a column that the run"):
        read_reliability(table, rows, {"head_size": "other"})


def test_a_reliability_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match=r"reliability: got age, expected some of the confounds \(head_size\)"):
        ProbePlan(confounds=("head_size",), reliability={"age": 0.9})
    with pytest.raises(UsageError, match=r"reliability='head_size': got 1.5, expected the share of its variance"):
        ProbePlan(confounds=("head_size",), reliability={"head_size": 1.5})
