"""A plan from the run's table to its files."""

import json

import numpy as np
import pytest
from mrigen.probing.of_run import gather_inputs, output_path

from mrigen.errors import UsageError
from mrigen.probing import ProbePlan, probe

pytestmark = pytest.mark.usefixtures("small_grids")


def test_everything_of_a_plan_reaches_probe_json(run_copy):
    plan = ProbePlan(
        confounds=("head_size", "age"), classifiers=("lda",), untrained=True, permutations=2, jobs=1, harmonise="site",
        leave_site_out=True,
    )  # fmt: skip
    result = probe(run_copy, plan=plan)
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
    result = probe(run_copy, plan=ProbePlan(targets="age", confounds=("head_size",)))
    content = json.loads((run_copy.directory / "probe_age.json").read_text())
    assert (content["target"], content["classes"]) == ("age", None)
    assert content["rows"] == result.rows()
    assert set(content["rows"][0]) > {"mae", "r", "r2", "mae_ci"}
    new = {path.name for path in run_copy.directory.glob("probe*")} - set(before)
    assert new == {"probe_age.json", "probe_age_folds.tsv", "probe_age_scores.tsv"}


def test_inputs_of_a_plan(finished_run):
    dataset = finished_run.open_dataset()
    inputs = gather_inputs(finished_run, dataset, plan=ProbePlan(targets="age", untrained=True))
    ages = finished_run.subjects.set_index("participant_id").loc[inputs.participant_ids]["age"]
    np.testing.assert_allclose(inputs.targets, ages)
    assert inputs.latents_untrained.shape == inputs.latents.shape
    assert np.abs(inputs.latents_untrained - inputs.latents).max() > 1e-3
    assert np.ptp(inputs.latents_untrained, axis=0).max() > 0
    with pytest.raises(UsageError, match=r"--confounds weight: got a column that the run's subjects.tsv does not have"):
        gather_inputs(finished_run, dataset, plan=ProbePlan(confounds=("weight",)))
