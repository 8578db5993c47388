"""What people add to the error of a stand-in: against refits without them, and against known variances."""

import numpy as np
import pytest

from mrigen.probing import training_variance
from mrigen.probing.intervals import family_variance, interval, of_deletions, repeated_variance
from mrigen.probing.measures import roc_auc
from mrigen.probing.predictors import stratified_group_folds
from mrigen.probing.targets import SEX, Target
from mrigen.probing.training_variance import Kernel, _smooth_figures, _StandIn, contributions

AGE, SITES = Target("age", None), Target("site", ("a", "b", "c"))


def folds_of(strata, families, repeats=2):
    return [
        (repeat, train, test)
        for repeat in range(repeats)
        for train, test in stratified_group_folds(strata, families, 5, repeat)
    ]


def targets_of(target, count, generator):
    return generator.normal(40.0, 10.0, count) if target.classes is None else np.arange(count) % len(target.classes)


@pytest.mark.parametrize("target", [SEX, SITES, AGE], ids=lambda target: target.name)
def test_deletions_are_refits_without_a_teacher(target):
    generator = np.random.default_rng(0)
    latents, targets = generator.normal(size=(30, 4)), targets_of(target, 30, generator)
    fit = _StandIn(Kernel(latents @ latents.T), target, targets)
    train, test = np.arange(24), np.arange(24, 30)
    scores, changes = fit.deletions(0.3, train, test)
    for k in (0, 7, 23):
        fewer = np.delete(train, k)
        assert scores + changes[:, :, k] == pytest.approx(fit.deletions(0.3, fewer, test)[0], abs=1e-9)


def test_one_teacher_less_also_changes_the_scale_of_features():
    generator = np.random.default_rng(0)
    latents, targets = generator.normal(size=(100, 3)), np.arange(100) % 2
    latents[:, 0] += 2.0 * targets
    fit, train, test = _StandIn(latents, SEX, targets), np.arange(80), np.arange(80, 100)
    scores, changes = fit.deletions(1.0, train, test)
    _, at_one_scale = _StandIn(Kernel(fit._centred @ fit._centred.T), SEX, targets).deletions(1.0, train, test)
    refits = np.zeros(changes.shape)
    for k in train:
        fewer = np.delete(train, k)
        scaled = fit._centred * latents[train].std(axis=0) / latents[fewer].std(axis=0)
        kernel = scaled @ scaled.T
        penalised = kernel[np.ix_(fewer, fewer)] + np.diag(fit._ridge[fewer])
        refits[0, :, k] = kernel[np.ix_(test, fewer)] @ np.linalg.solve(penalised, fit._outputs[fewer, 0]) - scores[0]
    assert np.abs(changes - refits).mean() < 0.3 * np.abs(at_one_scale - refits).mean()


@pytest.mark.parametrize("target", [SEX, SITES, AGE], ids=lambda target: target.name)
def test_what_people_add_changes_as_small_steps_of_their_scores_say(target):
    generator, count = np.random.default_rng(1), 24
    targets = targets_of(target, count, generator)
    outputs = {"binary": 1, "multiclass": 3, "regression": 1}[target.task]
    scores, steps = generator.normal(size=(outputs, count)), generator.normal(size=(outputs, count, 5))
    if target is AGE:
        targets = (targets - targets.mean()) / targets.std()
    found = _smooth_figures(target, targets, scores, steps)
    assert set(found) == set(target.metrics)
    small = 1e-5
    for k in range(5):
        moved = [_smooth_figures(target, targets, scores + sign * small * steps[..., k], steps) for sign in (0.5, -0.5)]
        for metric, part in found.items():
            slope = (moved[0][metric].influence - moved[1][metric].influence) / small
            # The width of the step is taken as fixed, though it goes with the spread of scores.
            tolerance = 1e-4 if target is AGE else 0.35 * np.abs(slope).max()
            assert part.influence_changes[:, k] == pytest.approx(slope, abs=tolerance), metric
            assert part.influence.sum() == pytest.approx(0.0, abs=1e-9)


def probe(generator, *, count=60, num_latents=8, signal=0.0, twins=False, penalty=30.0):
    """Returns features, targets, families, folds and the scores of a ridge regression in them."""
    members = 2 if twins else 1
    targets = np.repeat(np.arange(count // members) % 2, members)
    families = np.repeat(np.arange(count // members), members).astype(str)
    own, shared = generator.normal(size=(2, count, num_latents))
    latents = np.sqrt(0.1) * own + np.sqrt(0.9) * np.repeat(shared[::2], 2, axis=0) if twins else own
    latents[:, 0] += signal * targets
    folds = folds_of(targets, families)
    fit = _StandIn(latents, SEX, targets)
    return latents, targets, families, folds, [fit.deletions(penalty, train, test)[0][0] for _, train, test in folds]


@pytest.mark.parametrize(
    "setting", [{}, {"signal": 2.5}, {"twins": True}], ids=["chance", "a strong signal", "twins at chance"]
)
def test_the_ratio_is_that_of_the_variance_over_cohorts(setting):
    values, tested, ratios = [], [], []
    for seed in range(150):
        latents, targets, families, folds, scores = probe(np.random.default_rng(seed), **setting)
        figures = [roc_auc(targets[test] == 1, score) for (_, _, test), score in zip(folds, scores, strict=True)]
        values.append(np.mean([figure.value for figure in figures]))
        people = [families[test] for _, _, test in folds], [targets[test] for _, _, test in folds]
        tested.append(repeated_variance([f.influence for f in figures], *people, [fold[0] for fold in folds]))
        if seed < 30:
            found = contributions(latents, SEX, targets, families, folds, scores)
            ratios.append(found["roc_auc"].ratio())
    # Standard error 12 %; one factor for all is wrong by 60 % in one of them.
    assert np.mean(ratios) == pytest.approx(np.var(values) / np.mean(tested), rel=0.3)


def test_the_difference_from_the_same_predictor_is_nothing():
    latents, targets, families, folds, scores = probe(np.random.default_rng(0), signal=1.0)
    found = contributions(latents, SEX, targets, families, folds, scores)["roc_auc"]
    same = found - found
    assert (np.abs(same.both).max(), np.abs(same.training).max(), same.ratio()) == (0.0, 0.0, 3.0)


def test_few_people_and_alike_scores_have_no_stand_in():
    latents, targets, families, folds, scores = probe(np.random.default_rng(0))
    assert contributions(latents, SEX, targets, families, folds, [0.0 * part for part in scores]) == {}
    few = [(0, np.arange(2, 60), np.arange(2))]
    assert contributions(latents, SEX, targets, families, few, [np.arange(2.0)]) == {}


def test_many_families_are_deleted_in_groups(monkeypatch):
    latents, targets, families, folds, scores = probe(np.random.default_rng(0), signal=1.0)
    alone = contributions(latents, SEX, targets, families, folds, scores)["roc_auc"].ratio()
    monkeypatch.setattr(training_variance, "MOST_GROUPS", 30)
    grouped = contributions(latents, SEX, targets, families, folds, scores)["roc_auc"]
    assert grouped.both.shape == (30, 30)
    assert grouped.ratio() == pytest.approx(alone, rel=0.4)


def test_one_repeat_has_the_variance_of_its_folds():
    _, targets, families, folds, scores = probe(np.random.default_rng(0))
    first = [(fold[2], score) for fold, score in zip(folds, scores, strict=True) if fold[0] == 0]
    figures = [roc_auc(targets[test] == 1, score).influence for test, score in first]
    tests = [test for test, _ in first]
    people = [families[test] for test in tests], [targets[test] for test in tests]
    inside = [family_variance(i, *p) for i, *p in zip(figures, *people, strict=True)]
    assert repeated_variance(figures, *people, [0] * 5) == pytest.approx(np.mean(inside) / 5)
    # The same repeat again tells nothing new, but for what folds take off people.
    again = repeated_variance(2 * figures, people[0] * 2, people[1] * 2, [0] * 5 + [1] * 5)
    assert np.mean(inside) / 5 < again < 1.2 * np.mean(inside) / 5


def test_the_interval_holds_as_often_as_it_says_and_ninety_percent_is_not_sold_as_ninety_five():
    held = {0.95: 0, 0.9: 0}
    for seed in range(300):
        latents, targets, families, folds, scores = probe(np.random.default_rng([seed, 1]), num_latents=12)
        figures = [roc_auc(targets[test] == 1, score) for (_, _, test), score in zip(folds, scores, strict=True)]
        people = [families[test] for _, _, test in folds], [targets[test] for _, _, test in folds]
        tested = repeated_variance([f.influence for f in figures], *people, [fold[0] for fold in folds])
        ratio = contributions(latents, SEX, targets, families, folds, scores)["roc_auc"].ratio()
        inside = [family_variance(f.influence, *part) for f, *part in zip(figures, *people, strict=True)]
        value = float(np.mean([figure.value for figure in figures]))
        estimate = of_deletions(value, tested, float(np.mean(inside)) / 5, ratio, 60.0)
        for confidence in held:
            low, high = interval("roc_auc", estimate, confidence)
            held[confidence] += low <= 0.5 <= high
    # Standard error 1.3 and 1.7 points.
    assert held[0.95] / 300 == pytest.approx(0.955, abs=0.025)
    assert held[0.9] / 300 == pytest.approx(0.905, abs=0.023)
