"""Every kind of bad image answers with one line that names it, soon, in little memory and without another word."""

import os
import re
import warnings

import bad_files
import numpy as np
import pytest

from mrigen.data.preparing import read_checked
from mrigen.errors import CohortError
from mrigen.imaging import asking
from mrigen.imaging.figures import plot_contact_sheet, save_figure
from mrigen.imaging.volumes import read_grid, read_volume
from mrigen.recipe import PreprocessRecipe
from mrigen.system.files import NoFile, open_file


@pytest.mark.parametrize("bad", bad_files.IMAGES, ids=lambda bad: bad.kind)
def test_a_bad_image_is_one_line(tmp_path, bad, capfd):
    path = tmp_path / bad.file
    bad.build(path)
    there = sorted(os.listdir(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, faults = read_checked(path, PreprocessRecipe(), str(path))
    assert any(re.fullmatch(re.escape(f"{path}: ") + bad.line, line) for line in faults), faults
    assert all(line.startswith(f"{path}: ") and line.isprintable() for line in faults)
    assert sorted(os.listdir(tmp_path)) == there
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bad", [*bad_files.HEADERS, *bad_files.PLACES], ids=lambda bad: bad.kind)
def test_the_grid_of_a_bad_image_is_there_or_one_line(tmp_path, bad):
    path = tmp_path / bad.file
    bad.build(path)
    try:
        read_grid(path)
    except CohortError as error:
        assert all(line.startswith(f"{path}: ") for line in error.faults)


@pytest.mark.parametrize("name", bad_files.GOOD_EXTENSIONS)
def test_extensions_are_not_read_whatever_they_say(tmp_path, name):
    (tmp_path / "a.nii").write_bytes(bad_files.GOOD_EXTENSIONS[name])
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii", np.int16).array, bad_files.make_array())
    assert read_grid(tmp_path / "a.nii").shape == bad_files.SHAPE


def test_further_axes_of_one_voxel_are_dropped(tmp_path):
    (tmp_path / "a.nii").write_bytes(bad_files.nifti(dim=[7, *bad_files.SHAPE, 1, 1, 1, 1]))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii", np.int16).array, bad_files.make_array())


def test_a_slope_that_is_no_number_says_that_there_is_none(tmp_path):
    (tmp_path / "a.nii").write_bytes(bad_files.nifti(scl_slope=np.nan, scl_inter=np.nan))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii", np.int16).array, bad_files.make_array())


def test_what_memory_does_not_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.nii"
    path.write_bytes(bad_files.nifti(dim=[3, 600, 600, 600]))
    monkeypatch.setattr(asking, "available_memory", lambda: 10**9)
    with pytest.raises(CohortError, match=r"a.nii: got 600 x 600 x 600 voxels, which take about 1.7 GB of memory"):
        read_volume(path)


def test_a_head_of_three_tenths_of_a_millimetre_may_be_asked_for():
    assert asking.check_shape((640, 860, 860), np.dtype(np.float32), "a") == (640, 860, 860)
    assert asking.check_shape((600, 800, 800, 1), np.dtype(np.int16), "a") == (600, 800, 800)


def test_what_lies_behind_an_image_is_passed_over(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(bad_files.bomb(bad_files.nifti(), 2**20))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz", np.int16).array, bad_files.make_array())


@pytest.mark.parametrize("bad", bad_files.PAIRS, ids=lambda bad: bad.kind)
def test_a_bad_pair_is_one_line(tmp_path, bad):
    path = tmp_path / bad.file
    bad.build(path)
    with pytest.raises(CohortError) as caught:
        read_volume(path)
    assert [line for line in caught.value.faults if not re.fullmatch(re.escape(f"{path}: ") + bad.line, line)] == []


@pytest.mark.parametrize("bad", bad_files.PLACES, ids=lambda bad: bad.kind)
def test_what_is_no_file_is_not_waited_for(tmp_path, bad):
    bad.build(tmp_path / bad.file)
    with pytest.raises((NoFile, FileNotFoundError)):
        open_file(tmp_path / bad.file)


def test_a_figure_shows_any_text_as_it_is(tmp_path):
    figure = plot_contact_sheet([np.zeros((4, 5, 6), np.float32)], [r"$\frac{$ _^"])
    save_figure(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size
