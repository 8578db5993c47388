"""Whether samples are what was asked for: sets and models of which it is known."""

import types

import numpy as np
import pandas as pd
import pytest
from labelled_heads import ZOOMS, people

from mrigen.data.covariates import Covariates
from mrigen.data.phantom_factors import PhantomSettings, draw_factors
from mrigen.evaluation import conditions, phantom_truth
from mrigen.evaluation.contenders import made_people
from mrigen.evaluation.heads import FLOOR, SAMPLES, Heads, Material
from mrigen.recipe import Recipe

COUNT = 40


@pytest.fixture(scope="module")
def real():
    return people(COUNT, 0, "unseen")[0], people(COUNT, 1, "taught")[0]


@pytest.fixture(scope="module")
def others():
    return people(COUNT, 2, "others")[0]


def judged(samples, real, run=None):
    unseen, taught = real
    contenders = {SAMPLES: samples, FLOOR: taught}
    return conditions.judge(Material(unseen, taught, contenders, ZOOMS, np.diag([8.0, 8.0, 8.0, 1.0]), run=run))


def asked(heads, **columns):
    return Heads(heads.volumes, heads.people.assign(**columns), heads.brains)


def value(result, figure, of=SAMPLES):
    return next(row for row in result.rows if row.figure == figure and row.of == of)


def test_what_was_asked_for_is_found(real, others):
    result = judged(others, real)
    assert value(result, "asked_age_r").value > 0.8
    assert value(result, "asked_sex_auc").value > 0.8
    for name in ("age", "sex"):
        row = value(result, f"asked_{name}_slope")
        assert row.low < 1.0 < row.high and 0.7 < row.value < 1.4
        assert 0.6 < value(result, f"asked_{name}_slope", "unseen").value < 1.6
        assert 0.7 < value(result, f"asked_{name}_slope", FLOOR).value < 1.4
    assert abs(value(result, "asked_age_error").value) < 6.0


def test_the_other_sex_is_found_out(real, others):
    flipped = asked(others, sex=others.people["sex"].map({"F": "M", "M": "F"}))
    result = judged(flipped, real)
    assert value(result, "asked_sex_auc").value < 0.2
    assert value(result, "asked_sex_error").value > 0.6
    assert value(result, "asked_sex_slope").value < -0.5


def test_compressed_and_overdone_ages_are_ordered(real, others):
    age = others.people["age"]
    slopes = [
        value(judged(asked(others, age=50.0 + factor * (age - 50.0)), real), "asked_age_slope")
        for factor in (2.0, 1.0, 0.5)
    ]
    assert slopes[0].high < 0.8 and slopes[2].low > 1.2
    assert slopes[0].value < slopes[1].value < slopes[2].value


def test_samples_of_nobody_in_particular_have_no_figures(real, others):
    plain = Heads(others.volumes, made_people(COUNT, SAMPLES), others.brains)
    result = judged(plain, real)
    row = value(result, "asked_age_slope")
    assert row.value is None and row.note == "nothing was asked for"
    assert any("Nothing that could be judged" in note for note in result.notes)
    assert value(result, "counterfactual_age_slope").note == "no run"


def test_one_age_for_all_has_an_error_but_no_slope(real, others):
    result = judged(asked(others, age=30.0), real)
    assert value(result, "asked_age_error").value > 5.0
    assert value(result, "asked_age_slope").value is None


def test_too_few_people_judge_nothing(real, others):
    few = tuple(each.take(np.arange(6)) for each in real)
    assert value(judged(others.take(np.arange(6)), few), "asked_age_r").value is None


def linear_run(real, monkeypatch, strength=1.0, leak=0.0):
    """A run whose model is linear: covariates add what regression says, times `strength`; `leak` goes to latents."""
    taught = real[1]
    split = pd.DataFrame({"participant_id": taught.people["participant_id"], "split": "train"})
    covariates = Covariates.of(taught.people, split, ["age", "sex"])
    matrix = taught.volumes.reshape(COUNT, -1)
    given = covariates.encode(taught.people)[:, [0, 2]]
    mean = matrix.mean(axis=0)
    effects = np.linalg.lstsq(given - given.mean(axis=0), matrix - mean, rcond=None)[0]
    basis = np.linalg.qr(effects.T)[0]
    left = matrix - mean
    left = left - (left @ basis) @ basis.T
    components = np.linalg.svd(left, full_matrices=False)[2][:20]

    def encode_volumes(model, volumes):
        flat = volumes.reshape(len(volumes), -1) / 255.0 - mean
        return {
            "loc": flat @ components.T + leak * (flat @ basis).sum(axis=1, keepdims=True) * np.ones(len(components))
        }

    def decode_latents(model, latents, condition):
        flat = mean + latents @ components + strength * (condition[:, [0, 2]] @ effects)
        return flat.reshape(len(latents), *taught.volumes.shape[1:])

    monkeypatch.setattr("mrigen.runs.encoding.encode_volumes", encode_volumes)
    monkeypatch.setattr("mrigen.runs.encoding.decode_latents", decode_latents)
    recipe = types.SimpleNamespace(data=types.SimpleNamespace(source="files"))
    return types.SimpleNamespace(covariates=covariates, load_model=lambda: None, recipe=recipe)


def test_counterfactuals_of_a_right_model(real, others, monkeypatch):
    result = judged(others, real, linear_run(real, monkeypatch))
    for name in ("age", "sex"):
        assert 0.7 < value(result, f"counterfactual_{name}_slope").value < 1.4
    assert value(result, "counterfactual_composition").value < 0.1
    assert value(result, "counterfactual_reversibility").value < 0.15
    assert value(result, "counterfactual_minimality").value < 0.2
    assert value(result, "counterfactual_head_size_slope").value is None
    assert value(result, "truth_age_slope").note == "only of synthetic people is it known"


def test_counterfactuals_that_are_overdone_or_leak_are_seen(real, others, monkeypatch):
    right = judged(others, real, linear_run(real, monkeypatch))
    overdone = judged(others, real, linear_run(real, monkeypatch, strength=2.0))
    figure = "counterfactual_age_slope"
    assert value(overdone, figure).value > 1.5 * value(right, figure).value
    leaking = judged(others, real, linear_run(real, monkeypatch, leak=0.2))
    for figure in ("counterfactual_minimality", "counterfactual_reversibility"):
        assert value(leaking, figure).value > 2.0 * value(right, figure).value


def test_a_run_without_covariates_has_no_counterfactuals(real, others):
    run = types.SimpleNamespace(covariates=None)
    result = judged(others, real, run)
    assert value(result, "counterfactual_age_slope").note == "the run is not conditioned on covariates"


def test_synthetic_people_change_as_the_planted_effects_say():
    data = {"source": "phantom", "num_subjects": 4, "phantom": {"zooms": 8.0}}
    grid = {"zooms": [8.0, 8.0, 8.0], "volume_shape": [24, 28, 24]}
    recipe = Recipe.model_validate({"data": data, "preprocess": grid})
    person = draw_factors(phantom_truth._settings(recipe)).iloc[0]
    name, age = person["participant_id"], person["age"]
    assert not phantom_truth.true_change(recipe, name, "age", age).any()
    older, younger = (phantom_truth.true_change(recipe, name, "age", each) for each in (age + 30, age - 30))
    assert np.abs(older).max() > 0.05
    assert np.corrcoef(older.ravel(), younger.ravel())[0, 1] < -0.3
    settings = PhantomSettings(num_subjects=1)
    factors = draw_factors(settings).iloc[0].to_dict()
    other = {"F": "M", "M": "F"}[factors["sex"]]
    back = phantom_truth.changed(
        settings, phantom_truth.changed(settings, factors, "sex", other), "sex", factors["sex"]
    )
    assert back["sex_shape"] == pytest.approx(factors["sex_shape"])
    assert back["brain_volume_true_ml"] == pytest.approx(factors["brain_volume_true_ml"])
