"""What a model makes of images, in their own space."""

import nibabel
import numpy as np
import pytest
from conditional import loud

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
    paths = reconstruct(run, [tmp_path / "turned_T1w.nii.gz"]).write(tmp_path / "out")
    assert [path.name for path in paths] == [
        "turned_desc-reconstruction_T1w.nii.gz",
        "turned_desc-residual_map.nii.gz",
    ]
    own, residual = (nibabel.load(path) for path in paths)
    for written in (own, residual):
        assert written.shape == image.shape and len(set(image.shape)) > 1
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-3)
        assert written.header.get_xyzt_units() == ("unknown", "sec")  # As in the image.
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
    paths = reconstruct(finished_run, list(people["path"])).write(tmp_path)[::2]
    heads = np.clip(decode_latents(finished_run.load_model(), finished_run.load_latents()["loc"][:9]), 0, 1)
    for row in (0, 8):
        person = people.iloc[row]
        centre = [person[f"centre_{axis}"] for axis in "xyz"]
        affine = grid_affine(centre, finished_run.grid["zooms"], finished_run.grid["volume_shape"])
        image = read_volume(person["path"])
        expected = resample(Volume(heads[row], affine), image.affine, image.array.shape)
        expected = np.maximum(person["low"] + person["scale"] * expected, person["surround"])
        assert person["surround"] == image.array.min() == 0
        np.testing.assert_allclose(read_volume(paths[row]).array, expected, atol=1e-3 * person["scale"])


def test_a_told_model_reconstructs_people_as_they_are(told_run, tmp_path):
    run = loud(told_run, tmp_path)
    person = run.subjects.iloc[0]
    paths = [
        reconstruct(run, [person["path"]], given=given).write(tmp_path / name)[0]
        for name, given in (("own", {}), ("same", {"sex": person["sex"]}), ("F", {"sex": "F"}), ("M", {"sex": "M"}))
    ]
    own, same, woman, man = (nibabel.load(path).get_fdata() for path in paths)
    np.testing.assert_array_equal(own, same)
    assert np.abs(woman - man).max() > 0.01 * person["scale"]


def test_faults_write_nothing(finished_run, tmp_path):
    image, out = finished_run.subjects["path"].iloc[0], tmp_path / "out"
    with pytest.raises(CohortError) as error:
        reconstruct(finished_run, [image, tmp_path / "none.nii", tmp_path / "neither.nii"]).write(out)
    assert len(error.value.faults) == 2
    with pytest.raises(UsageError, match="another image has the same name"):
        reconstruct(finished_run, [image, image]).write(out)
    with pytest.raises(UsageError, match="told nothing"):
        reconstruct(finished_run, [image], given={"sex": "F"})
    assert not out.exists()
    reconstruct(finished_run, [image]).write(out)
    with pytest.raises(UsageError, match="is there already"):
        reconstruct(finished_run, [image]).write(out)
    reconstruct(finished_run, [image]).write(out, force=True)


def test_an_image_in_memory_is_as_good_as_a_file(told_run, tmp_path):
    """A loaded file is that file (and its person); what was made in memory is a stranger without a name."""
    run = loud(told_run, tmp_path)
    path = run.subjects["path"].iloc[0]
    loaded = nibabel.load(path)
    made = nibabel.Nifti1Image(np.asarray(loaded.dataobj), loaded.affine)
    from_file, from_loaded = reconstruct(run, [path]), reconstruct(run, [loaded])
    np.testing.assert_array_equal(from_loaded[0].get_fdata(), from_file[0].get_fdata())
    assert from_loaded.names == from_file.names
    images = reconstruct(run, [made, loaded])
    assert images.names == ["image-001", from_file.names[0]]
    assert np.abs(images[0].get_fdata() - images[1].get_fdata()).max() > 0  # Nothing is known of the stranger.
    np.testing.assert_allclose(images[0].get_fdata() + images.residual(0).get_fdata(), made.get_fdata(), atol=1e-2)
    written = images.write(tmp_path / "out")
    assert written[0].name == "image-001_desc-reconstruction_T1w.nii.gz"
    np.testing.assert_array_equal(nibabel.load(written[2]).get_fdata(), images[1].get_fdata())
    table = images.to_frame()
    assert table["mse"].iloc[0] == pytest.approx(np.square(images.original(0) - images.volume(0)).mean())
    assert len(images.plot().axes) == 2 * 9 and "image-001" in images._repr_html_()


def test_faults_of_images_in_memory_are_told(finished_run):
    flat = nibabel.Nifti1Image(np.zeros((60, 60, 60), np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    series = nibabel.Nifti1Image(np.zeros((9, 9, 9, 2), np.float32), np.eye(4))
    with pytest.raises(CohortError) as error:
        reconstruct(finished_run, [flat, series])
    first, second = error.value.faults
    assert first.startswith("image-001: got the value 0 in all voxels")
    assert second.startswith("image-002: got a 4-D image")
    with pytest.raises(UsageError, match="images: got none, expected one image or more"):
        reconstruct(finished_run, [])
