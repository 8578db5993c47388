import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from mrigen.distributions import NormalPrior
from mrigen.errors import UsageError
from mrigen.generation.densities import PriorDensity
from mrigen.generation.sampling import Samples, sample


def test_samples_are_bids_and_lie_where_the_training_heads_lie(finished_run, tmp_path):
    paths = sample(finished_run, 3, seed=7).write(tmp_path / "out")
    assert paths[0] == tmp_path / "out" / "sub-synth0001" / "anat" / "sub-synth0001_T1w.nii.gz"
    image = nibabel.load(paths[0])
    np.testing.assert_allclose(image.affine, finished_run.affine)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms() == (8.0, 8.0, 8.0)
    assert image.shape == (24, 28, 24)
    data = image.get_fdata()
    assert data.min() >= 0 and data.max() <= 1 and data.std() > 0.05
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    manifest = pd.read_csv(tmp_path / "out" / "manifest.tsv", sep="\t")
    assert list(manifest["seed"]) == [7, 7, 7]
    assert [(tmp_path / "out" / path).is_file() for path in manifest["path"]] == [True] * 3
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_a_sample_depends_on_seed_and_number_alone(finished_run, tmp_path):
    few = sample(finished_run, 2, seed=7).write(tmp_path / "few")
    many = sample(finished_run, 11, seed=7).write(tmp_path / "many")
    assert [path.read_bytes() for path in few] == [path.read_bytes() for path in many[:2]]
    other = sample(finished_run, 1, seed=8).write(tmp_path / "other")
    assert other[0].read_bytes() != few[0].read_bytes()
    assert few[0].read_bytes() != few[1].read_bytes()


def test_native_units_are_the_median_ones_of_the_training_people(finished_run, tmp_path):
    plain = nibabel.load(sample(finished_run, 1).write(tmp_path / "plain")[0]).get_fdata()
    native = nibabel.load(sample(finished_run, 1, native_units=True).write(tmp_path / "native")[0]).get_fdata()
    subjects = finished_run.subjects.merge(finished_run.split, on="participant_id").query("split == 'train'")
    expected = subjects["low"].median() + plain * subjects["scale"].median()
    # The synthetic brains were cut out, with 0 around.
    np.testing.assert_allclose(native, np.maximum(expected, 0.0), rtol=1e-4, atol=1e-2)
    assert (native > 0).any()


def test_temperature_scales_the_spread(finished_run):
    density = PriorDensity(NormalPrior(8))
    warm = density.draw(np.random.default_rng(0), 1.0)
    np.testing.assert_allclose(density.draw(np.random.default_rng(0), 0.5), warm / 2)
    with pytest.raises(UsageError, match="temperature: got 0, expected a number > 0"):
        sample(finished_run, 1, temperature=0.0)
    with pytest.raises(UsageError, match="num_samples: got 0, expected an integer >= 1"):
        sample(finished_run, 0)


def test_other_samples_are_not_overwritten_without_force(finished_run, tmp_path):
    out = tmp_path / "out"
    first = sample(finished_run, 1, seed=1).write(out)[0].read_bytes()
    assert sample(finished_run, 2, seed=1).write(out)[0].read_bytes() == first
    with pytest.raises(UsageError, match=r"holds samples with seed 1, expected none or the same settings"):
        sample(finished_run, 1, seed=2).write(out)
    assert sample(finished_run, 1, seed=2).write(out, force=True)[0].read_bytes() != first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="holds files that are no samples"):
        sample(finished_run, 1).write(tmp_path / "mine")


def test_an_autoencoder_samples_from_its_training_latents(autoencoder_run):
    run, metrics = autoencoder_run, autoencoder_run.metrics
    assert metrics["kl_nats"] is None and metrics["heldout"]["elbo_nats"] is None
    assert metrics["latent_dim"] == 6 * 7 * 6 * 2
    paths = sample(run, 2).write()
    assert paths[0].parents[2] == run.directory / "samples"
    manifest = pd.read_csv(run.directory / "samples" / "manifest.tsv", sep="\t")
    assert set(manifest["density"]) <= {"gaussian", "gmm"}


def test_fields_lead_from_a_head_into_the_template(morph_run, tmp_path):
    """ITK's convention: at each place of the head, in LPS millimetres, where to look in the template."""
    (path,) = sample(morph_run, 1, seed=7, fields=True, density="prior").write(tmp_path / "out")
    image = nibabel.load(path.parent / "sub-synth0001_from-T1w_to-template_mode-image_xfm.nii.gz")
    assert image.shape == (24, 28, 24, 1, 3)
    assert image.header.get_intent()[0] == "vector"
    np.testing.assert_allclose(image.affine, morph_run.affine)
    moved = np.moveaxis(np.asarray(image.dataobj)[:, :, :, 0] * (-1, -1, 1), -1, 0) / 8.0  # RAS, voxels of 8 mm
    assert np.abs(moved).max() > 0.01
    model = morph_run.load_model()
    template = model.template
    places = np.indices(template.shape) + moved
    parts = model.decode_parts(PriorDensity(NormalPrior(8)).draw(np.random.default_rng([7, 0]), 1.0)[None])
    expected = ndimage.map_coordinates(template, places, order=1, mode="nearest")
    expected = expected * parts["gain"][0, ..., 0] + parts["offset"][0, ..., 0]
    np.testing.assert_allclose(nibabel.load(path).get_fdata(), np.clip(expected, 0, 1), atol=1e-3)
    logarithm = nibabel.load(path.parent / "sub-synth0001_desc-logjacobian_map.nii.gz").get_fdata()
    assert logarithm.shape == template.shape
    determinant = np.linalg.det(np.eye(3) + np.stack(np.gradient(moved, axis=(1, 2, 3)), -1).transpose(1, 2, 3, 0, 4))
    np.testing.assert_allclose(np.exp(logarithm), determinant, atol=1e-3)


def test_fields_of_a_model_without_a_template_are_refused(finished_run):
    with pytest.raises(UsageError, match="fields: got a run of kind vae, expected kind morph"):
        sample(finished_run, 1, fields=True)
    with pytest.raises(UsageError, match="got samples without fields"):
        sample(finished_run, 1).displacement(0)


def test_samples_in_memory_are_those_that_are_written(finished_run, tmp_path):
    """Whichever are asked for, in whatever order: more than a batch of them."""
    before = sorted(finished_run.directory.iterdir())
    samples = sample(finished_run, 10, seed=7)
    assert sorted(finished_run.directory.iterdir()) == before
    last, first = samples[-1], samples[0]
    assert (len(samples), samples.names[9]) == (10, "sub-synth0010")
    iterated, sliced = list(samples), samples[7:9]
    written = [nibabel.load(path) for path in samples.write(tmp_path / "out")]
    asked, files = [first, last, *iterated, *sliced], [written[0], written[-1], *written, *written[7:9]]
    for image, expected in zip(asked, files, strict=True):
        np.testing.assert_array_equal(image.get_fdata(), expected.get_fdata())
        np.testing.assert_array_equal(image.affine, expected.affine)
        assert image.get_data_dtype() == np.float32 and image.header.get_xyzt_units()[0] == "mm"
    with pytest.raises(IndexError):
        samples[10]
    manifest = pd.read_csv(tmp_path / "out" / "manifest.tsv", sep="\t")
    pd.testing.assert_frame_equal(samples.to_frame(), manifest)
    assert samples.plot().axes and "sub-synth0001" in samples._repr_html_()


def test_nothing_is_drawn_before_what_is_there_is_looked_at(finished_run, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    samples = Samples(finished_run, 2)
    with pytest.raises(UsageError, match="Name another with `directory`"):
        samples.write(tmp_path)
    assert "model" not in vars(samples)
    with pytest.raises(UsageError, match="density: got nonsense"):
        sample(finished_run, 2, density="nonsense")
    with pytest.raises(UsageError, match="got height, expected some of sex"):
        Samples(finished_run, 2, given={"height": 3})
