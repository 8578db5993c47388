"""What headers leave open, and that what is written claims no more."""

import gzip

import nibabel
import numpy as np
import pytest

from mrigen.errors import CohortError
from mrigen.imaging.headers import ALIGNED, NOWHERE, Space
from mrigen.imaging.volumes import (
    from_canonical,
    make_displacement,
    make_image,
    make_unplaced,
    read_grid,
    read_volume,
    write_image,
    zooms_of,
)

SHAPE = (7, 8, 9)


def placed(zooms=(2.0, 3.0, 4.0)):
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = (-30.5, -40.0, -12.0)
    return affine


def array():
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.float32)


def nifti(sform=None, qform=None, codes=(1, 1), units="mm", kind=nibabel.Nifti1Image):
    image = kind(array(), placed() if sform is None else sform)
    image.header.set_xyzt_units(units)
    image.set_qform(image.affine if qform is None else qform, codes[1])
    image.set_sform(image.affine if sform is None else sform, codes[0])
    if not codes[0]:
        image.set_sform(None, 0)
    if not codes[1]:
        image.set_qform(None, 0)
    return image


def sheared():
    affine = placed()
    affine[0, 1] = 0.4
    return affine


def flipped():
    return placed() @ np.array([[-1.0, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def turned():
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    return turn @ placed()


DOUBTFUL = {
    "fine": (nifti(), ()),
    "fine, oblique": (nifti(turned()), ()),
    "fine, sform alone": (nifti(codes=(4, 0)), ()),
    "fine, qform alone": (nifti(codes=(0, 1)), ()),
    "fine, NIfTI-2": (nifti(kind=nibabel.Nifti2Image), ()),
    "no code": (nifti(codes=(0, 0)), ("orientation",)),
    "no code, NIfTI-2": (nifti(codes=(0, 0), kind=nibabel.Nifti2Image), ("orientation",)),
    "identity": (nifti(np.eye(4)), ("identity",)),
    "identity of ITK": (nifti(np.diag([-1.0, -1.0, 1.0, 1.0])), ("identity",)),
    "identity, code 2 as nibabel writes it": (nibabel.Nifti1Image(array(), np.eye(4)), ("identity", "units")),
    "zooms alone": (nifti(np.diag([2.0, 2.0, 2.0, 1.0])), ("origin",)),
    "identity but for rounding": (nifti(np.diag([1.0 + 5e-7, 1.0, 1.0, 1.0])), ("identity",)),
    "zooms alone, of nearly a millimetre": (nifti(np.diag([1.01, 1.0, 1.0, 1.0])), ("origin",)),
    "placed along one axis": (nifti(np.diag([2.0, 2.0, 2.0, 1.0]) + np.eye(4, k=1) * [0, 0, 0, 9]), ()),
    "no unit": (nifti(units="unknown"), ("units",)),
    "micrometres": (nifti(units="micron"), ("units",)),
    "shear": (nifti(sheared(), codes=(2, 0)), ("shear",)),
    "forms that exchange left and right": (nifti(placed(), flipped()), ("forms",)),
    "forms of two sizes": (nifti(placed(), placed((1.0, 1.5, 2.0))), ("forms",)),
    "forms of two places": (nifti(placed(), placed() + np.eye(4, k=3) * 50.0), ()),
}


@pytest.mark.parametrize("case", DOUBTFUL)
@pytest.mark.parametrize("way", ["in memory", "a.nii", "a.nii.gz", "loaded"])
def test_what_a_header_leaves_open_is_kept_with_the_volume(tmp_path, case, way):
    image, doubts = DOUBTFUL[case]
    if way != "in memory":
        path = tmp_path / (way if way.startswith("a") else "a.nii.gz")
        nibabel.save(image, path)
        image = nibabel.load(path) if way == "loaded" else path
    assert read_volume(image).doubts == doubts


@pytest.mark.parametrize(
    ("value", "codes", "doubts"),
    [
        (0.0, (0, 0), ("orientation", "zooms")),
        (0.0, (0, 1), ("zooms",)),
        (-2.0, (0, 1), ("zooms",)),
        (0.0, (1, 0), ()),
        (np.nan, (1, 0), ()),
    ],
)
def test_a_voxel_size_that_is_none_is_open_where_it_counts(tmp_path, value, codes, doubts):
    content = bytearray(nifti(codes=codes).to_bytes())
    content[84:88] = np.array(value, "<f4").tobytes()  # pixdim[2]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content))
    for image in (path, nibabel.load(path)):
        assert read_volume(image).doubts == doubts


def test_other_formats_leave_open_what_they_cannot_say(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(array(), None), tmp_path / "a.img")
    assert read_volume(tmp_path / "a.img").doubts == ("orientation", "units")
    nibabel.save(nibabel.MGHImage(array(), placed()), tmp_path / "a.mgz")
    assert read_volume(tmp_path / "a.mgz").doubts == ()
    content = bytearray(gzip.decompress((tmp_path / "a.mgz").read_bytes()))
    content[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "b.mgz").write_bytes(gzip.compress(content))
    assert read_volume(tmp_path / "b.mgz").doubts == ("orientation", "zooms")
    assert read_grid(tmp_path / "b.mgz").space == NOWHERE


def written_again(tmp_path, image):
    """What `reconstruct` does: an array of canonical axes, written on the grid of an image."""
    volume, grid = read_volume(image), read_grid(image)
    path = tmp_path / "again.nii.gz"
    write_image(path, make_image(from_canonical(volume.array, grid.affine), grid.affine, grid.space))
    return volume, path


@pytest.mark.parametrize("case", DOUBTFUL)
def test_an_image_written_in_the_space_of_another_claims_no_more_and_lies_there(tmp_path, case):
    image, doubts = DOUBTFUL[case]
    volume, path = written_again(tmp_path, image)
    again = read_volume(path)
    assert again.doubts == doubts
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    first, second = image.header, nibabel.load(path).header
    assert second["sform_code"] == first["sform_code"]
    assert second["qform_code"] == first["qform_code"]
    assert second.get_xyzt_units()[0] == first.get_xyzt_units()[0]
    for code, form in (("sform_code", "get_sform"), ("qform_code", "get_qform")):
        if first[code]:
            np.testing.assert_allclose(getattr(second, form)(), getattr(first, form)(), atol=1e-4)


def test_a_sheared_image_has_no_qform(tmp_path):
    for image in (make_image(array(), sheared()), make_image(array(), sheared(), Space(0, 1))):
        assert image.header["qform_code"] == 0
        assert image.header["sform_code"] > 0
        np.testing.assert_allclose(image.affine, sheared(), atol=1e-6)
    # Its own qform, which cannot be that of the voxels, is not taken over, nor are its sizes of voxels.
    image = make_image(array(), sheared(), Space(1, 1, placed((1.0, 1.5, 2.0))))
    np.testing.assert_allclose(image.header.get_zooms(), zooms_of(sheared()), rtol=1e-6)
    _, path = written_again(tmp_path, nifti(sheared(), codes=(1, 1)))
    assert nibabel.load(path).header["qform_code"] == 0


def test_a_map_without_codes_that_no_reader_assumes_is_that_of_another_image():
    image = make_image(array(), placed(), NOWHERE)
    assert (image.header["sform_code"], image.header["qform_code"]) == (2, 0)
    np.testing.assert_allclose(image.affine, placed())
    field = make_displacement(np.zeros((*SHAPE, 3)), placed(), ALIGNED)
    assert (field.header["sform_code"], field.header["qform_code"]) == (2, 0)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0)])
@pytest.mark.parametrize("steps", [0, 3])
def test_an_unplaced_image_comes_back_the_right_way_round(tmp_path, axes, steps):
    """Array, canonical in the end, and voxel sizes; nothing is claimed of the place."""
    given, affine = array(), placed()
    stored, stored_affine = given.transpose(axes), affine[:, [*axes, 3]]
    if steps:
        stored = np.repeat(stored[..., None], steps, axis=3)
    write_image(tmp_path / "a.nii.gz", make_unplaced(stored, stored_affine))
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (0, 0)
    if steps:
        assert header.get_data_shape() == (*SHAPE, steps)
        return
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, given)
    np.testing.assert_allclose(volume.zooms, (2.0, 3.0, 4.0))
    assert volume.doubts == ("orientation",)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_voxels_are_a_fault(tmp_path, dtype):
    image = nibabel.Nifti1Image(array().astype(dtype), placed())
    nibabel.save(image, tmp_path / "a.nii.gz")
    for given in (image, tmp_path / "a.nii.gz"):
        with pytest.raises(CohortError, match=r"\(its voxels are complex numbers\).*Take the magnitude image"):
            read_volume(given)
