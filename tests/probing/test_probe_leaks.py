"""Whoever is tested teaches nothing: not the scaling, not the components, not the regression on confounds."""

import dataclasses

import numpy as np
import pytest

from mrigen.errors import CohortError
from mrigen.probing import gathering
from mrigen.probing.plan import ProbePlan
from mrigen.probing.rows import build_rows
from mrigen.probing.targets import Target
from mrigen.quality.copies import Copy

pytestmark = pytest.mark.usefixtures("small_grids")
PLANS = {
    "sex": ProbePlan(harmonise="site", classifiers=("svm_linear", "svm_rbf", "forest", "knn", "lda")),
    "age": ProbePlan(harmonise="site"),
}
PLAN = PLANS["sex"]


@pytest.mark.parametrize("target", PLANS)
def test_scores_do_not_change_with_the_values_of_others_who_are_tested(make_inputs, target):
    generator = np.random.default_rng(1)
    inputs = make_inputs(
        num_people=50, signal=0.5, confounds=generator.normal(size=(50, 2)), site=np.resize(["a", "b"], 50)
    )
    if target == "age":
        ages = 40.0 + 10.0 * inputs.targets + generator.normal(size=50)
        inputs = dataclasses.replace(inputs, targets=ages, target=Target("age", None))
    train, test = np.arange(40), np.arange(40, 50)
    strange = {}
    for name in ("latents", "latents_draw", "volumes", "head_volume", "brain_volume", "confounds"):
        strange[name] = np.array(getattr(inputs, name))
        strange[name][49] = 50.0 * np.abs(strange[name]).max()
    scores = [
        {
            name: row.fit_score(part.targets, part.groups, train, test, 0).score[:9]
            for name, row in build_rows(part, PLANS[target]).items()
        }
        for part in (inputs, dataclasses.replace(inputs, **strange))
    ]
    wanted = {"pca", "latents_deconfounded", "latents_harmonised"}
    assert wanted | ({"voxel_svm_rbf"} if target == "sex" else set()) <= set(scores[0])
    for name, values in scores[0].items():
        np.testing.assert_allclose(scores[1][name], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_scores_do_not_change_with_the_labels_of_those_who_are_tested(make_inputs):
    inputs = make_inputs(num_people=50, signal=0.5, site=np.resize(["a", "b"], 50))
    train, test = np.arange(40), np.arange(40, 50)
    turned = inputs.targets.copy()
    turned[test] = 1 - turned[test]
    for name, row in build_rows(inputs, PLAN).items():
        first, second = (row.fit_score(targets, inputs.groups, train, test, 0) for targets in (inputs.targets, turned))
        np.testing.assert_array_equal(first.score, second.score, err_msg=name)


def test_an_image_under_two_ids_is_refused(run_copy, monkeypatch):
    monkeypatch.setattr(gathering, "cohort_copies", lambda cache, zooms: [Copy(2, 5, 0.99, False)])
    dataset = run_copy.open_dataset()
    names = dataset.cache.table["participant_id"]
    with pytest.raises(CohortError, match=f"one image as {names[2]} and as {names[5]} .* {names[5]} in data.exclude"):
        gathering.gather_inputs(run_copy, dataset)
