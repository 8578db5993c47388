"""Measures of one image, against what was planted."""

import numpy as np
import pytest
from scipy import ndimage

from mrigen.data.heads import head_mask
from mrigen.data.quality import MEASURES, measure_quality
from mrigen.imaging.volumes import Volume

ZOOMS = np.array([1.5, 2.0, 2.5])
SHAPE = (120, 110, 96)
HALF = np.array([72.0, 90.0, 100.0])  # mm


def head(sigma=0.0, white=700.0, seed=0, zooms=ZOOMS, air=0.0):
    """An ellipsoid with three tissues, noise inside and air around."""
    axes = [(np.arange(side) - (side - 1) / 2) * zoom for side, zoom in zip(SHAPE, zooms, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x / HALF[0]) ** 2 + (y / HALF[1]) ** 2 + (z / HALF[2]) ** 2)
    generator = np.random.default_rng(seed)
    tissue = ndimage.gaussian_filter(generator.normal(size=SHAPE), 6.0 / zooms)
    array = np.where(tissue > 0.02, 1.0, np.where(tissue > -0.02, 0.8, 0.6)) * (radius <= 1.0)
    array += sigma * generator.normal(size=SHAPE) * (radius <= 1.0)
    array += air * np.abs(generator.normal(size=SHAPE)) * (radius > 1.0)
    return Volume((white * array).astype(np.float32), np.diag([*zooms, 1.0]))


def measure(volume, mask=None):
    return measure_quality(volume, head_mask(volume.array), mask)


def test_every_measure_is_there_and_a_number():
    measures = measure(head(0.05, air=0.01))
    assert list(measures) == list(MEASURES)
    missing = {name for name, value in measures.items() if not np.isfinite(value)}
    assert missing == {"brain_volume_ml"}
    assert all(isinstance(value, float) for value in measures.values())


def test_sizes_are_those_of_the_ellipsoid():
    measures = measure(head())
    wanted = 4 / 3 * np.pi * HALF.prod() / 1000
    assert measures["head_volume_ml"] == pytest.approx(wanted, rel=0.01)
    found = [measures[name] for name in ("width_mm", "length_mm", "height_mm")]
    np.testing.assert_allclose(found, 2 * HALF, atol=10)
    assert (measures["voxel_min"], measures["voxel_max"]) == (1.5, 2.5)
    # The area of a slice of an ellipsoid, a little below its top.
    assert measures["cut_top_cm2"] < 20


def test_the_mask_gives_the_brain_volume():
    mask = np.zeros(SHAPE, bool)
    mask[20:60, 20:60, 20:60] = True
    assert measure(head(), mask)["brain_volume_ml"] == pytest.approx(40**3 * 7.5 / 1000)


@pytest.mark.parametrize("padding", [0, 9])
def test_a_cut_vertex_is_seen_though_air_was_put_above_it(padding):
    whole = head()
    top = int(np.flatnonzero(whole.array.any(axis=(0, 1)))[-1])
    array = np.pad(whole.array[:, :, : top - 10], ((0, 0), (0, 0), (0, padding)))
    assert measure(Volume(array, whole.affine))["cut_top_cm2"] > 80


@pytest.mark.parametrize("sigma", [0.03, 0.08, 0.15])
def test_noise_is_found_whatever_the_anatomy(sigma):
    measures = measure(head(sigma))
    white = measures["white"] - measures["black"]
    assert measures["noise"] * white == pytest.approx(700.0 * sigma, rel=0.3)
    assert measures["snr"] == pytest.approx(0.8 / sigma, rel=0.35)


@pytest.mark.parametrize("fwhm", [4.0, 7.0])
def test_smoothness_is_that_of_smoothed_noise(fwhm):
    volume = head()
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), fwhm / 2.3548 / ZOOMS)
    array = (volume.array > 0) * (700.0 + 100.0 * noise / noise.std())
    assert measure(Volume(array.astype(np.float32), volume.affine))["fwhm_mm"] == pytest.approx(fwhm, rel=0.25)


def test_measures_of_quality_know_no_unit():
    """Another scale and another background are the same image."""
    volume = head(0.05, air=0.01)
    moved = Volume(3.5 * volume.array - 1000.0, volume.affine)
    first, second = measure(volume), measure(moved)
    for name in set(MEASURES) - {"lowest", "highest", "black", "white", "brain_volume_ml", "grey_levels", "efc"}:
        assert second[name] == pytest.approx(first[name], rel=0.01), name


def test_a_field_that_fades_is_a_bias():
    volume = head(0.02)
    slope = np.exp(1.2 * np.linspace(-1, 1, SHAPE[1]))[:, None]
    assert measure(volume)["bias"] < 0.12
    assert measure(Volume((volume.array * slope).astype(np.float32), volume.affine))["bias"] > 0.25


def test_wild_voxels_and_few_levels_are_told():
    volume = head(0.05)
    for value in (1e6, -32768.0):
        array = volume.array.copy()
        array[0, 0, 0] = value
        assert measure(Volume(array, volume.affine))["spike"] > 30
    coarse = Volume(np.round(volume.array / 100.0) * 100.0, volume.affine)
    assert measure(volume)["spike"] < 3
    assert measure(coarse)["grey_levels"] < 20 < measure(volume)["grey_levels"]


def test_a_ghost_in_the_air_is_told():
    volume = head(0.02, air=0.01)
    ghost = Volume(volume.array + 0.15 * np.roll(volume.array, SHAPE[1] // 2, 1), volume.affine)
    assert measure(ghost)["ghost"] > 4 * measure(volume)["ghost"]


def test_bright_fluid_turns_the_contrast():
    volume = head(0.02)
    dark = volume.array * np.where(np.random.default_rng(0).random(SHAPE) < 0.08, 0.3, 1.0)
    bright = volume.array * np.where(np.random.default_rng(0).random(SHAPE) < 0.08, 2.0, 1.0)
    of_dark, of_bright = (measure(Volume(array.astype(np.float32), volume.affine)) for array in (dark, bright))
    assert of_dark["contrast"] < -0.5 and of_bright["contrast"] > 0.5


def test_tiny_and_empty_images_have_measures_too():
    array = np.zeros((9, 8, 10), np.float32)
    array[4, 4, 4] = 1.0
    measures = measure(Volume(array, np.diag([3.0, 3.0, 3.0, 1.0])))
    assert measures["head_volume_ml"] == pytest.approx(0.027)
