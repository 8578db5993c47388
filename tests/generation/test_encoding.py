"""The latents of people of a run, of new people, and of single images."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError, MrigenError, UsageError
from mrigen.generation.encoding import encode
from mrigen.imaging.volumes import read_volume, write_volume
from mrigen.runs import Run


def folder_of(run):
    return Path(run.subjects["path"].iloc[0]).parents[2]


def test_new_people_are_encoded_as_the_own_were(finished_run):
    """Of the run's own folder as new people come the run's latents, with masks and without."""
    latents = finished_run.load_latents()
    for mask in ("phantom", None):
        found = encode(finished_run, data=folder_of(finished_run), mask=mask)
        assert list(found.people["scan_id"]) == list(latents["scan_id"])
        np.testing.assert_allclose(found.latents["loc"], latents["loc"], atol=1e-5)
        np.testing.assert_allclose(found.latents["scale"], latents["scale"], atol=1e-5)


def test_new_people_are_those_of_a_table_and_nothing_of_the_own_selection_holds(finished_run, tmp_path):
    chosen = finished_run.subjects.iloc[[3, 1]]
    table = pd.DataFrame({"participant_id": ["x7", "x5"], "path": chosen["path"], "sex": ["1", "2"]})
    table.to_csv(tmp_path / "people.tsv", sep="\t", index=False)
    run = Run(finished_run.directory)
    with pytest.raises(CohortError, match="sex_codes"):
        encode(run, data=tmp_path / "people.tsv")
    found = encode(run, data=tmp_path / "people.tsv", overrides=["data.sex_codes={F: [2], M: [1]}"])
    assert list(found.people["participant_id"]) == ["x5", "x7"]
    np.testing.assert_allclose(found.latents["loc"], run.load_latents()["loc"][[1, 3]], atol=1e-5)


def test_images_are_encoded_as_the_own_were(finished_run):
    """Files, images in memory and arrays on the grid; more than a batch of them, and mixed."""
    people, latents = finished_run.subjects.iloc[:10], finished_run.load_latents()["loc"][:10]
    volumes = read_volumes(finished_run.open_dataset().cache, np.arange(10))
    files = list(people["path"])
    found = encode(finished_run, files)
    assert list(found.people["scan_id"]) == list(people["scan_id"])
    np.testing.assert_allclose(found.latents["loc"], latents, atol=1e-5)
    arrays = encode(finished_run, volumes)
    assert list(arrays.people["participant_id"]) == [f"image-{number:03d}" for number in range(1, 11)]
    np.testing.assert_array_equal(arrays.latents["loc"], found.latents["loc"])
    loaded = nibabel.load(files[2])
    made = nibabel.Nifti1Image(np.asarray(loaded.dataobj), loaded.affine)
    mixed = encode(finished_run, [files[0], volumes[1], made, loaded, volumes[4][..., None]])
    assert list(mixed.people["scan_id"]) == [
        people["scan_id"][0], "image-002", "image-003", people["scan_id"][2], "image-005",
    ]  # fmt: skip
    np.testing.assert_allclose(mixed.latents["loc"], latents[[0, 1, 2, 2, 4]], atol=1e-5)
    assert set(mixed.latents) == {"loc", "scale"} and list(mixed.to_frame())[:3] == [*found.people, "loc_001"]
    single = encode(finished_run, volumes[3])
    np.testing.assert_allclose(single.latents["loc"], latents[3:4], atol=1e-5)


def test_a_conditional_model_has_the_covariates_of_its_own_images_beside_their_latents(told_run):
    found = encode(told_run, [told_run.subjects["path"].iloc[0], np.zeros((24, 28, 24))])
    assert list(found.people) == ["participant_id", "scan_id", "sex", "age", "head_volume_ml"]
    assert found.people["sex"].iloc[0] == told_run.subjects["sex"].iloc[0]
    assert found.people.iloc[1, 2:].isna().all()


def test_arrays_that_are_no_images_of_the_model_are_refused(finished_run):
    grid = np.zeros((24, 28, 24), np.float32)
    for images, message in [
        ([grid[1:]], r"images: got an array of shape \(23, 28, 24\) for image-001, expected \(24, 28, 24\)"),
        ([grid, grid + 2], "got an array with values from 2 to 2 for image-002"),
        ([grid * np.nan], "got an array with values from nan"),
        ([], "got none, expected one image or more"),
        ([finished_run.subjects["path"].iloc[0]] * 2, "twice, expected images of different names"),
    ]:
        with pytest.raises(UsageError, match=message):
            encode(finished_run, images)
    with pytest.raises(UsageError, match="got images beside `data`"):
        encode(finished_run, [grid], data="somewhere")


def test_what_cannot_be_encoded_is_told(finished_run, tmp_path):
    folder = folder_of(finished_run)
    for options, message in [
        ({"mask": "phantom"}, "mask: got phantom, expected it beside `data`"),
        ({"overrides": ["data.suffix=T2w"]}, "overrides: got data.suffix=T2w, expected it beside `data`"),
        ({"data": folder, "overrides": ["preprocess.zooms=2"]}, "overrides=preprocess.zooms=2: .*expected one of data"),
        ({"data": folder, "overrides": ["data.apply_mask=true"]}, "."),
        ({"data": tmp_path / "nowhere"}, "no such folder"),
        ({"data": folder, "mask": "nothing"}, "nothing"),
    ]:
        with pytest.raises(MrigenError, match=message):
            encode(finished_run, **options)


def test_a_run_of_stripped_brains_asks_for_masks(finished_run, tmp_path):
    run = Run(Path(shutil.copytree(finished_run.directory, tmp_path / "run")))
    recipe = run.directory / "recipe.yaml"
    text = recipe.read_text()
    assert text.count("apply_mask: false") == 1
    recipe.write_text(text.replace("apply_mask: false", "apply_mask: true"))
    with pytest.raises(UsageError, match="mask: got nothing, expected the masks of the new people"):
        encode(run, data=folder_of(run))
    # The synthetic images are stripped: only smaller masks change them.
    smaller = Path(shutil.copytree(folder_of(run), tmp_path / "people"))
    for path in smaller.glob("derivatives/phantom/sub-*/anat/*_mask.nii.gz"):
        mask = read_volume(path)
        mask.array[mask.array.shape[0] // 2 :] = 0
        write_volume(path, mask.array, mask.affine)
    stripped = encode(run, data=smaller, mask="phantom").latents["loc"]
    plain = encode(run, data=folder_of(run), overrides=["data.apply_mask=false"]).latents["loc"]
    np.testing.assert_allclose(plain, run.load_latents()["loc"], atol=1e-5)
    assert np.abs(stripped - plain).max() > 1e-4


def test_what_is_strange_about_new_people_is_said(finished_run, tmp_path, caplog):
    root = Path(shutil.copytree(folder_of(finished_run), tmp_path / "people"))
    path = sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))[3]
    volume = read_volume(path)
    write_volume(path, volume.array, volume.affine @ np.diag([0.5, 0.5, 0.5, 1.0]))
    assert len(encode(finished_run, data=root)) == len(finished_run.subjects)
    name = path.name.removesuffix("_T1w.nii.gz")
    assert any(record.getMessage().startswith(f"{name}: Width of the head") for record in caplog.records)
