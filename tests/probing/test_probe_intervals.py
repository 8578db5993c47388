"""Intervals of figures: whether they hold the truth as often as they say, of whatever people are."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrigen.probing import intervals
from mrigen.probing.confounds import AmongPredictor
from mrigen.probing.intervals import Estimate, family_variance, holm
from mrigen.probing.measures import roc_auc
from mrigen.probing.predictors import MajorityPredictor
from mrigen.probing.protocol import run_probe
from mrigen.probing.result import paired_difference
from mrigen.probing.rows import learner_of
from mrigen.probing.summaries import summarize
from mrigen.probing.targets import SEX, Target


def table(targets, scores, *, protocol="heldout", families=None, folds=None):
    """One predictor: scores (num_repeats, n) as the table of a probe."""
    ids = [f"sub-{i:03d}" for i in range(len(targets))]
    rows = [
        {"protocol": protocol, "repeat": r, "fold": 0 if folds is None else folds[r][i], "participant_id": ids[i],
         "family": ids[i] if families is None else families[i], "score": s, "prediction": int(s > 0),
         "target": targets[i]}
        for r, row in enumerate(scores)
        for i, s in enumerate(row)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def share_covered(make, truth, count=400, confidence=0.95, metric="roc_auc"):
    ends = np.array([summarize(make(seed), SEX).interval(metric, confidence) for seed in range(count)])
    return np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))


def people(seed, num_people=80, twins=False):
    """Returns held-out people whose true ROC AUC is 0.760; twins are alike."""
    generator = np.random.default_rng(seed)
    if twins:
        targets, families = np.repeat(np.arange(num_people // 2) % 2, 2), np.repeat(np.arange(num_people // 2), 2)
        noise = np.repeat(generator.normal(size=num_people // 2), 2) * 0.9**0.5 + 0.1**0.5 * generator.normal(
            size=num_people
        )
        return table(targets, (noise + targets)[None], families=families.astype(str))
    targets = np.arange(num_people) % 2
    return table(targets, generator.normal(size=(1, num_people)) + targets)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_interval_of_test_people_holds_the_truth_as_often_as_it_says(confidence):
    # Two standard errors of 400 draws are 2.2 and 4 points: 90 % sold as 95 % would be seen.
    assert share_covered(people, 0.760, confidence=confidence) == pytest.approx(confidence, abs=0.03)


def test_twins_are_worth_less_than_strangers():
    assert share_covered(lambda seed: people(seed, 120, twins=True), 0.760) == pytest.approx(0.95, abs=0.03)
    strangers = lambda seed: people(seed, 120, twins=True).assign(family=lambda t: t["participant_id"])  # noqa: E731
    assert share_covered(strangers, 0.760) < 0.9


def cross_validated(seed, *, num_people=60, signal=0.0, twins=False):
    """Returns the table of a real probe of 8 Gaussian latents, one of which knows the class."""
    generator = np.random.default_rng([seed, 3])
    count = num_people // 2 if twins else num_people
    targets, latents = np.arange(count) % 2, generator.normal(size=(count, 8))
    groups = np.arange(count)
    if twins:
        targets, groups, latents = (np.repeat(part, 2, axis=0) for part in (targets, groups, latents))
        latents = 0.9**0.5 * latents + 0.1**0.5 * generator.normal(size=latents.shape)
    latents[:, 0] += signal * targets
    return targets, latents, groups.astype(str)


@pytest.mark.parametrize("twins", [False, True], ids=["strangers", "twins"])
def test_the_interval_of_a_cross_validation_holds_chance_as_often_as_it_says(make_inputs, small_grids, twins):
    held, below, count = 0, 0, 150
    for seed in range(count):
        targets, latents, groups = cross_validated(seed, twins=twins)
        inputs = make_inputs(targets=targets, groups=groups, latents=latents, split=np.full(60, "train"))
        rows = {"latents": learner_of(SEX)(latents)}
        low, high = run_probe(inputs, seed=seed, num_repeats=2, predictors=rows).rows()[0]["roc_auc_ci"]
        held, below = held + (low <= 0.5 <= high), below + (high < 0.5)
    # Standard error 1.8 points; people resampled with averaged scores gave 81 %.
    assert 0.91 <= held / count <= 0.995
    assert below / count < 0.06


def test_the_mean_over_folds_is_not_below_chance_at_chance(make_inputs, small_grids):
    values = []
    for seed in range(60):
        targets, latents, groups = cross_validated(seed)
        inputs = make_inputs(targets=targets, groups=groups, latents=latents, split=np.full(60, "train"))
        rows = {"latents": learner_of(SEX)(latents)}
        values.append(run_probe(inputs, seed=seed, num_repeats=1, predictors=rows).rows()[0]["roc_auc"])
    assert np.mean(values) == pytest.approx(0.5, abs=2.5 * np.std(values) / 60**0.5)


def rows_of_a_probe(make_inputs, seed, signal, **rows):
    """Returns the result of a real probe; rows: functions of the features of its predictors."""
    targets, latents, groups = cross_validated(seed, signal=signal)
    inputs = make_inputs(targets=targets, groups=groups, latents=latents, split=np.full(60, "train"))
    predictors = {"latents": learner_of(SEX)(latents)} | {name: make(latents) for name, make in rows.items()}
    return run_probe(inputs, seed=seed, num_repeats=2, predictors=predictors)


def width(ends):
    return ends[1] - ends[0]


@pytest.mark.parametrize(("signal", "narrower"), [(0.0, (0.85, 1.15)), (3.0, (0.6, 0.85))], ids=["chance", "strong"])
def test_intervals_follow_how_much_is_owed_to_who_was_learned_from(make_inputs, small_grids, signal, narrower):
    values, widths, by_overlap = [], [], []
    for seed in range(40):
        result = rows_of_a_probe(make_inputs, seed, signal)
        row, summary = result.rows()[0], result._summaries["transductive", "latents"]
        assert row["interval_by"] == "deletions"
        values.append(row["roc_auc"])
        widths.append(width(row["roc_auc_ci"]))
        by_overlap.append(width(dataclasses.replace(summary, stand_in={}).interval("roc_auc")))
    low, high = narrower
    assert low <= np.median(widths) / np.median(by_overlap) <= high
    # Four standard deviations of the figures themselves.
    assert np.median(widths) == pytest.approx(4.0 * np.std(values), rel=0.45)


def test_a_row_without_a_stand_in_has_the_factor_of_nadeau_and_bengio(make_inputs, small_grids):
    class Unknown:
        def __init__(self, latents):
            self.fit_score = learner_of(SEX)(latents).fit_score

    result = rows_of_a_probe(
        make_inputs, 0, 1.0, unknown=Unknown, dummy=lambda latents: MajorityPredictor(),
        among=lambda latents: AmongPredictor(learner_of(SEX)(latents), np.arange(40)),
    )  # fmt: skip
    rows = {row["predictor"]: row for row in result.rows() if row["protocol"] == "transductive"}
    made = {"latents": "deletions", "unknown": "overlap", "dummy": "overlap", "among": "deletions"}
    assert {name: rows[name]["interval_by"] for name in made} == made
    assert rows["latents"]["roc_auc"] == rows["unknown"]["roc_auc"]
    assert rows["latents"]["roc_auc_ci"] != rows["unknown"]["roc_auc_ci"]
    assert result.stand_ins["among"]["roc_auc"].test.shape == (40,)
    # What is always .5 adds nothing to the error of a difference.
    ends = paired_difference(result, "latents", "dummy", "transductive")["ci"]
    assert width(ends) == pytest.approx(width(rows["latents"]["roc_auc_ci"]), rel=0.15)
    assert set(result.as_dict()["intervals"]) == {"deletions", "overlap", "people"}


def test_the_variance_of_strangers_is_that_of_delong():
    generator, targets = np.random.default_rng(0), np.arange(50) % 2
    scores = generator.normal(size=50) + targets
    wins = (scores[targets == 1][:, None] > scores[targets == 0]).astype(float)
    expected = wins.mean(axis=1).var(ddof=1) / 25 + wins.mean(axis=0).var(ddof=1) / 25
    figure = roc_auc(targets == 1, scores)
    assert family_variance(figure.influence, np.arange(50), targets) == pytest.approx(expected)
    assert np.isnan(family_variance(figure.influence, np.where(targets == 1, 0, np.arange(50)), targets))


@pytest.mark.parametrize("count", [8, 16, 40])
def test_a_perfect_figure_is_not_certain(count):
    targets = np.arange(count) % 2
    summary = summarize(table(targets, (2.0 * targets - 1.0)[None]), SEX)
    for metric in ("roc_auc", "balanced_accuracy", "accuracy"):
        low, high = summary.interval(metric)
        assert (summary.value(metric), high) == (1.0, 1.0)
        # Wilson's bound of `count` people who are all right.
        assert low == pytest.approx(count / (count + stats.t.ppf(0.975, count - 2) ** 2))


def test_a_perfect_figure_is_not_certainly_better():
    targets, generator = np.arange(16) % 2, np.random.default_rng(0)
    perfect, other = (summarize(table(targets, s[None]), SEX) for s in (targets - 0.5, 2.0 * targets - 1.1))
    assert perfect.difference(other, "roc_auc")["ci"] == pytest.approx([-0.23, 0.23], abs=0.03)
    same = perfect.difference(perfect, "roc_auc")
    assert (same["difference"], same["ci"], same["p"]) == (0.0, [0.0, 0.0], 1.0)
    worse = summarize(table(targets, generator.normal(size=(1, 16))), SEX)
    low, high = perfect.difference(worse, "roc_auc")["ci"]
    assert 0.0 < low < perfect.difference(worse, "roc_auc")["difference"] < high < 1.0


def test_paired_differences_of_test_people_hold():
    held = 0
    for seed in range(300):
        generator, targets = np.random.default_rng(seed), np.arange(60) % 2
        shared, first, second = generator.normal(size=(3, 60))
        a, b = (summarize(table(targets, (shared + own + 1.5 * targets)[None]), SEX) for own in (first, second))
        found = a.difference(b, "roc_auc")
        held += found["ci"][0] <= 0.0 <= found["ci"][1]
        assert (found["p"] > 0.05) == (found["ci"][0] < 0.0 < found["ci"][1])
    assert held / 300 == pytest.approx(0.95, abs=0.03)


def test_folds_that_are_sites_have_intervals_of_sites():
    generator, targets = np.random.default_rng(0), np.arange(400) % 2
    scores = (generator.normal(size=400) + targets)[None]
    width = {}
    for num_sites in (2, 4, 20):
        rows = table(targets, scores, protocol="leave-site-out", folds=[np.arange(400) * num_sites // 400])
        low, high = summarize(rows, SEX).interval("roc_auc")
        width[num_sites] = high - low
    assert width[2] > 0.4 > width[4] > width[20]


def test_figures_of_numbers_have_intervals_that_hold():
    age, held = Target("age", None), {"mae": 0, "r": 0, "r2": 0}
    truth = {"mae": 5.0 * (2.0 / np.pi) ** 0.5, "r": 10.0 / 125.0**0.5, "r2": 0.75}
    for seed in range(300):
        generator = np.random.default_rng(seed)
        targets = 10.0 * generator.normal(size=60)
        rows = table(targets, (targets + 5.0 * generator.normal(size=60))[None]).assign(prediction=lambda t: t["score"])
        summary = summarize(rows, age)
        for metric in held:
            low, high = summary.interval(metric)
            held[metric] += low <= truth[metric] <= high
    for metric, count in held.items():
        assert count / 300 == pytest.approx(0.95, abs=0.035), metric


def test_one_class_gives_null_figures():
    summary = summarize(table([1, 1], [[0.5, 0.5]]), SEX)
    assert (summary.value("roc_auc"), summary.interval("roc_auc")) == (None, [None, None])
    assert summary.difference(summary, "roc_auc") == {"difference": None, "ci": [None, None], "p": None}
    assert json.dumps(summary.interval("roc_auc"), allow_nan=False) == "[null, null]"
    assert summarize(table([1], [[0.5]]).iloc[:0], SEX).value("roc_auc") is None


def test_a_constant_score_is_chance_for_certain_and_one_class_for_everyone_is_not():
    targets = np.arange(16) % 2
    constant = summarize(table(targets, np.zeros((1, 16))), SEX)
    assert constant.interval("roc_auc") == constant.interval("balanced_accuracy") == [0.5, 0.5]
    # All are called women, as those of another scanner are: another sixteen might not be.
    rows = table(targets, np.random.default_rng(0).normal(size=(1, 16)) - 9.0)
    low, high = summarize(rows, SEX).interval("balanced_accuracy")
    assert low < 0.3 < 0.7 < high


def test_differences_of_shares_lie_between_minus_one_and_one():
    targets = np.array([0] * 5 + [1] * 3)
    right, wrong = (np.array([-3.0, -2.0, -2.5, 0.4, -1.0, 0.5, 1.0, 0.3]) * sign for sign in (1, -1))
    first, second = (summarize(table(targets, scores[None]), SEX) for scores in (right, wrong))
    low, high = first.difference(second, "roc_auc")["ci"]
    assert (low > 0.0, high) == (True, 1.0)


def test_holm_corrects_for_all_comparisons():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []
    assert intervals.p_of_difference(Estimate(0.0, 0.0, 10.0, 8.0)) == 1.0
