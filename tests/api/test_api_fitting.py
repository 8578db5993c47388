"""Fits from Python: cohorts in memory, what is kept of them, what is said meanwhile."""

import logging
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

import mrigen
from mrigen.api.cohorts import images_in, split_data, write_cohort
from mrigen.api.settings import resolve_recipe
from mrigen.data.cohort import index_cohort
from mrigen.errors import CohortError, MrigenWarning, RunError, UsageError
from mrigen.imaging.volumes import write_volume

AFFINE = np.diag([8.0, 9.0, 10.0, 1.0])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """The synthetic cohort of small images: paths, and its table."""
    root = tmp_path_factory.mktemp("bids") / "phantom"
    mrigen.write_phantom_cohort(root, mrigen.data.phantom.PhantomSettings(num_subjects=8, zooms=8.0))
    paths = sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))
    return paths, pd.read_csv(root / "participants.tsv", sep="\t")


@pytest.fixture
def image():
    return nibabel.Nifti1Image(np.random.default_rng(0).random((5, 6, 7)), AFFINE)


def keep(data, directory, **settings):
    block, frame = split_data(data)
    return write_cohort(frame, resolve_recipe("smoke", block, settings), directory)


def test_a_list_of_paths_becomes_a_table_in_the_run(tmp_path, phantom):
    paths, _ = phantom
    recipe, folder = keep(paths, tmp_path / "run")
    assert folder.parent == tmp_path / "run" and recipe.data.source == "files"
    assert [path.name for path in folder.iterdir()] == ["cohort.tsv"]
    cohort = index_cohort(recipe.data).table
    assert list(cohort["path"]) == [str(path) for path in paths]
    assert list(cohort["participant_id"]) == [path.name.split("_")[0] for path in paths]


def test_relative_paths_are_those_of_the_caller(tmp_path, monkeypatch, phantom):
    paths, _ = phantom
    monkeypatch.chdir(paths[0].parent)
    recipe, _ = keep([Path(paths[0].name), str(paths[1])], tmp_path / "run")
    assert list(index_cohort(recipe.data).table["path"]) == [str(paths[0]), str(paths[1])]


def test_images_in_memory_are_kept_in_the_run(tmp_path, phantom, image):
    loaded = nibabel.load(phantom[0][0])
    recipe, folder = keep([image, loaded], tmp_path / "run")
    cohort = index_cohort(recipe.data).table.set_index("participant_id")
    assert set(cohort.index) == {"sub-0001", loaded.get_filename().split("/")[-1].split("_")[0]}
    kept = nibabel.load(cohort.loc["sub-0001", "path"])
    np.testing.assert_allclose(kept.get_fdata(), image.get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(kept.affine, AFFINE)
    assert Path(kept.get_filename()).is_relative_to(folder)


def test_a_data_frame_keeps_what_it_knows_of_people(tmp_path, phantom, image):
    paths, _ = phantom
    frame = pd.DataFrame(
        {"T1w": [*paths[:2], image], "sex": ["F", None, "M"], "age": [30.5, 40, np.nan], "dose": [1, 2, 3]},
        index=pd.Index(["a", "b", "c"], name="participant_id"),
    )
    before = frame.copy()
    recipe, _ = keep(frame, tmp_path / "run")
    cohort = index_cohort(recipe.data).table
    assert list(cohort["participant_id"]) == ["a", "b", "c"]
    assert list(cohort["sex"]) == ["F", None, "M"] and list(cohort["dose"]) == [1, 2, 3]
    np.testing.assert_array_equal(cohort["age"], [30.5, 40, np.nan])
    assert frame.equals(before), "what was given is not changed"


def test_masks_in_a_frame_are_paths_of_the_caller_or_images(tmp_path, monkeypatch, phantom, image):
    mask = nibabel.Nifti1Image((image.get_fdata() > 0.5).astype(np.uint8), AFFINE)
    monkeypatch.chdir(tmp_path)
    write_volume("mask.nii.gz", np.ones((2, 2, 2), np.uint8), AFFINE)
    frame = pd.DataFrame({"path": [phantom[0][0], image], "brain": ["mask.nii.gz", mask]})
    recipe, _ = keep(frame, tmp_path / "run", mask="brain")
    cohort = index_cohort(recipe.data).table
    assert str(tmp_path / "mask.nii.gz") in set(cohort["mask_path"])
    assert all(Path(path).is_file() for path in cohort["mask_path"])


def test_the_same_cohort_is_kept_once(tmp_path, image):
    first, folder = keep([image], tmp_path / "run")
    second, again = keep([image], tmp_path / "run")
    assert folder is not None and again is None and first == second
    other, another = keep([nibabel.Nifti1Image(image.get_fdata() + 1, AFFINE)], tmp_path / "run")
    assert another is not None and other != first


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, UsageError, "data: got a int, expected a folder or table"),
        ([], UsageError, "data: got nobody"),
        (pd.DataFrame({"x": ["a"]}), CohortError, "data frame with the columns x, expected one with the paths"),
        ([3.5], CohortError, "got a float for an image, expected a path or a nibabel image"),
    ],
)
def test_what_is_no_cohort_is_refused(data, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        mrigen.fit("smoke", data)
    assert not list(tmp_path.glob("runs/*"))


def test_images_in_takes_what_holds_several():
    for data in (["a", "b"], np.array(["a", "b"]), pd.Series(["a", "b"]), pd.DataFrame({"path": ["a", "b"]})):
        assert images_in(data) == ["a", "b"]
    with pytest.raises(UsageError, match="images: got a str, expected a list of images"):
        images_in("a.nii.gz")


def test_a_fit_of_a_frame_can_be_opened_resumed_and_replaced(tmp_path, monkeypatch, phantom):
    paths, people = phantom
    monkeypatch.chdir(tmp_path)
    frame = people.assign(path=paths)
    settings = {"epochs": 1, "zooms": 16, "volume_shape": 16, "directory": "run"}
    with pytest.warns(MrigenWarning) as caught:
        run = mrigen.fit("smoke", frame, **settings)
    assert any("collapsed" in str(warning.message) for warning in caught)
    assert {warning.filename for warning in caught if warning.category is MrigenWarning} == {__file__}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert set(run.subjects["sex"]) == {"F", "M"} and len(run.open_dataset().cache.table) == 8
    assert "training, " in (run.directory / "log.txt").read_text(), "notes are in the log of the run"
    weights = run.weights_path.read_bytes()
    assert mrigen.fit("smoke", frame, resume=True, **settings).weights_path.read_bytes() == weights
    with pytest.raises(UsageError, match="a run is there already"):
        mrigen.fit("smoke", paths, **settings)
    assert len(list(run.directory.glob("cohort-*"))) == 1, "of a refused fit nothing stays"
    replaced = mrigen.fit("smoke", paths, force=True, **settings)
    assert replaced.recipe.data.root != run.recipe.data.root
    assert len(list(run.directory.glob("cohort-*"))) == 1, "the cohort of the older run went with it"
    assert len(replaced.open_dataset().cache.table) == 8
    assert mrigen.resume("run") == replaced


def test_notes_are_for_whoever_asks(finished_run, caplog):
    with caplog.at_level(logging.INFO, logger="mrigen"):
        assert mrigen.resume(finished_run.directory).is_complete
    assert "is complete; nothing to do" in caplog.text


def test_what_is_no_run_does_not_go_on(tmp_path):
    with pytest.raises(RunError, match=r"no recipe.yaml, expected a run made by mrigen fit"):
        mrigen.resume(tmp_path / "nowhere")


def test_heads_that_the_grid_cuts_are_warned_of(phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(MrigenWarning, match=r"leaves out more than 2 % .* of 8 images"):
        mrigen.fit("smoke", phantom[0], epochs=1, zooms=8, volume_shape=12)


def test_an_interrupted_fit_says_how_it_goes_on(tmp_path, monkeypatch):
    from mrigen import training

    def fit(recipe, directory, name, force):
        (directory / "checkpoint").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(KeyboardInterrupt) as caught:
        mrigen.fit("smoke", directory=tmp_path / "run")
    assert f"mrigen.resume('{tmp_path / 'run'}')" in caught.value.__notes__[0]


def test_two_fits_that_begin_at_once_have_folders_of_their_own(tmp_path, monkeypatch):
    from mrigen.api import fitting

    monkeypatch.chdir(tmp_path)
    with fitting._run_directory(None, "vae") as first, fitting._run_directory(None, "vae") as second:
        assert first != second and first.is_dir() and second.is_dir()
    assert not first.exists() and not second.exists()


def test_plan_fit_takes_what_fit_takes(phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = mrigen.plan_fit("smoke", phantom[0], zooms=16, volume_shape=16, kind="autoencoder")
    assert plan.num_images == 8 and plan.volume_shape == (16, 16, 16)
    assert not list(tmp_path.iterdir())
