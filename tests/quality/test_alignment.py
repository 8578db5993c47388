"""Volumes laid onto each other."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrigen.quality.alignment import Target, place, places_of, sample, unit

ZOOMS = (3.0, 4.0, 5.0)
SHAPE = (40, 36, 28)


@pytest.fixture
def blobs():
    noise = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    return ndimage.gaussian_filter(noise, [9.0 / zoom for zoom in ZOOMS])


@pytest.mark.parametrize("move, turn", [((6, 0, 0), (0, 0, 0)), ((0, -5, 3), (4, 0, 0)), ((2, 3, -4), (3, -5, 6))])
@pytest.mark.parametrize("gain, offset", [(1.0, 0.0), (0.3, 7.0)])
def test_align_finds_a_move_and_a_turn_whatever_the_brightness(blobs, move, turn, gain, offset):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    pose[:3, 3] = move
    places = places_of(SHAPE, ZOOMS).reshape(-1, 3)
    moved = sample(blobs, ZOOMS, place(pose, places)).reshape(SHAPE)
    points = places[np.linalg.norm(places, axis=1) < 38]
    found = Target.of(moved, ZOOMS, points).align(gain * blobs + offset, ZOOMS, np.eye(4), 40)
    away = np.linalg.norm(place(found, points) - place(pose, points), axis=1)
    assert away.max() < 0.5


def test_places_are_about_the_middle_and_sample_reads_them(blobs):
    places = places_of(SHAPE, ZOOMS)
    np.testing.assert_allclose(places.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(places[1, 1, 1] - places[0, 0, 0], ZOOMS)
    np.testing.assert_allclose(sample(blobs, ZOOMS, places.reshape(-1, 3)), blobs.ravel(), atol=1e-6)


def test_nothing_to_see_moves_nothing(blobs):
    points = places_of(SHAPE, ZOOMS).reshape(-1, 3)[::50]
    for target, volume in ((blobs, np.ones_like(blobs)), (np.ones_like(blobs), blobs)):
        np.testing.assert_array_equal(Target.of(target, ZOOMS, points).align(volume, ZOOMS, np.eye(4), 5), np.eye(4))


def test_products_of_units_are_correlations():
    values = np.random.default_rng(0).standard_normal((2, 50))
    assert np.isclose(*unit(values)[:1] @ unit(values)[1], np.corrcoef(values)[0, 1])
    assert not unit(np.ones((1, 5))).any()
