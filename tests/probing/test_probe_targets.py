"""Other targets than sex: what a column means, and figures against scikit-learn."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mrigen.errors import CohortError, UsageError
from mrigen.probing import learners
from mrigen.probing.learners import RidgePredictor
from mrigen.probing.plan import ProbePlan
from mrigen.probing.predictors import stratified_group_folds
from mrigen.probing.protocol import run_probe
from mrigen.probing.targets import SEX, Target, read_target

AGE, GROUP = Target("age", None), Target("group", ("a", "b", "c"))
QUICK = {"num_folds": 4, "num_repeats": 2}


def test_columns_are_understood():
    table = pd.DataFrame(
        {
            "sex": ["M", "F", "x", None], "age": [1.5, np.nan, 3.0, 4.0], "patient": [1.0, 0.0, np.nan, 1.0],
            "group": ["b", "a", "c", None], "head_volume_ml": [1.0, 2.0, 3.0, 4.0], "same": ["x"] * 4,
        }
    )  # fmt: skip
    for name, target, values in (
        ("sex", SEX, [1, 0, np.nan, np.nan]),
        ("age", AGE, [1.5, np.nan, 3, 4]),
        ("patient", Target("patient", ("0", "1")), [1, 0, np.nan, 1]),
        ("group", GROUP, [1, 0, 2, np.nan]),
        ("head_size", Target("head_size", None), [1, 2, 3, 4]),
    ):
        found, numbers = read_target(table, name)
        assert found == target
        np.testing.assert_array_equal(numbers, values)
    with pytest.raises(UsageError, match=r"target='ages': got a column .* Did you mean age"):
        read_target(table, "ages")
    with pytest.raises(CohortError, match=r"target='same': got 1 different values"):
        read_target(table, "same")
    with pytest.raises(UsageError, match=r"target='name': got 30 different texts, expected numbers or at most 20"):
        read_target(pd.DataFrame({"name": [f"n{i}" for i in range(30)]}), "name")


def test_numbers_are_stratified_by_fifths_of_at_least_ten_people():
    for number, strata in ((3, 2), (20, 2), (30, 3), (50, 5), (500, 5)):
        counts = np.bincount(AGE.strata(np.random.default_rng(0).normal(size=number)))
        assert len(counts) == strata and np.ptp(counts) <= 1
    np.testing.assert_array_equal(AGE.strata(np.array([3.0, 1.0, 2.0, 9.0])), [1, 0, 0, 1])


def test_the_likely_column_is_named_first():
    table = pd.DataFrame({"sex": [None] * 3, "age": [2.0, 3.0, 4.0], "gender": ["F", "M", "M"], "iq": [1.0, 2.0, 3.0]})
    with pytest.raises(CohortError, match=r"kept these columns: gender, age, iq\. Ask for one, .*'gender'"):
        read_target(table, "sex")


def test_a_sex_that_nobody_has_names_the_columns_that_the_run_kept():
    table = pd.DataFrame(
        {
            "scan_id": ["a", "b", "c"], "participant_id": ["a", "b", "c"], "sex": [None] * 3, "age": [20.0, 30.0, 40.0],
            "site": ["x"] * 3, "Gender": ["F", "M", "M"], "centre_x": [1.0, 2.0, 3.0],
        }
    )  # fmt: skip
    with pytest.raises(CohortError) as caught:
        read_target(table, "sex")
    assert "kept these columns: Gender, age. Ask for one, for example `target='Gender'`" in str(caught.value)
    assert caught.value.faults[0].parameter == "target='sex'"
    with pytest.raises(CohortError, match="kept no column that can be asked for instead"):
        read_target(table[["scan_id", "participant_id", "sex", "site"]], "sex")


def test_ridge_equals_scikit_learn():
    generator = np.random.default_rng(0)
    latents = generator.normal(size=(80, 12)) * np.arange(1, 13)
    age = 40.0 + latents @ generator.normal(size=12) * 0.3 + 5.0 * generator.normal(size=80)
    groups, train, test = np.arange(80).astype(str), np.arange(60), np.arange(60, 80)
    found = RidgePredictor(latents, AGE).fit_score(age, groups, train, test, seed=3)
    folds = stratified_group_folds(AGE.strata(age[train]), groups[train], 5, seed=3)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": learners.RIDGE_ALPHA}, cv=folds,
        scoring="neg_mean_squared_error",
    ).fit(latents[train], age[train])  # fmt: skip
    np.testing.assert_allclose(found.score, search.predict(latents[test]), rtol=1e-6)
    assert found.setting == f"alpha={search.best_params_['ridge__alpha']:.2g}"
    # Ages of test people are not read.
    changed = np.where(np.arange(80) < 60, age, 0.0)
    np.testing.assert_array_equal(
        RidgePredictor(latents, AGE).fit_score(changed, groups, train, test, 3).score, found.score
    )


@pytest.fixture
def of_age(make_inputs):
    inputs = make_inputs(num_people=90)
    age = 45.0 + 12.0 * np.random.default_rng(8).normal(size=90)
    latents = inputs.latents.copy()
    latents[:, 1] += 0.1 * (age - 45.0)
    return dataclasses.replace(inputs, targets=age, target=AGE, latents=latents, confounds=age[:, None] // 5)


def test_age_is_predicted_with_the_figures_of_its_scores(of_age, small_grids):
    result = run_probe(of_age, plan=ProbePlan(target="age", confounds=("site",)), **QUICK)
    rows = {row["predictor"]: row for row in result.rows() if row["protocol"] == "transductive"}
    assert set(rows) == {
        "latents", "latents_draw", "dummy", "head_volume", "brain_volume", "pca", "confounds", "latents_deconfounded",
        "confounds_and_latents", "pca_deconfounded", "latents_bias_corrected",
    }  # fmt: skip
    table = result.scores[(result.scores.predictor == "latents") & (result.scores.protocol == "transductive")]
    error = np.mean([mean_absolute_error(part.target, part.score) for _, part in table.groupby(["repeat", "fold"])])
    assert rows["latents"]["mae"] == pytest.approx(error)
    assert rows["latents"]["mae_ci"][0] < error < rows["latents"]["mae_ci"][1]
    assert rows["latents"]["r"] > 0.6 > 0.3 > rows["latents_deconfounded"]["r"]
    assert rows["dummy"]["mae"] == pytest.approx(np.abs(of_age.targets - of_age.targets.mean()).mean(), rel=0.05)
    assert rows["confounds"]["r"] > 0.95
    assert {row["metric"] for row in result.comparisons()} == {"r", "mae"}
    assert next(row for row in result.rows() if row["protocol"] == "heldout")["r"] > 0.3
    json.dumps([result.rows(), result.comparisons()], allow_nan=False)


def test_three_classes_are_told(make_inputs, small_grids):
    inputs = make_inputs(num_people=90)
    targets = np.arange(90) % 3
    latents = inputs.latents.copy()
    latents[:, :3] += 2.0 * (targets[:, None] == np.arange(3))
    inputs = dataclasses.replace(inputs, targets=targets, target=GROUP, latents=latents)
    result = run_probe(inputs, plan=ProbePlan(target="group", classifiers=("svm_linear", "knn")), **QUICK)
    rows = {row["predictor"]: row for row in result.rows() if row["protocol"] == "transductive"}
    for name in ("latents", "latents_svm_linear", "latents_knn"):
        assert rows[name]["roc_auc"] > 0.8, name
        assert rows[name]["balanced_accuracy"] > 0.6, name
    assert rows["dummy"]["roc_auc"] == 0.5
    assert rows["dummy"]["balanced_accuracy"] == pytest.approx(1 / 3, abs=0.1)
    assert rows["pca"]["roc_auc"] == pytest.approx(0.5, abs=0.15)
    assert {"score.a", "score.b", "score.c"} <= set(result.scores)
    json.dumps([result.rows(), result.comparisons()], allow_nan=False)


def test_impossible_plans_are_refused_together(of_age):
    with pytest.raises(UsageError) as caught:
        ProbePlan(confounds=("sex",), classifiers=("tree",), harmonise="scanner", permutations=-1)
    assert len(caught.value.faults) == 4
    assert "classifiers: got tree, expected some of logistic, svm_linear" in str(caught.value)
    with pytest.raises(UsageError, match="classifiers: got knn for the numbers of age"):
        run_probe(of_age, plan=ProbePlan(target="age", classifiers=("knn",)), **QUICK)


def test_predictions_are_brought_back_from_the_mean(of_age, small_grids):
    train, test = np.arange(len(of_age.targets))[::2], np.arange(len(of_age.targets))[1::2]
    names = of_age.groups
    plain, back = (
        RidgePredictor(of_age.latents, AGE, bias_corrected=value).fit_score(of_age.targets, names, train, test, 0)
        for value in (False, True)
    )
    slopes = [np.polyfit(of_age.targets[test], found.score, 1)[0] for found in (plain, back)]
    assert slopes[0] < slopes[1]
    assert slopes[0] < 0.7 < slopes[1]
    assert np.corrcoef(plain.score, back.score)[0, 1] == pytest.approx(1.0)
    noise = np.random.default_rng(0).normal(size=(len(names), 2))
    found = RidgePredictor(noise, AGE, bias_corrected=True).fit_score(of_age.targets, names, train, test, 0)
    assert found.setting.endswith("not corrected")
