"""The probe as a whole: rows, folds, chance and signal, comparisons, errors."""

import dataclasses
import json

import numpy as np
import pytest

from mrigen.errors import CohortError, UsageError
from mrigen.probing.protocol import run_probe
from mrigen.probing.result import paired_difference

NAMES = (
    "latents", "latents_draw", "dummy", "head_volume", "brain_volume", "pca", "voxel_svm_linear", "voxel_svm_rbf",
)  # fmt: skip
ROW_KEYS = {
    "predictor", "protocol", "balanced_accuracy", "balanced_accuracy_ci", "roc_auc", "roc_auc_ci", "accuracy",
    "accuracy_ci", "num_subjects", "num_families", "num_folds", "interval_by",
}  # fmt: skip
QUICK = {"num_folds": 3, "num_repeats": 2}

pytestmark = pytest.mark.usefixtures("small_grids")


def test_rows_scores_and_folds_keep_their_contract(make_inputs):
    calls = []
    result = run_probe(make_inputs(signal=1.0), **QUICK, progress=lambda done, total: calls.append((done, total)))
    rows = result.rows()
    assert [(r["predictor"], r["protocol"]) for r in rows] == [
        (n, p) for p in ("transductive", "heldout") for n in NAMES
    ]
    assert all(set(row) == ROW_KEYS for row in rows)
    assert {row["protocol"]: row["num_subjects"] for row in rows} == {"transductive": 60, "heldout": 12}
    for row in rows:
        assert row["roc_auc_ci"][0] <= row["roc_auc"] <= row["roc_auc_ci"][1]
    json.dumps([rows, result.comparisons()], allow_nan=False)
    assert calls == [(done, 7) for done in range(1, 8)]

    # One out-of-fold score a person, predictor and repeat, of the people that the folds name.
    assert not result.scores.duplicated(["predictor", "protocol", "repeat", "participant_id"]).any()
    assert result.scores.groupby(["predictor", "protocol", "repeat"]).size().unstack("protocol").loc[
        ("pca", 0)
    ].tolist() == [12, 60]
    assert not result.folds.duplicated(["repeat", "participant_id"]).any()
    assert result.folds.groupby(["repeat", "fold"]).size().to_list() == [20] * 6
    first, second = (set(result.folds.query(f"repeat == {r} and fold == 0").participant_id) for r in (0, 1))
    assert first != second


def test_planted_signal_is_found_by_all_but_the_dummy(make_inputs):
    for row in run_probe(make_inputs(signal=1.6), **QUICK).rows():
        if row["predictor"] == "dummy":
            assert row["roc_auc"] == 0.5
            assert row["balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
        elif row["predictor"] != "latents_draw":
            assert row["roc_auc"] > 0.9
            assert row["balanced_accuracy"] > 0.75


def test_shuffled_labels_give_chance(make_inputs):
    inputs = make_inputs(num_people=90, signal=1.6)
    shuffled = dataclasses.replace(inputs, targets=np.random.default_rng(5).permutation(inputs.targets))
    for row in run_probe(shuffled, **QUICK).rows():
        if row["protocol"] == "transductive":
            assert row["roc_auc"] == pytest.approx(0.5, abs=0.15)
            assert row["balanced_accuracy"] == pytest.approx(0.5, abs=0.12)


def test_the_same_seed_gives_the_same_result_and_another_one_other_folds(make_inputs):
    inputs = make_inputs(signal=0.4, num_people=30)
    settings = QUICK | {"num_repeats": 1}
    first, again, other = (run_probe(inputs, **settings, seed=seed) for seed in (1, 1, 2))
    assert first.scores.equals(again.scores)
    assert first.rows() == again.rows()
    assert not first.folds.equals(other.folds)


def test_every_predictor_is_tested_on_the_folds_that_are_written_down(make_inputs, monkeypatch):
    from mrigen.probing import predictors

    seen = []

    def spy(label):
        def fit_score(self, targets, groups, train, test, seed):
            seen.append((label, tuple(train), tuple(test)))
            return predictors.FoldScores(np.zeros(len(test)), np.zeros(len(test), int), "")

        return fit_score

    for cls in (predictors.MajorityPredictor, predictors.LogisticPredictor, predictors.KernelSVMPredictor):
        monkeypatch.setattr(cls, "fit_score", spy(cls.__name__))
    inputs = make_inputs(
        groups=np.repeat([f"family-{i}" for i in range(12)], 5), split=np.repeat(["train", "heldout"], [40, 20])
    )
    result = run_probe(inputs, **QUICK)
    assert len(seen) == len(NAMES) * 7
    assert len({(train, test) for _, train, test in seen}) == 7
    named = {frozenset(table.participant_id) for _, table in result.folds.groupby(["repeat", "fold"])}
    for _, train, test in seen:
        assert not set(train) & set(test)
        assert not set(inputs.groups[list(train)]) & set(inputs.groups[list(test)])
    tested = [frozenset(inputs.participant_ids[list(test)]) for _, _, test in seen]
    assert set(tested[: len(NAMES) * 6]) == named
    # The last fold is the held-out protocol: fitted on all others, tested on all held-out people.
    assert tested[-1] == frozenset(inputs.participant_ids[inputs.split == "heldout"])
    assert len(seen[-1][1]) == 40


def test_comparisons_have_the_sign_of_the_better_predictor(make_inputs):
    inputs = make_inputs(signal=1.5, voxel_signal=0.0)
    result = run_probe(inputs, **QUICK)
    better = paired_difference(result, "latents", "voxel_svm_linear", "transductive")
    assert better["difference"] > 0.2
    assert 0.0 < better["ci"][0] < better["difference"] < better["ci"][1]
    worse = paired_difference(result, "voxel_svm_linear", "latents", "transductive")
    assert worse["difference"] == -better["difference"]
    assert worse["ci"] == pytest.approx([-better["ci"][1], -better["ci"][0]])
    same = paired_difference(result, "latents", "latents", "transductive", "balanced_accuracy")
    assert (same["difference"], same["ci"]) == (0.0, [0.0, 0.0])
    assert len(result.comparisons()) == 2 * 2 * (len(NAMES) - 1)
    with pytest.raises(UsageError, match="predictor: got 'age', expected one of latents, "):
        paired_difference(result, "latents", "age", "transductive")


@pytest.mark.parametrize("who", ["nobody", "one person", "one class", "all"])
def test_a_heldout_set_that_cannot_be_scored_gives_null_rows(make_inputs, who):
    inputs = make_inputs(num_people=24, signal=1.0, latents_draw=None, brain_volume=None)
    rows = {"nobody": [], "one person": [3], "one class": np.flatnonzero(inputs.targets == 1)[:4], "all": np.arange(24)}
    split = np.where(np.isin(np.arange(24), rows[who]), "heldout", "train")
    result = run_probe(dataclasses.replace(inputs, split=split), **QUICK)
    assert "latents_draw" not in result.predictors
    assert "brain_volume" not in result.predictors
    for row in result.rows():
        if row["protocol"] == "heldout":
            assert row["roc_auc"] is None
            assert row["roc_auc_ci"] == [None, None]
            assert row["num_subjects"] == len(rows[who])
        else:
            assert row["roc_auc"] is not None
    json.dumps([result.rows(), result.comparisons()], allow_nan=False)
    assert result.comparisons()[-1]["difference"] is None


def test_a_rare_class_reduces_the_folds(make_inputs):
    inputs = make_inputs(num_people=20, targets=np.array([1] * 2 + [0] * 18))
    assert set(run_probe(inputs, **QUICK).folds.fold) == {0, 1}


@pytest.mark.parametrize("num_men", [0, 1])
def test_a_class_of_fewer_than_two_is_an_error(make_inputs, num_men):
    inputs = make_inputs(num_people=12, targets=np.array([1] * num_men + [0] * (12 - num_men)))
    with pytest.raises(CohortError, match=rf"target: got {12 - num_men} F and {num_men} M .*, expected at least 2 of"):
        run_probe(inputs, **QUICK)


def test_a_family_on_both_sides_of_the_heldout_split_is_an_error(make_inputs):
    inputs = make_inputs(num_people=20)
    groups = inputs.groups.copy()
    groups[[3, 4]] = "twins"
    with pytest.raises(CohortError, match=r"groups: got twins in the held-out people .* Split the cohort by family"):
        run_probe(dataclasses.replace(inputs, groups=groups), **QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": np.array([0, 1] * 9 + [2, 1])}, "targets: got 2, expected only 0, 1"),
        ({"split": np.array(["train"] * 19 + ["test"])}, "split: got test, expected only train, validation, heldout"),
        ({"latents": np.zeros((19, 3))}, r"latents: got shape \(19, 3\), expected \(20, at least 1\)"),
        ({"latents": np.zeros((20, 0))}, r"latents: got shape \(20, 0\), expected \(20, at least 1\)"),
        ({"head_volume": np.array([np.nan] + [1.0] * 19)}, "head_volume: got NaN or infinity for sub-000, expected"),
        ({"head_volume": np.array(["n/a"] * 20)}, "head_volume: got dtype <U3, expected numbers"),
        ({"participant_ids": np.array(["sub-1"] * 20)}, "participant_ids: got sub-1 more than once"),
    ],
)
def test_wrong_inputs_are_named(make_inputs, changes, message):
    with pytest.raises(UsageError, match=message):
        run_probe(make_inputs(num_people=20, **changes), **QUICK)


def test_faults_are_reported_together(make_inputs):
    with pytest.raises(UsageError) as caught:
        run_probe(
            make_inputs(num_people=20, latents=np.zeros((1, 1)), site=np.array(["x"])), num_folds=1, num_repeats=0
        )
    assert len(caught.value.faults) == 4
