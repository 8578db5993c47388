"""Folds of every protocol: families whole, sites apart."""

import dataclasses

import numpy as np
import pytest

from mrigen.errors import CohortError
from mrigen.probing.folds import site_folds
from mrigen.probing.plan import CLASSIFIERS, ProbePlan
from mrigen.probing.predictors import FoldScores
from mrigen.probing.protocol import run_probe
from mrigen.probing.targets import SEX, Target

PLAN = ProbePlan(leave_site_out=True)
SITES = np.array(["a", "b", "c"])[np.arange(60) // 20]


class Spy:
    """A predictor that remembers its folds."""

    def __init__(self):
        self.folds = []

    def fit_score(self, targets, groups, train, test, seed):
        self.folds.append((train, test))
        return FoldScores(np.zeros(len(test)), np.zeros(len(test), int), "")


@pytest.fixture
def twins(make_inputs):
    """30 pairs of twins, some at two sites; the held-out people are whole families."""
    groups = np.repeat([f"family-{i}" for i in range(30)], 2)
    groups[[0, 59]] = "apart"
    groups[[1, 58]] = "apart too"
    split = np.where((np.arange(60) >= 40) & (np.arange(60) < 54), "heldout", "train")
    return make_inputs(num_people=60, groups=groups, split=split, site=SITES)


@pytest.mark.parametrize("kind", ["binary", "numbers"])
def test_twins_are_never_on_both_sides_in_any_protocol(twins, kind):
    if kind == "numbers":
        twins = dataclasses.replace(twins, targets=np.random.default_rng(0).normal(size=60), target=Target("age", None))
    spy = Spy()
    result = run_probe(twins, num_folds=4, num_repeats=2, plan=PLAN, predictors={"latents": spy})
    assert set(result.num_subjects) == {"transductive", "heldout", "leave-site-out"}
    assert len(spy.folds) == 2 * 4 + 1 + 3
    for train, test in spy.folds:
        assert len(train) and len(test) and not set(train) & set(test)
        assert not set(twins.groups[train]) & set(twins.groups[test])


def test_a_fold_is_a_site(twins):
    spy = Spy()
    result = run_probe(twins, num_repeats=1, plan=PLAN, predictors={"latents": spy})
    for (train, test), site in zip(spy.folds[-3:], "abc", strict=True):
        assert set(twins.site[test]) == {site}
        assert site not in twins.site[train]
        assert len(test) == 20
        named = result.site_folds.query("site == @site")["participant_id"]
        assert set(named) == set(twins.participant_ids[test])
    # Twins of people at site a, who live at c, are in neither part.
    assert 58 not in spy.folds[-3][0] and 59 not in spy.folds[-3][0]
    rows = [row for row in result.rows() if row["protocol"] == "leave-site-out"]
    assert [row["num_subjects"] for row in rows] == [60]
    assert "leave-site-out" not in run_probe(twins, num_repeats=1, predictors={"x": spy}).protocols


def test_sites_with_one_class_teach_but_are_not_tested():
    targets = np.array([0, 1] * 10 + [1] * 5)
    site = np.repeat(["a", "b", "men"], [10, 10, 5])
    groups = np.arange(25).astype(str)
    folds = site_folds(targets, groups, site, SEX)
    assert set(folds) == {"a", "b"}
    assert set(site[folds["a"][0]]) == {"b", "men"}
    with pytest.raises(CohortError, match="leave_site_out: got 0 of 2 sites with both classes of sex"):
        site_folds(targets[10:], groups[10:], site[10:], SEX)


def test_every_classifier_finds_what_is_there_and_nothing_in_noise(make_inputs, small_grids):
    names = [f"latents_{name}" for name in CLASSIFIERS if name != "logistic"]
    plan = ProbePlan(classifiers=CLASSIFIERS)
    settings = {"num_folds": 3, "num_repeats": 1, "plan": plan}
    for signal, low, high in ((1.2, 0.9, 1.0), (0.0, 0.3, 0.7)):
        rows = run_probe(make_inputs(num_people=90, signal=signal, voxel_signal=0.0, seed=2), **settings).rows()
        auc = {row["predictor"]: row["roc_auc"] for row in rows if row["protocol"] == "transductive"}
        assert [name for name in auc if name.startswith("latents_") and name != "latents_draw"] == names
        for name in ["latents", *names]:
            assert low <= auc[name] <= high, (name, signal)
