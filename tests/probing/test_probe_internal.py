import json
import os
from pathlib import Path

import numpy as np
import pytest

from mrigen.data.dataset import open_dataset
from mrigen.errors import CohortError, RunError
from mrigen.probing import probe
from mrigen.probing.gathering import NUM_DRAWS, gather_inputs


@pytest.fixture(scope="module")
def dataset(finished_run):
    return open_dataset(finished_run.recipe, finished_run.split)


def test_inputs_belong_to_the_people_they_stand_beside(finished_run, dataset):
    inputs = gather_inputs(finished_run, dataset)
    subjects = finished_run.subjects.set_index("participant_id").loc[inputs.participant_ids]
    np.testing.assert_array_equal(inputs.targets, (subjects["sex"] == "M").astype(int))
    np.testing.assert_allclose(inputs.head_volume, subjects["head_volume_ml"])
    # The synthetic cohort knows the truth of what the masks measure.
    np.testing.assert_allclose(inputs.brain_volume, subjects["brain_volume_true_ml"], rtol=0.03)
    latents = finished_run.load_latents()
    place = {name: index for index, name in enumerate(latents["scan_id"])}
    for row in (0, len(inputs.participant_ids) - 1):
        np.testing.assert_array_equal(inputs.latents[row], latents["loc"][place[subjects["scan_id"].iloc[row]]])
    assert dict(zip(inputs.participant_ids, inputs.split, strict=True)) == dict(
        finished_run.split[["participant_id", "split"]].itertuples(index=False)
    )


def test_the_draws_are_many_of_each_posterior(finished_run, dataset):
    inputs = gather_inputs(finished_run, dataset, seed=3)
    again = gather_inputs(finished_run, dataset, seed=3)
    np.testing.assert_array_equal(inputs.latents_draw, again.latents_draw)
    latents = finished_run.load_latents()
    draws = np.stack(np.split(inputs.latents_draw, NUM_DRAWS, axis=1))
    assert draws.shape[1:] == inputs.latents.shape
    standardised = (draws - inputs.latents) / latents["scale"]
    assert abs(standardised.mean()) < 0.05 and 0.95 < standardised.std() < 1.05
    assert abs(np.corrcoef(standardised.reshape(NUM_DRAWS, -1))[np.triu_indices(NUM_DRAWS, 1)]).max() < 0.4


def test_probe_writes_its_table_and_picture(run_copy):
    result = probe(run_copy)
    assert not list(run_copy.directory.glob("probe*"))
    paths = result.write()
    assert {path.name for path in paths} == {
        *("probe.json", "probe_scores.tsv", "probe_folds.tsv", "probe_roc.png", "probe_calibration.png")
    }
    content = json.loads((run_copy.directory / "probe.json").read_text())
    assert content["rows"] == result.rows()
    names = {row["predictor"] for row in content["rows"]}
    assert names == {
        "latents", "latents_draw", "dummy", "head_volume", "brain_volume", "pca", "voxel_svm_linear", "voxel_svm_rbf"
    }  # fmt: skip
    keys = {"predictor", "protocol", "balanced_accuracy", "balanced_accuracy_ci", "roc_auc", "roc_auc_ci"}
    assert all(keys | {"num_subjects"} <= set(row) for row in content["rows"])
    assert {row["protocol"] for row in content["rows"]} == {"transductive", "heldout"}
    assert all(path.is_file() for path in paths)
    frame = result.to_frame().set_index(["protocol", "predictor"])
    row = content["rows"][0]
    assert frame.loc[("transductive", "latents"), ["roc_auc_low", "roc_auc_high"]].tolist() == row["roc_auc_ci"]
    assert len(frame) == len(content["rows"])
    assert "<td>latents</td>" in result._repr_html_()
    result.write(run_copy.directory / "elsewhere")
    for path in paths:
        assert (run_copy.directory / "elsewhere" / path.name).read_bytes() == path.read_bytes()


def test_latents_of_other_images_are_refused(run_copy, dataset):
    latents = run_copy.load_latents()
    latents["scan_id"] = latents["scan_id"][::-1]
    run_copy.save_latents(latents)
    with pytest.raises(RunError, match="of other images"):
        gather_inputs(run_copy, dataset)


def test_a_cohort_that_changed_is_refused(run_copy):
    facts = json.loads((run_copy.directory / "run.json").read_text())
    facts["data_fingerprint"] = "volumes-of-long-ago"
    (run_copy.directory / "run.json").write_text(json.dumps(facts))
    with pytest.raises(CohortError, match="images that differ from those of the run"):
        probe(run_copy)


def test_a_person_in_two_splits_is_refused(run_copy):
    table = (run_copy.directory / "split.tsv").read_text().splitlines()
    name, split = table[1].split("\t")
    other = "heldout" if split != "heldout" else "train"
    (run_copy.directory / "split.tsv").write_text("\n".join([*table, f"{name}\t{other}"]) + "\n")
    with pytest.raises(CohortError, match=name):
        probe(run_copy)


@pytest.mark.real
@pytest.mark.skipif("MRIGEN_REAL_DATA" not in os.environ, reason="needs real volumes")
def test_real_heads_go_through_the_main_job(tmp_path):
    from mrigen.recipe import load_recipe
    from mrigen.training import fit

    root = Path(os.environ["MRIGEN_REAL_DATA"]) / "ds002748"
    small = ["preprocess.zooms=8", "preprocess.volume_shape=[24,28,24]", "training.epochs=2", "model.channels=[2,4,4]"]
    run = fit(load_recipe("vae", [f"data.root={root}", "model.latent_dim=4", *small]), tmp_path / "run")
    assert run.metrics["heldout"]["mse"] < 0.1
    rows = probe(run).rows()
    volume = next(row for row in rows if row["predictor"] == "head_volume" and row["protocol"] == "transductive")
    assert volume["roc_auc"] > 0.8


@pytest.mark.real
@pytest.mark.skipif("MRIGEN_REAL_DATA" not in os.environ, reason="needs real volumes")
def test_brain_volumes_are_those_of_the_label_maps(tmp_path):
    import dataclasses

    import nibabel

    from mrigen.data.cache import open_cache
    from mrigen.data.dataset import open_cohort
    from mrigen.recipe import load_recipe

    root = Path(os.environ["MRIGEN_REAL_DATA"]) / "ixi-hh"
    small = ["preprocess.zooms=8", "preprocess.volume_shape=[24,28,24]"]
    recipe = load_recipe("vae", [f"data.root={root}", "data.mask=dlmuse", *small])
    cohort = open_cohort(recipe.data)
    cohort = dataclasses.replace(cohort, table=cohort.table.head(3))
    for person in open_cache(cohort, recipe.preprocess, directory=tmp_path).table.itertuples():
        labels = nibabel.load(person.mask_path)
        counted = np.count_nonzero(np.asanyarray(labels.dataobj)) * np.prod(labels.header.get_zooms()[:3]) / 1000
        assert person.brain_volume_ml == pytest.approx(counted, rel=0.01)
