"""What the latents know, on the whole image."""

import nibabel
import numpy as np
import pytest

from mrigen.errors import UsageError
from mrigen.probing import Explanation, explain
from mrigen.probing.direction import fit_direction
from mrigen.probing.explanation import _saliency
from mrigen.runs.encoding import decode_latents
from mrigen.system.files import read_json


def people(effect, num_people=400, seed=0):
    generator = np.random.default_rng(seed)
    targets = np.arange(num_people) % 2
    latents = generator.normal(size=(num_people, 4))
    latents[:, 1] += latents[:, 0]  # Latents that go together, as real ones do.
    latents[:, 0] += effect * (targets - 0.5)
    return latents, targets, np.arange(num_people).astype(str)


def test_the_direction_is_what_people_differ_in_and_not_the_weights():
    latents, targets, groups = people(3.0)
    direction = fit_direction(latents, targets, groups)
    # The probe subtracts latent 1, which only adds noise; no person changes like that.
    assert direction.weights[1] < -0.2 * direction.weights[0]
    ends = direction.at(direction.ends)
    means = np.stack([latents[targets == label].mean(axis=0) for label in (0, 1)])
    np.testing.assert_allclose(ends, means, atol=0.3)
    np.testing.assert_allclose(direction.scores(ends), direction.ends, atol=1e-9)


def test_a_probe_that_found_nothing_leads_hardly_anywhere():
    direction = fit_direction(*people(0.0))
    assert np.abs(np.diff(direction.at(direction.ends), axis=0)).max() < 0.5


def test_files_of_a_run(finished_run, tmp_path):
    name = finished_run.subjects["participant_id"].iloc[0]
    explanation = explain(finished_run, participants=[name], num_steps=3, num_bootstrap=4)
    assert not (finished_run.directory / "explanation").exists()
    paths = explanation.write(tmp_path)
    assert {path.name for path in paths} == {
        *(
            f"{stem}.nii.gz"
            for stem in ("sequence", "difference", "difference_z", "saliency", f"{name}_counterfactual")
        ),
        *(f"{stem}.png" for stem in ("sequence", "difference", "saliency", f"{name}_counterfactual")),
        "explanation.json",
    }
    assert all(path.is_file() for path in paths)
    image, difference = (nibabel.load(tmp_path / f"{stem}.nii.gz") for stem in ("sequence", "difference"))
    np.testing.assert_array_equal(explanation.maps["difference"].get_fdata(), difference.get_fdata())
    np.testing.assert_array_equal(explanation.sequence.affine, image.affine)
    assert image.shape == (24, 28, 24, 3)
    np.testing.assert_allclose(difference.affine, finished_run.affine)
    heads = image.get_fdata()
    np.testing.assert_allclose(difference.get_fdata(), heads[..., 2] - heads[..., 0], atol=1e-5)
    assert np.abs(difference.get_fdata()).max() > 0
    pair = nibabel.load(tmp_path / f"{name}_counterfactual.nii.gz").get_fdata()
    loc = finished_run.load_latents()["loc"][:1]
    own = np.clip(decode_latents(finished_run.load_model(), loc), 0, 1)[0]
    np.testing.assert_allclose(pair[..., 0], own, atol=1e-5)
    facts = read_json(tmp_path / "explanation.json")
    assert facts["heldout_roc_auc"] == explanation.heldout_roc_auc
    assert facts["num_people"] + facts["num_heldout"] == len(finished_run.split)
    with pytest.raises(UsageError, match="is there already"):
        explanation.write(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        Explanation.check_target(finished_run, tmp_path)
    Explanation.check_target(finished_run, tmp_path, force=True)
    assert set(explanation.write(tmp_path, force=True)) == set(paths)
    with pytest.raises(UsageError, match="got 'growth', expected one of sequence, difference, saliency, sub-"):
        explanation.plot("growth")


def test_growth_of_a_morphing_model(morph_run, tmp_path):
    explanation = explain(morph_run, confounds=["head_size", "site"], num_steps=2, num_bootstrap=3)
    assert {path.name for path in explanation.write(tmp_path)} >= {"growth.png", "growth_z.nii.gz"}
    growth = nibabel.load(tmp_path / "growth.nii.gz").get_fdata()
    assert growth.shape == (24, 28, 24) and np.isfinite(growth).all() and np.abs(growth).max() > 0


def test_saliency_sums_to_what_the_score_gains(finished_run):
    """Integrated gradients are complete: they sum to the score's difference between head and baseline."""
    latents = finished_run.load_latents()
    scan_ids = latents["scan_id"][:2]
    cache = finished_run.open_dataset().cache
    from mrigen.data.pipeline import read_volumes

    model, weights = finished_run.load_model(), np.zeros(latents["loc"].shape[1])
    weights[0] = 1.0
    direction = fit_direction(*people(1.0))
    direction = type(direction)(np.zeros_like(weights), weights, weights, (0.0, 1.0), 1.0)
    found = _saliency(finished_run, model, direction, {"scan_id": scan_ids, "targets": np.array([1, 0])}, 0)
    volumes = read_volumes(cache, np.arange(2))[..., None]
    scores = np.asarray(model.encode(np.concatenate([volumes, volumes.mean(axis=0, keepdims=True)])))[:, 0]
    expected = ((scores[0] - scores[2]) - (scores[1] - scores[2])) / 2
    assert found.sum() == pytest.approx(expected, rel=0.1, abs=1e-3)


def test_faults_come_together(finished_run):
    with pytest.raises(UsageError) as error:
        explain(finished_run, confounds=["weight"], participants=["sub-nobody"], num_steps=1, num_bootstrap=0)
    assert len(error.value.faults) == 4
    assert "confounds: got 'weight', expected age, head_size, site" in str(error.value)
    assert {fault.parameter for fault in error.value.faults} == {
        *("confounds", "participants", "num_steps", "num_bootstrap")
    }
