"""NIfTI out and in: values, affines, orientation, headers, faults."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest

from mrigen.errors import CohortError
from mrigen.imaging.volumes import (
    Volume,
    apply_affine,
    make_image,
    read_stored,
    read_volume,
    to_canonical,
    write_image,
    write_volume,
    zooms_of,
)

SHAPE = (7, 8, 9)
ZOOMS = (2.0, 3.0, 4.0)


def rotation(degrees, axis):
    """Rodrigues: the rotation by `degrees` about `axis`."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def oblique():
    affine = np.eye(4)
    affine[:3, :3] = rotation(14, (1, -2, 3)) @ np.diag(ZOOMS)
    affine[:3, 3] = (-90.5, 31.25, 12.0)
    return affine


def array(dtype=np.int16):
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def by_position(volume):
    """value -> world position, for an array of distinct values."""
    points = apply_affine(volume.affine, np.argwhere(np.ones(volume.array.shape)))
    return dict(zip(volume.array.ravel().tolist(), points, strict=True))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_volume_comes_back_as_it_was_written(tmp_path, name, dtype):
    write_volume(tmp_path / name, array(dtype), oblique())
    volume = read_volume(tmp_path / name, dtype=dtype)
    np.testing.assert_array_equal(volume.array, array(dtype))
    assert (volume.array.dtype, volume.affine.dtype) == (dtype, np.float64)
    np.testing.assert_allclose(volume.affine, oblique(), atol=1e-5)
    np.testing.assert_allclose(volume.zooms, ZOOMS, atol=1e-5)


def test_volume_is_float32_unless_asked(tmp_path):
    write_volume(tmp_path / "a.nii", array(), oblique())
    assert read_volume(tmp_path / "a.nii").array.dtype == np.float32


def test_scale_factors_of_the_header_are_applied(tmp_path):
    image = nibabel.Nifti1Image(array(), oblique())
    image.header.set_slope_inter(1, 0)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([0.5, -3.0], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").array, array() * 0.5 - 3.0)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(0, 0, 0), (1, 0, 0), (0, 1, 1)])
def test_any_storage_orientation_comes_back_as_ras(tmp_path, axes, flips):
    """The same scan, its array axes permuted and flipped: same array, same affine."""
    stored, affine = array(), oblique()
    for axis, flip in enumerate(flips):
        if flip:
            step = np.eye(4)
            step[axis, axis], step[axis, 3] = -1, stored.shape[axis] - 1
            stored, affine = np.flip(stored, axis), affine @ step
    affine = affine[:, [*axes, 3]]
    write_volume(tmp_path / "a.nii.gz", np.transpose(stored, axes), affine)
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, array())
    np.testing.assert_allclose(volume.affine, oblique(), atol=1e-4)


def test_psr_axes_come_back_as_ras_with_every_voxel_in_its_place(tmp_path):
    # Array axes that run to Posterior, Superior and Right, anisotropic, off the axes by a few degrees.
    affine = np.eye(4)
    affine[:3, :3] = rotation(5, (3, 1, -2)) @ np.array([[0, 0, 4], [-2, 0, 0], [0, 3, 0]])
    affine[:3, 3] = (-20, 50, -10)
    assert nibabel.aff2axcodes(affine) == ("P", "S", "R")
    write_volume(tmp_path / "a.nii", array(), affine)
    volume = read_volume(tmp_path / "a.nii")
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert volume.array.shape == (9, 7, 8)
    np.testing.assert_allclose(volume.zooms, (4, 2, 3), atol=1e-5)
    expected, got = by_position(Volume(array(), affine)), by_position(volume)
    for value, point in expected.items():
        np.testing.assert_allclose(got[float(value)], point, atol=1e-4)


def test_to_canonical_does_not_change_its_argument():
    volume = Volume(array(), np.diag([-2.0, 3, 4, 1]))
    canonical = to_canonical(volume)
    assert volume.array[0, 0, 0] == 0
    assert canonical.array[-1, 0, 0] == 0
    np.testing.assert_array_equal(canonical.affine[:3, 3], (-12, 0, 0))


def test_fourth_axis_of_one_is_dropped(tmp_path):
    write_volume(tmp_path / "a.nii", array()[..., None], oblique())
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, array())


def test_two_writes_are_the_same_bytes(tmp_path, monkeypatch):
    write_volume(tmp_path / "a.nii.gz", array(), oblique())
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_volume(tmp_path / "b.nii.gz", array(), oblique())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3)])
def test_header_says_affine_twice_and_millimetres(tmp_path, shape):
    write_volume(tmp_path / "a.nii", np.zeros(shape, np.float32), oblique())
    image = nibabel.load(tmp_path / "a.nii")
    for affine, code in (image.header.get_sform(coded=True), image.header.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(affine, oblique(), atol=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_allclose(image.header.get_zooms()[:3], ZOOMS, atol=1e-5)
    assert image.shape == shape


def test_zooms_are_the_lengths_of_the_columns():
    np.testing.assert_allclose(zooms_of(oblique()), ZOOMS)
    assert not np.allclose(np.linalg.norm(oblique()[:3, :3], axis=1), ZOOMS)  # the rows would be wrong


# ---- faults


def test_missing_file_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"a.nii: no such file. Restore it"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_truncated_gzip_is_a_fault(tmp_path, kept):
    path = tmp_path / "a.nii.gz"
    write_volume(path, np.random.default_rng(0).normal(size=SHAPE), oblique())
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(CohortError, match=r"a.nii.gz: truncated or damaged gzip stream"):
        read_volume(path)


def test_damaged_gzip_is_a_fault(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_volume(path, np.random.default_rng(0).normal(size=SHAPE), oblique())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CohortError, match=r"a.nii.gz: .*Restore the file, or exclude the subject"):
        read_volume(path)


def test_truncated_plain_file_is_a_fault(tmp_path):
    path = tmp_path / "a.nii"
    write_volume(path, array(), oblique())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CohortError, match=r"a.nii: cannot be read as NIfTI \(Expected 1008 bytes, got 998"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"this is text, not an image" * 40])
def test_what_is_no_nifti_is_a_fault(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") and content else content)
    with pytest.raises(CohortError, match=rf"{name}: .*Restore the file, or exclude the subject"):
        read_volume(tmp_path / name)


def test_a_folder_in_place_of_a_file_is_a_fault(tmp_path):
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(CohortError, match=r"a.nii: got a folder, expected a file"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(("shape", "shown"), [((7, 8, 9, 2), "4-D"), ((7, 8), "2-D")])
def test_an_image_that_is_not_3d_is_a_fault(tmp_path, shape, shown):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), oblique()), tmp_path / "a.nii")
    with pytest.raises(CohortError, match=rf"got a {shown} image of shape .*expected one 3-D volume"):
        read_volume(tmp_path / "a.nii")


def test_an_image_of_colours_is_a_fault(tmp_path):
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, oblique()), tmp_path / "a.nii")
    with pytest.raises(CohortError, match="cannot be read as NIfTI"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("column", [(0.0, 0.0, 0.0), (np.nan, 0.0, 0.0)])
def test_a_singular_affine_is_a_fault(tmp_path, column):
    image = nibabel.Nifti1Image(array(), None)
    affine = oblique()
    affine[:3, 1] = column
    image.header.set_sform(affine, code=1)
    image.header.set_qform(None, code=0)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    with pytest.raises(CohortError, match=r"a.nii: got an affine that is singular or not finite"):
        read_volume(tmp_path / "a.nii")


def test_a_header_with_wrong_bytes_is_read_or_a_fault(tmp_path):
    """Whatever stands in the header: a volume or one clear line, never another error."""
    write_volume(tmp_path / "a.nii", array(), oblique())
    content = (tmp_path / "a.nii").read_bytes()
    generator = np.random.default_rng(0)
    # sizeof_hdr, dim, datatype, bitpix, pixdim, vox_offset, slope, units, sform; magic
    places = [*range(4), *range(40, 56), *range(70, 80), *range(108, 124), *range(252, 256), *range(344, 348)]
    faults = 0
    for place in places:
        for value in generator.integers(256, size=2):
            damaged = bytearray(content)
            damaged[place] = value
            (tmp_path / "b.nii").write_bytes(damaged)
            try:
                read_volume(tmp_path / "b.nii")
            except CohortError:
                faults += 1
    assert faults > 20


def test_an_image_in_memory_is_read_as_its_file_is(tmp_path):
    image = nibabel.Nifti1Image(array(), oblique() @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    nibabel.save(image, tmp_path / "a.nii.gz")
    expected = read_volume(tmp_path / "a.nii.gz")
    for given in (image, nibabel.load(tmp_path / "a.nii.gz")):
        volume = read_volume(given)
        np.testing.assert_array_equal(volume.array, expected.array)
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-4)
    scaled = nibabel.Nifti1Image(array(), oblique())
    scaled.header.set_slope_inter(2.0, 5.0)
    nibabel.save(scaled, tmp_path / "b.nii")
    loaded = nibabel.load(tmp_path / "b.nii")
    np.testing.assert_array_equal(read_volume(loaded).array, read_volume(tmp_path / "b.nii").array)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (nibabel.Nifti1Image(np.zeros((4, 5, 6, 2)), np.eye(4)), r"x: got a 4-D image of shape \(4, 5, 6, 2\)"),
        (nibabel.spatialimages.SpatialImage(np.zeros((4, 5, 6)), None), "x: got an affine that is singular"),
    ],
)
def test_faults_of_an_image_in_memory_name_it(image, message):
    with pytest.raises(CohortError, match=message):
        read_volume(image, name="x")


def test_stored_voxels_are_read_as_they_are_and_faults_name_the_file(tmp_path):
    write_volume(tmp_path / "a.nii", array(), oblique() @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    stored = read_stored(tmp_path / "a.nii")
    np.testing.assert_array_equal(stored, array())
    assert stored.dtype == np.int16
    with pytest.raises(CohortError, match=r"^\S*b.nii: no such file"):
        read_stored(tmp_path / "b.nii")
    with pytest.raises(CohortError, match=r"^the mask: no such file"):
        read_stored(tmp_path / "b.nii", "the mask")


@pytest.mark.parametrize("given", ["a.hdr", "a.img"])
def test_both_files_of_a_pair_have_to_be_files(tmp_path, given):
    nibabel.save(nibabel.Nifti1Pair(array(), oblique()), tmp_path / "a.img")
    other = tmp_path / {"a.hdr": "a.img", "a.img": "a.hdr"}[given]
    other.unlink()
    other.mkdir()
    with pytest.raises(CohortError, match=r"got a folder, expected a file"):
        read_volume(tmp_path / given)


def test_an_image_that_is_made_is_the_file_that_is_written(tmp_path):
    write_volume(tmp_path / "a.nii.gz", array(np.float32), oblique())
    image = make_image(array(np.float32), oblique())
    write_image(tmp_path / "b.nii.gz", image)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    written = nibabel.load(tmp_path / "a.nii.gz")
    assert image.header.get_xyzt_units() == written.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(image.get_fdata(), written.get_fdata())
