"""The session of the first page of docs/python.md: everything from one process, in memory."""

import os
import tempfile
from pathlib import Path

import matplotlib.figure
import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mrigen

# Conditions, so that heads can be transferred; a template, so that they can be segmented.
SETTINGS = {"kind": "morph", "num_subjects": 24, "epochs": 2, "condition": ["sex", "age"], "latent_dim": 4}


def files_under(*folders: Path) -> set[str]:
    """Returns all paths in some folders, without those of code that TensorFlow generates and removes at the end."""
    paths = (path for folder in folders for path in folder.rglob("*"))
    return {str(path) for path in paths if not path.name.startswith("__autograph_generated_file")}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A run that `mrigen.fit` made, in a working folder and with a folder for temporary files of their own."""
    here, temporary = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        yield mrigen.fit("smoke", **SETTINGS), here, temporary


@pytest.fixture
def run(session):
    """The run; when the test ends, nothing may have been written but what a run keeps to be quicker the next time."""
    run, here, temporary = session
    before = files_under(here, temporary)
    yield run
    kept = {str(path) for path in run.directory.resolve().glob("atlas_*")}
    written = {os.path.realpath(path) for path in files_under(here, temporary) - before} - kept
    assert not written, f"written without being asked: {sorted(written)}"


@pytest.fixture
def images(run):
    """A path, and another image in memory."""
    first, second = run.subjects["path"][:2]
    return [first, nibabel.load(second)]


def check_images(images, number: int) -> None:
    assert len(images) == number and len(list(images)) == number
    image = images[0]
    assert isinstance(image, nibabel.Nifti1Image) and image.get_data_dtype() == np.float32
    assert np.isfinite(image.get_fdata()).all() and image.get_fdata().std() > 0
    frame = images.to_frame()
    assert isinstance(frame, pd.DataFrame) and len(frame) == number
    assert isinstance(images.plot(), matplotlib.figure.Figure)
    assert "<table" in images._repr_html_()


def test_a_fit_writes_its_folder_only(session):
    run, here, temporary = session
    assert not files_under(temporary)
    assert {path.name for path in here.iterdir()} == {"runs"}
    assert [path.resolve() for path in (here / "runs").iterdir()] == [run.directory.resolve()]
    assert run.is_complete and len(repr(run).splitlines()) == 5


def test_latents_are_features(run):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(pipeline, run.latents, run.subjects.sex, error_score="raise").shape == (5,)


def test_encode_and_decode(run, images):
    z = run.encode(images)
    assert isinstance(z, pd.DataFrame) and len(z) == 2 and "participant_id" in z
    np.testing.assert_allclose(z[run.latents.columns], run.latents[:2], atol=1e-4)
    check_images(run.decode(z), 2)
    check_images(run.decode(run.latents.to_numpy()[:3]), 3)


def test_samples(run, tmp_path):
    images = run.sample(4, given={"sex": "F"})
    check_images(images, 4)
    assert set(images.to_frame()["sex"]) == {"F"}
    paths = images.write(tmp_path / "samples")
    assert all(path.is_file() for path in paths)
    np.testing.assert_allclose(nibabel.load(paths[0]).get_fdata(), images[0].get_fdata(), atol=1e-6)


def test_a_sample_is_what_nilearn_plots(run):
    from nilearn import plotting

    display = plotting.plot_anat(run.sample(1)[0])
    display.close()


def test_probes(run):
    result = run.probe(target="age", confounds=["sex"])
    assert {"latents", "confounds"} <= set(result.to_frame()["predictor"])
    result = run.probe(confounds=["age"])
    assert isinstance(result.plot_roc(), matplotlib.figure.Figure)
    assert isinstance(result.plot_calibration(), matplotlib.figure.Figure)


def test_explanation(run):
    assert run.explain(num_steps=3, num_permutations=30) is not None


def test_reconstructions(run, images):
    assert len(run.reconstruct(images)) == 2


def test_walks(run, images):
    first, second = run.subjects["scan_id"][:2]
    check_images(run.interpolate(first, second, num_steps=3), 3)
    assert len(run.traverse(num_directions=2, num_steps=3)) == 2


def test_templates(run):
    check_images(run.template(), 1)
    check_images(run.template(by="sex"), 2)


def test_transfer(run):
    assert run.transfer({"sex": "F"}) is not None


def test_segmentation(run, images):
    assert len(run.segment(images)) == 2


def test_maps_and_diagnosis(run):
    maps = run.map_latents()
    assert len(maps.points) == len(run.subjects) and isinstance(maps.correlations, pd.DataFrame)
    assert isinstance(maps.plot(), matplotlib.figure.Figure)
    assert isinstance(run.diagnose(num_draws=8).plot(), matplotlib.figure.Figure)
