"""Maps over the anatomy, and what their files say of them."""

import matplotlib.collections
import numpy as np
import pytest

from mrigen.imaging.maps import Overlay, label_map, plot_overlays, strongest_voxel
from mrigen.imaging.volumes import make_image, write_image

SIDES, ZOOMS = (7, 8, 9), (4.0, 5.0, 6.0)
AFFINE = np.array([[4.0, 0, 0, -12], [0, 5.0, 0, -20], [0, 0, 6.0, -24], [0, 0, 0, 1]])


def spot(place, value=2.0):
    values = np.zeros(SIDES, np.float32)
    values[place] = value
    return values


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_maps_are_cut_where_the_first_is_strongest_among_what_is_marked():
    values = spot((1, 6, 2)) + spot((5, 2, 3), -1.0)
    mask = values < 0
    assert strongest_voxel([Overlay("a", values, "")], ZOOMS) == (1, 6, 2)
    assert strongest_voxel([Overlay("a", values, ""), Overlay("b", values, "", mask)], ZOOMS) == (5, 2, 3)
    assert strongest_voxel([Overlay("a", values, "", np.zeros(SIDES, bool))], ZOOMS) == (1, 6, 2)


def test_a_figure_names_places_in_mm_left_and_right_and_units():
    values = spot((5, 6, 2))
    figure = plot_overlays(np.zeros(SIDES), [Overlay("growth", values, "log; women to men", values > 1, 1.5)], AFFINE)
    written = texts(figure)
    assert [text for text in written if "mm" in text] == ["x = 8 mm", "y = 10 mm", "z = -12 mm"]
    assert written.count("L") == written.count("R") == 2 and written.count("P") == written.count("A") == 1
    assert figure.axes[-1].get_ylabel() == "log; women to men"
    assert figure.axes[0].get_title(loc="left") == "growth"
    lines = [line.get_ydata()[0] for line in figure.axes[-1].lines]
    assert lines == [-1.5, 1.5]


def test_right_is_on_the_right_and_up_is_up():
    values = spot((5, 2, 7))
    figure = plot_overlays(np.zeros(SIDES), [Overlay("a", values, "")], AFFINE)
    axial, sagittal = figure.axes[2], figure.axes[0]
    picture = np.asarray(axial.images[1].get_array())
    row, column = np.unravel_index(np.argmax(picture), picture.shape)
    assert (row, column) == (2, 5) and axial.images[1].origin == "lower"
    picture = np.asarray(sagittal.images[1].get_array())
    assert np.unravel_index(np.argmax(picture), picture.shape) == (7, 2)


def test_what_is_not_beyond_the_threshold_is_faint_and_not_outlined():
    values = spot((5, 2, 7)) + spot((5, 3, 7), 1.9)
    mask = values == 2.0
    figure = plot_overlays(np.zeros(SIDES), [Overlay("a", values, "", mask), Overlay("b", values, "")], AFFINE)
    alpha = figure.axes[2].images[1].get_alpha()
    assert alpha[2, 5] > 2 * alpha[3, 5] > 0
    outlines = [
        sum(isinstance(part, matplotlib.collections.Collection) for part in axis.get_children())
        for axis in figure.axes[:6]
    ]
    assert outlines == [1, 1, 1, 0, 0, 0]


def test_sides_are_not_named_where_nobody_knows_them():
    figure = plot_overlays(np.zeros(SIDES), [Overlay("a", spot((1, 1, 1)), "")], AFFINE, is_oriented=False)
    assert not {"L", "R", "P", "A"} & set(texts(figure)) and "left and right are not known" in texts(figure)


def test_a_file_says_what_it_is_a_map_of(tmp_path):
    import nibabel

    image = make_image(spot((1, 2, 3), -4.0), AFFINE)
    label_map(image, "difference_strength", "difference, women to men" * 9, threshold=2.5, is_z=True)
    write_image(tmp_path / "map.nii.gz", image)
    header = nibabel.load(tmp_path / "map.nii.gz").header
    assert header.get_intent()[0] == "z score" and header.get_intent()[2] == "difference_stre"
    assert header["descrip"].item().decode().startswith("difference, women to men")
    assert header["cal_min"] == pytest.approx(2.5) and header["cal_max"] == pytest.approx(4.0)
