"""The heads between two people."""

import shutil

import nibabel
import numpy as np
import pytest
from conditional import loud

from mrigen.errors import CohortError, UsageError
from mrigen.generation.interpolation import interpolate
from mrigen.runs.encoding import decode_latents


def walk(path):
    return np.moveaxis(nibabel.load(path).get_fdata(), -1, 0)


def latents_of(run, *scan_ids):
    latents = run.load_latents()
    return latents["loc"][[list(latents["scan_id"]).index(scan_id) for scan_id in scan_ids]]


@pytest.mark.parametrize("fixture", ["finished_run", "morph_run"])
def test_the_ends_are_the_reconstructions_of_the_two_and_the_middle_lies_between(request, fixture, tmp_path):
    run = request.getfixturevalue(fixture)
    first, second = run.subjects["participant_id"].iloc[[2, 5]]
    (path,) = interpolate(run, first, second, num_steps=5).write(tmp_path)
    assert path.name == f"interpolation_{first}_{second}.nii.gz"
    image = nibabel.load(path)
    assert image.shape == (24, 28, 24, 5)
    np.testing.assert_allclose(image.affine, run.affine, atol=1e-4)
    loc = latents_of(run, first, second)
    steps = np.array([0.0, 0.25, 0.5, 0.75, 1.0])[:, None]
    expected = np.clip(decode_latents(run.load_model(), (1 - steps) * loc[0] + steps * loc[1]), 0, 1)
    assert np.abs(expected[0] - expected[-1]).max() > 1e-4
    np.testing.assert_allclose(walk(path), expected, atol=1e-5)
    assert path.with_name(path.name.replace(".nii.gz", ".png")).is_file()


def test_a_file_is_as_good_as_an_id(finished_run, tmp_path):
    people = finished_run.subjects.iloc[[2, 5]]
    copy = shutil.copy(people["path"].iloc[1], tmp_path / "someone_T1w.nii.gz")
    (by_id,) = interpolate(finished_run, *people["scan_id"], num_steps=3).write(tmp_path)
    (by_file,) = interpolate(finished_run, people["scan_id"].iloc[0], copy, num_steps=3).write(tmp_path)
    assert by_file.name == f"interpolation_{people['scan_id'].iloc[0]}_someone.nii.gz"
    np.testing.assert_allclose(walk(by_id), walk(by_file), atol=1e-4)


def test_what_a_model_is_told_goes_along(told_run, tmp_path):
    run = loud(told_run, tmp_path)
    woman = run.subjects[run.subjects["sex"] == "F"]["scan_id"].iloc[0]
    man = run.subjects[run.subjects["sex"] == "M"]["scan_id"].iloc[0]
    loc, told = latents_of(run, woman, man), run.conditions([woman, man])
    (path,) = interpolate(run, woman, man, num_steps=3).write(tmp_path)
    loc, told = (np.stack([ends[0], ends.mean(axis=0), ends[1]]) for ends in (loc, told))
    expected = np.clip(decode_latents(run.load_model(), loc, told), 0, 1)
    untold = np.clip(decode_latents(run.load_model(), loc), 0, 1)
    assert np.abs(expected - untold).max() > 0.01
    np.testing.assert_allclose(walk(path), expected, atol=1e-4)


def test_faults_write_nothing(finished_run, tmp_path):
    first, second = finished_run.subjects["participant_id"].iloc[:2]
    out = tmp_path / "out"
    (tmp_path / "bad.nii.gz").write_bytes(b"nonsense")
    for arguments, message in [
        ((first, "sub-phantom002"), "got neither a participant of .* nor a file.*Did you mean 'sub-phantom00"),
        ((first, first), "got the same head twice"),
        ((first, second, 1), "num_steps: got 1, expected an integer >= 2"),
    ]:
        with pytest.raises(UsageError, match=message):
            interpolate(finished_run, *arguments[:2], num_steps=arguments[2] if arguments[2:] else 7)
    with pytest.raises(CohortError, match="got text"):
        interpolate(finished_run, first, tmp_path / "bad.nii.gz")
    assert not out.exists()
    interpolate(finished_run, first, second, num_steps=2).write(out)
    with pytest.raises(UsageError, match="is there already"):
        interpolate(finished_run, first, second, num_steps=2).write(out)
    interpolate(finished_run, first, second, num_steps=2).write(out, force=True)


def test_an_end_may_be_an_image_in_memory(finished_run, tmp_path):
    people = finished_run.subjects.iloc[[2, 5]]
    by_id = interpolate(finished_run, *people["scan_id"], num_steps=3)
    loaded = [nibabel.load(path) for path in people["path"]]
    ends = [nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine) for image in loaded]
    by_image = interpolate(finished_run, *ends, num_steps=3)
    assert by_image.names == ["image-001", "50 %", "image-002"]
    np.testing.assert_allclose(by_image.image.get_fdata(), by_id.image.get_fdata(), atol=1e-4)
    np.testing.assert_array_equal(by_id[1].get_fdata(), by_id.image.get_fdata()[..., 1])
    (path,) = by_id.write(tmp_path)
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), by_id.image.get_fdata())
    with pytest.raises(UsageError, match="image-002: got the same head twice"):
        interpolate(finished_run, ends[0], ends[0])
    mixed = interpolate(finished_run, people["scan_id"].iloc[0], ends[1], num_steps=2)
    assert mixed.paths(tmp_path)[0].name == f"interpolation_{people['scan_id'].iloc[0]}_image-002.nii.gz"
