"""A probe on another cohort: nothing is learned from it, and nobody of the run is in it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mrigen.data.dataset import open_cohort
from mrigen.errors import CohortError, UsageError
from mrigen.probing import ProbePlan, probe_external
from mrigen.probing.external import gather_external

pytestmark = pytest.mark.usefixtures("small_grids")


@pytest.fixture(scope="module")
def others(finished_run, tmp_path_factory):
    """A table of twelve other synthetic people, six of each sex, women and men in turn."""
    data = finished_run.recipe.data
    phantom = data.phantom.model_copy(update={"seed": data.phantom.seed + 7})
    table = open_cohort(data.model_copy(update={"num_subjects": 24, "phantom": phantom})).table
    parts = [table[table["sex"] == sex].head(6).assign(turn=range(6)) for sex in "FM"]
    table = pd.concat(parts).sort_values(["turn", "sex"])[["participant_id", "path", "sex", "age", "site"]]
    table["participant_id"] = "other" + table["participant_id"].str.replace("sub-", "")
    path = tmp_path_factory.mktemp("others") / "others.tsv"
    table.to_csv(path, sep="\t", index=False)
    return path


def part_of(others, place, /, **changes):
    pd.read_csv(others, sep="\t", dtype=str).head(8).assign(**changes).to_csv(place, sep="\t", index=False)
    return place


def test_people_are_scored_alike_whoever_is_scored_beside_them(run_copy, others, tmp_path):
    everyone = probe_external(run_copy, others, confounds=["age"])
    few = probe_external(run_copy, part_of(others, tmp_path / "few.tsv"), confounds=["age"])
    assert not list(run_copy.directory.glob("probe_external*"))
    everyone.write()
    few.write()
    assert everyone.num_subjects == {"external": 12}
    assert {"latents", "latents_draw", "head_volume", "pca", "voxel_svm_linear", "confounds"} <= set(few.predictors)
    assert (run_copy.directory / "probe_external-others.json").is_file()
    assert (run_copy.directory / "probe_external-few_roc.png").is_file()
    keys = ["predictor", "participant_id"]
    merged = few.scores.merge(everyone.scores, on=keys, suffixes=("", "_everyone"))
    merged = merged[merged["predictor"] != "latents_draw"]
    assert len(merged) == 8 * (len(few.predictors) - 1)
    # A scaler, a regression or principal components fitted on the people that are scored would show here.
    np.testing.assert_allclose(merged["score"], merged["score_everyone"], rtol=1e-3, atol=1e-4)


def test_harmonising_looks_at_images_and_never_at_the_target(run_copy, others, tmp_path):
    true = probe_external(run_copy, others, harmonise="site").scores.query("predictor == 'latents_harmonised'")
    table = pd.read_csv(others, sep="\t", dtype=str)
    table["sex"] = table["sex"].map({"F": "M", "M": "F"})
    table.to_csv(tmp_path / "turned.tsv", sep="\t", index=False)
    turned = probe_external(run_copy, tmp_path / "turned.tsv", harmonise="site").scores
    turned = turned.query("predictor == 'latents_harmonised'")
    np.testing.assert_array_equal(true["score"], turned["score"])
    assert (true["target"].to_numpy() != turned["target"].to_numpy()).all()


def test_people_of_the_run_are_refused_by_id_and_by_image(run_copy, others, tmp_path):
    own = run_copy.subjects
    shared = part_of(others, tmp_path / "ids.tsv", participant_id=own["participant_id"].head(8).to_list())
    with pytest.raises(CohortError, match=f"{own['participant_id'][0]}.* who are of the run, expected other people"):
        probe_external(run_copy, shared)
    again = part_of(others, tmp_path / "images.tsv", path=own["path"].head(8).to_list())
    with pytest.raises(CohortError, match=r"got the image of .* again, expected images that the run does not have"):
        probe_external(run_copy, again)
    assert not list(run_copy.directory.glob("probe_external*"))


def test_relatives_of_the_run_are_refused(run_copy):
    people = pd.DataFrame({"participant_id": ["a", "b"], "sex": ["F", "M"], "family": ["smith", None]})
    own, other = (SimpleNamespace(table=people), SimpleNamespace(table=people.assign(participant_id=["c", "d"])))
    with pytest.raises(CohortError, match="got the families smith, of which the run has members"):
        gather_external(run_copy, own, other, "others", 0, ProbePlan())


def test_one_class_and_other_protocols_are_refused(run_copy, others, tmp_path):
    with pytest.raises(CohortError, match="got 8 people with a known sex, expected at least one of each"):
        probe_external(run_copy, part_of(others, tmp_path / "women.tsv", sex="F"))
    with pytest.raises(UsageError, match="leave_site_out: got it beside `data`"):
        probe_external(run_copy, others, leave_site_out=True)
