"""A plan from the run's table to its files."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

import mrigen.analysis
import mrigen.probing
from mrigen.errors import UsageError
from mrigen.probing import ProbePlan, probe, probe_external, probe_nested
from mrigen.probing.gathering import gather_inputs
from mrigen.probing.result import output_path

pytestmark = pytest.mark.usefixtures("small_grids")


def test_everything_of_a_plan_reaches_probe_json(run_copy):
    result = probe(
        run_copy, confounds=["head_size", "age"], classifiers="lda", untrained=True, permutations=2, jobs=1,
        harmonise="site", leave_site_out=True,
    )  # fmt: skip
    result.write()
    content = json.loads((run_copy.directory / "probe.json").read_text())
    assert content["rows"] == result.rows()
    assert {"untrained", "confounds", "latents_deconfounded", "latents_harmonised", "latents_lda"} <= {
        row["predictor"] for row in content["rows"]
    }
    assert content["confounds"] == ["head_size", "age"]
    assert content["permutation"]["num_permutations"] == len(content["permutation"]["null"]) == 2
    assert content["permutation"]["p"] in (pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)
    assert content["permutation"]["observed"] == pytest.approx(content["rows"][0]["roc_auc"], abs=1e-6)
    assert {row["predictor"] for row in content["telling_site"]} == {"latents", "latents_harmonised"}
    assert "leave-site-out" in content["protocols"]
    for ending in ("_roc.png", "_calibration.png", "_site_folds.tsv"):
        assert output_path(run_copy.directory, "sex", ending).is_file()


def test_the_probe_of_another_target_leaves_that_of_sex_alone(run_copy):
    before = sorted(path.name for path in run_copy.directory.glob("probe*"))
    result = probe(run_copy, plan=ProbePlan(target="age", confounds=("head_size",)))
    assert sorted(path.name for path in run_copy.directory.glob("probe*")) == before
    result.write()
    content = json.loads((run_copy.directory / "probe_age.json").read_text())
    assert (content["target"], content["classes"]) == ("age", None)
    assert content["rows"] == result.rows()
    assert set(content["rows"][0]) > {"mae", "r", "r2", "mae_ci"}
    new = {path.name for path in run_copy.directory.glob("probe*")} - set(before)
    assert new == {"probe_age.json", "probe_age_folds.tsv", "probe_age_scores.tsv"}


def test_the_fields_of_a_plan_are_keywords_of_the_verbs(finished_run):
    fields = {field.name for field in dataclasses.fields(ProbePlan)}
    for verb in (probe, probe_nested, probe_external):
        assert fields < set(inspect.signature(verb).parameters)
        with pytest.raises(TypeError, match="unexpected keyword argument 'targets'"):
            verb(*[finished_run, "data"][: 1 + (verb is probe_external)], targets="age")
    with pytest.raises(UsageError, match="target: got it beside `plan`"):
        probe(finished_run, target="age", plan=ProbePlan())
    with pytest.raises(UsageError, match="jobs: got 0, expected a number of processes"):
        probe(finished_run, jobs=0)
    with pytest.raises(UsageError, match="num_folds: got 1, expected an integer >= 2"):
        probe_nested(finished_run, num_folds=1)


def test_everything_public_is_exported():
    for package in (mrigen.probing, mrigen.analysis):
        assert set(package.__all__) <= set(dir(package))
        for name in package.__all__:
            assert getattr(package, name).__module__.startswith(package.__name__)
    with pytest.raises(AttributeError, match="no attribute 'prob'"):
        mrigen.probing.prob  # noqa: B018


def test_inputs_of_a_plan(finished_run):
    dataset = finished_run.open_dataset()
    inputs = gather_inputs(finished_run, dataset, plan=ProbePlan(target="age", untrained=True))
    ages = finished_run.subjects.set_index("participant_id").loc[inputs.participant_ids]["age"]
    np.testing.assert_allclose(inputs.targets, ages)
    assert inputs.latents_untrained.shape == inputs.latents.shape
    assert np.abs(inputs.latents_untrained - inputs.latents).max() > 1e-3
    assert np.ptp(inputs.latents_untrained, axis=0).max() > 0
    with pytest.raises(UsageError, match=r"confounds='weight': got a column that the run's subjects.tsv does not have"):
        gather_inputs(finished_run, dataset, plan=ProbePlan(confounds=("weight",)))
