"""What a model makes of images, in their own space."""

import nibabel
import numpy as np
import pytest

from mrigen.data.preprocess import grid_affine, resample
from mrigen.errors import CohortError, UsageError
from mrigen.generation.reconstruction import reconstruct
from mrigen.imaging.volumes import Volume, read_volume
from mrigen.runs.encoding import decode_latents


def oblique(person, path, factor=3.0, offset=200.0):
    """Writes a person's image with permuted and flipped axes, unequal voxels and another scale, and returns it."""
    image = nibabel.load(person["path"])
    turned = image.as_reoriented([[1, -1], [2, 1], [0, -1]])
    array = factor * np.asarray(turned.dataobj, dtype=np.float32)[:, ::2] + offset
    affine = turned.affine @ np.diag([1.0, 2.0, 1.0, 1.0])
    angle = np.deg2rad(8)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nibabel.Nifti1Image(array, turn @ affine)
    nibabel.save(image, path)
    return image


@pytest.mark.parametrize("fixture", ["finished_run", "morph_run"])
def test_a_reconstruction_lies_on_the_grid_of_its_image_in_its_units(request, fixture, tmp_path):
    run = request.getfixturevalue(fixture)
    image = oblique(run.subjects.iloc[0], tmp_path / "turned_T1w.nii.gz")
    paths = reconstruct(run, [tmp_path / "turned_T1w.nii.gz"], tmp_path / "out")
    assert [path.name for path in paths] == [
        "turned_desc-reconstruction_T1w.nii.gz",
        "turned_desc-residual_map.nii.gz",
    ]
    own, residual = (nibabel.load(path) for path in paths)
    for written in (own, residual):
        assert written.shape == image.shape and len(set(image.shape)) > 1
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-3)
        assert written.header.get_xyzt_units()[0] == "mm"
    truth, found = image.get_fdata(), own.get_fdata()
    np.testing.assert_allclose(residual.get_fdata(), truth - found, atol=1e-2)
    assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.75
    for axis in range(3):  # Turned any other way it would fit worse.
        flipped = np.flip(found, axis)
        assert np.corrcoef(truth.ravel(), flipped.ravel())[0, 1] < np.corrcoef(truth.ravel(), found.ravel())[0, 1]
    assert found.min() == pytest.approx(200.0, rel=1e-3)
    inside = truth > np.percentile(truth, 80)
    assert 0.6 < found[inside].mean() / truth[inside].mean() < 1.4
    assert (tmp_path / "out" / "turned_desc-reconstruction.png").is_file()


def test_a_reconstruction_of_the_own_is_the_decoded_latent(finished_run, tmp_path):
    people = finished_run.subjects.iloc[:9]  # More than a batch.
    paths = reconstruct(finished_run, list(people["path"]), tmp_path)[::2]
    heads = np.clip(decode_latents(finished_run.load_model(), finished_run.load_latents()["loc"][:9]), 0, 1)
    for row in (0, 8):
        person = people.iloc[row]
        centre = [person[f"centre_{axis}"] for axis in "xyz"]
        affine = grid_affine(centre, finished_run.grid["zooms"], finished_run.grid["volume_shape"])
        image = read_volume(person["path"])
        expected = resample(Volume(heads[row], affine), image.affine, image.array.shape)
        expected = image.array.min() + person["scale"] * expected
        np.testing.assert_allclose(read_volume(paths[row]).array, expected, atol=1e-3 * person["scale"])


def test_a_told_model_reconstructs_people_as_they_are(told_run, tmp_path):
    from test_latent_files import loud

    run = loud(told_run, tmp_path)
    person = run.subjects.iloc[0]
    paths = [
        reconstruct(run, [person["path"]], tmp_path / name, given=given)[0]
        for name, given in (("own", {}), ("same", {"sex": person["sex"]}), ("F", {"sex": "F"}), ("M", {"sex": "M"}))
    ]
    own, same, woman, man = (nibabel.load(path).get_fdata() for path in paths)
    np.testing.assert_array_equal(own, same)
    assert np.abs(woman - man).max() > 0.01 * person["scale"]


def test_faults_write_nothing(finished_run, tmp_path):
    image, out = finished_run.subjects["path"].iloc[0], tmp_path / "out"
    with pytest.raises(CohortError) as error:
        reconstruct(finished_run, [image, tmp_path / "none.nii", tmp_path / "neither.nii"], out)
    assert len(error.value.faults) == 2
    with pytest.raises(UsageError, match="another image has the same name"):
        reconstruct(finished_run, [image, image], out)
    with pytest.raises(UsageError, match="told nothing"):
        reconstruct(finished_run, [image], out, given={"sex": "F"})
    assert not out.exists()
    reconstruct(finished_run, [image], out)
    with pytest.raises(UsageError, match="is there already"):
        reconstruct(finished_run, [image], out)
    reconstruct(finished_run, [image], out, force=True)
