"""Pictures are cut through the brain of each head, and say which side is left."""

import numpy as np
import pandas as pd
import pytest

from mrigen.evaluation.heads import SAMPLES, Heads, Material
from mrigen.evaluation.pictures import MARGIN_MM, head_strip, plot_groups, plot_heads, plot_measures, plot_spectra

ZOOMS = (4.0, 3.0, 5.0)


def heads(places, sides=(20, 28, 24)):
    """Brains of 6 x 8 x 5 voxels that begin at `places`, the right half brighter, and a bright rear."""
    volumes = np.zeros((len(places), *sides), np.float32)
    for volume, (x, y, z) in zip(volumes, places, strict=True):
        volume[x : x + 6, y : y + 8, z : z + 5] = 0.4
        volume[x + 3 : x + 6, y : y + 8, z : z + 5] = 0.8
        volume[x : x + 6, y : y + 2, z : z + 5] = 1.0
    names = [str(number) for number in range(len(places))]
    return Heads(volumes, pd.DataFrame({"participant_id": names, "family": names}), volumes > 0)


def test_a_brain_is_in_the_middle_wherever_it_lies():
    found = heads([(2, 3, 4), (11, 15, 17)])
    size = (60.0, 70.0, 60.0)
    first, second = (head_strip(volume, brain, ZOOMS, size)[0] for volume, brain in
                     zip(found.volumes, found.brains, strict=True))  # fmt: skip
    assert first == pytest.approx(second, abs=1e-6)
    assert first.max() == pytest.approx(1.0)


def test_left_is_on_the_left_and_the_nose_is_up():
    [volume], [brain] = (heads([(7, 10, 9)]).volumes, heads([(7, 10, 9)]).brains)
    picture, middles = head_strip(volume, brain, ZOOMS, (60.0, 70.0, 60.0))
    for middle in middles:
        middle = int(middle)
        row = len(picture) // 2
        assert picture[row, middle - 8] == pytest.approx(0.4, abs=0.01)
        assert picture[row, middle + 8] == pytest.approx(0.8, abs=0.01)
    rows = np.flatnonzero(picture[:, int(middles[1]) - 6] > 0.9)
    assert len(rows) and rows.min() > len(picture) // 2  # The rear is below.


def test_a_head_without_a_brain_is_shown_around_the_middle_of_the_grid():
    volume = np.zeros((20, 28, 24), np.float32)
    volume[8:12, 12:16, 10:14] = 1.0
    picture, _ = head_strip(volume, np.zeros(volume.shape, bool), ZOOMS, (60.0, 70.0, 60.0))
    assert picture.max() == pytest.approx(1.0)


def test_brains_fill_the_picture():
    found = heads([(7, 10, 9)], (40, 60, 40))
    large = Heads(np.repeat(found.volumes, 1, axis=0), found.people, np.ones((1, 40, 60, 40), bool))
    figure = plot_groups({"a": large}, ZOOMS)
    image = figure.axes[0].images[0].get_array()
    assert image.shape[0] == pytest.approx(40 * 5 + 2 * MARGIN_MM, abs=2.0)


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_rows_are_never_seen_people_and_contenders_and_sides_are_named_if_known():
    people = heads([(7, 10, 9)] * 4)
    material = Material(people, people, {SAMPLES: people}, ZOOMS, np.eye(4))
    figure = plot_heads(material)
    assert {"never seen", "samples", "L", "R"} <= set(texts(figure))
    assert len(figure.axes) == 6
    unknown = plot_heads(Material(people, people, {SAMPLES: people}, ZOOMS, np.eye(4), is_oriented=False))
    assert not {"L", "R"} & set(texts(unknown))
    assert "not known" in unknown.get_suptitle()


def test_spectra_and_measures_are_drawn_with_what_is_missing():
    values = np.random.default_rng(0).uniform(1.0, 2.0, (5, 3))
    gaps = values.copy()
    gaps[1] = np.nan
    figure = plot_spectra(np.array([64.0, 32.0, 16.0, 8.0]), {"unseen": values, SAMPLES: gaps}, "unseen")
    assert np.isfinite(figure.axes[1].lines[1].get_ydata()).all()
    nothing = np.full(5, np.nan)
    drawn = plot_measures(
        {"one": {"unseen": values[:, 0], SAMPLES: nothing}, "two": {"unseen": nothing}}, [(1.0, 2.0), None], "unseen"
    )
    assert len(drawn.axes) == 2
