"""What an image becomes, on objects whose place and size in the world are known."""

import functools
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from mrigen.data.cohort import index_cohort
from mrigen.data.heads import head_mask, otsu_threshold
from mrigen.data.preprocess import grid_affine, prepare_volume, resample
from mrigen.imaging.volumes import Volume, apply_affine, read_volume, to_canonical
from mrigen.recipe import DataRecipe, PreprocessRecipe

REAL = os.environ.get("MRIGEN_REAL_DATA")

# mm in the world: a head of 70 mm radius round HEAD, and in it a bright box.
HEAD, RADIUS = np.array([7.0, -12.0, 20.0]), 70.0
BOX = np.array([[-20.0, 4.0], [0.0, 30.0], [22.0, 56.0]])
AIR, TISSUE, BRIGHT = 40.0, 540.0, 1040.0


def rotation(x, y, z):
    """About x, then y, then z; degrees."""
    turn = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        one = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        one[first, first] = one[second, second] = cos
        one[first, second], one[second, first] = -sin, sin
        turn = one @ turn
    return turn


def native_grid(zooms, turn=None, extent=(176.0, 184.0, 192.0), middle=(3.0, -8.0, 15.0)):
    """A scanner's grid: its affine and its shape."""
    zooms = np.asarray(zooms, dtype=float)
    shape = np.ceil(np.array(extent) / zooms).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(zooms)
    affine[:3, 3] = middle - affine[:3, :3] @ ((shape - 1) / 2)
    return affine, tuple(shape)


def world(affine, shape):
    return apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


@functools.cache
def scan(zooms=(2.5, 3.0, 2.0), angles=None):
    """The head and its box, as scanned on a grid (not to be changed)."""
    affine, shape = native_grid(zooms, None if angles is None else rotation(*angles))
    points = world(affine, shape)
    array = AIR + np.random.default_rng(0).uniform(-2.0, 2.0, shape).astype(np.float32)
    array[np.linalg.norm(points - HEAD, axis=-1) <= RADIUS] = TISSUE
    array[np.all((points >= BOX[:, 0]) & (points <= BOX[:, 1]), axis=-1)] = BRIGHT
    array.setflags(write=False)
    return Volume(array, affine)


def stored(volume, codes):
    """The same scan with array axes that run to `codes`, such as PSR."""
    orientation = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(volume.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(orientation, volume.array.shape)
    return Volume(nibabel.apply_orientation(volume.array, orientation), affine)


def prepare(volume, mask=None, apply_mask=False, **settings):
    return prepare_volume(volume, mask, PreprocessRecipe(**settings), apply_mask)


def block(shape, *bounds, zooms=(2.0, 2.0, 2.0), value=100.0):
    """An image, 0 but for a block of voxels [low, high) along each axis."""
    array = np.zeros(shape, dtype=np.float32)
    array[tuple(slice(*bound) for bound in bounds)] = value
    return Volume(array, np.diag([*zooms, 1.0]))


# ---- where things come to lie


SETTINGS = {"zooms": (4.0, 5.0, 3.0), "volume_shape": (44, 36, 60)}


@pytest.mark.parametrize("angles", [None, (11, -8, 14), (-20, 0, 5)])
@pytest.mark.parametrize("codes", ["RAS", "PSR", "IAL"])
def test_a_bright_box_lands_on_its_place_in_the_world(angles, codes):
    prepared = prepare(to_canonical(stored(scan(angles=angles), codes)), **SETTINGS)
    assert prepared.array.shape == SETTINGS["volume_shape"]
    assert prepared.array.dtype == np.uint8
    points = world(grid_affine(prepared.centre, **SETTINGS), prepared.array.shape)
    # One grid step from every border, so that partial volume plays no part.
    step = np.array(SETTINGS["zooms"])
    in_box = np.all((points >= BOX[:, 0] + step) & (points <= BOX[:, 1] - step), axis=-1)
    off_box = np.any((points <= BOX[:, 0] - 2 * step) | (points >= BOX[:, 1] + 2 * step), axis=-1)
    distance = np.linalg.norm(points - HEAD, axis=-1)
    assert in_box.sum() > 20
    np.testing.assert_allclose(prepared.array[in_box], 255, atol=5)
    np.testing.assert_allclose(prepared.array[off_box & (distance < RADIUS - 10)], 127.5, atol=3)
    np.testing.assert_allclose(prepared.array[distance > RADIUS + 10], 0, atol=3)


def test_storage_orientation_changes_nothing():
    expected = prepare(scan(), **SETTINGS)
    for codes in ("LPS", "PSR", "SAL"):
        prepared = prepare(to_canonical(stored(scan(), codes)), **SETTINGS)
        np.testing.assert_array_equal(prepared.array, expected.array)
        np.testing.assert_allclose(prepared.centre, expected.centre, atol=1e-9)
        assert prepared.head_volume == pytest.approx(expected.head_volume)


@pytest.mark.parametrize("angles", [(11, -8, 14), (-20, 0, 5)])
def test_an_oblique_scan_of_the_same_head_is_nearly_the_same_volume(angles):
    straight, oblique = prepare(scan(), **SETTINGS), prepare(scan(angles=angles), **SETTINGS)
    # The bounding box is known to a native voxel or so.
    np.testing.assert_allclose(oblique.centre, straight.centre, atol=3.0)
    affine = grid_affine(HEAD, **SETTINGS)
    arrays = [resample(scan(angles=turn), affine, SETTINGS["volume_shape"]) for turn in (None, angles)]
    scale = BRIGHT - AIR
    points = world(affine, SETTINGS["volume_shape"])
    seen = np.linalg.norm(points - HEAD, axis=-1) < RADIUS + 8  # what both fields of view cover
    assert np.abs(arrays[0] - arrays[1])[seen].mean() < 0.02 * scale
    assert np.corrcoef(arrays[0][seen], arrays[1][seen])[0, 1] > 0.99


@pytest.mark.parametrize("turn", [None, rotation(11, -8, 14), rotation(0, 30, 0)])
@pytest.mark.parametrize("zooms", [(2.0, 2.5, 1.5), (1.0, 1.0, 6.0)])
def test_resample_keeps_a_linear_function_of_the_world(turn, zooms):
    """Smoothing and linear interpolation leave a plane as it is; any slip of axis, sign or offset does not."""
    affine, shape = native_grid(zooms, turn)
    slope = np.array([1.0, -2.0, 3.0])
    volume = Volume((world(affine, shape) @ slope).astype(np.float32), affine)
    grid = grid_affine((5.0, -6.0, 13.0), (4.0, 5.0, 3.0), (9, 8, 10))
    np.testing.assert_allclose(resample(volume, grid, (9, 8, 10)), world(grid, (9, 8, 10)) @ slope, atol=0.02)


@pytest.mark.parametrize("zooms", [(1.0, 2.0, 3.0), (-1.3, 0.7, 2.2)])
def test_resample_along_the_axes_equals_scipy(zooms):
    array = np.random.default_rng(1).normal(size=(23, 19, 17)).astype(np.float32)
    volume = Volume(array, np.diag([*zooms, 1.0]))
    grid = grid_affine((3.0, 5.0, 20.0), (4.0, 1.1, 2.0), (9, 30, 14))
    to_native = np.linalg.inv(volume.affine) @ grid
    steps = np.abs(np.diag(to_native)[:3])
    sigmas = np.sqrt(np.maximum(steps**2 - 1.0, 0.0)) / np.sqrt(8.0 * np.log(2.0))
    smooth = ndimage.gaussian_filter(array, sigmas, mode="nearest", truncate=3.0)
    expected = ndimage.affine_transform(
        smooth, to_native[:3, :3], to_native[:3, 3], output_shape=(9, 30, 14), order=1, cval=0.0
    )
    np.testing.assert_allclose(resample(volume, grid, (9, 30, 14)), expected, atol=1e-5)


@pytest.mark.parametrize("turn", [[1, 0, 2], [2, 0, 1], [1, 2, 0]])
def test_resample_along_swapped_axes_equals_that_of_the_turned_image(turn):
    array = np.random.default_rng(1).normal(size=(23, 19, 17)).astype(np.float32)
    volume = Volume(array, np.diag([1.0, -2.0, 3.0, 1.0]))
    grid = grid_affine((3.0, -5.0, 20.0), (4.0, 1.1, 2.0), (9, 30, 14))
    turned = Volume(array.transpose(turn), volume.affine[:, [*turn, 3]])
    np.testing.assert_allclose(resample(turned, grid, (9, 30, 14)), resample(volume, grid, (9, 30, 14)), atol=1e-5)
    swapped = resample(volume, grid[:, [*turn, 3]], [(9, 30, 14)[axis] for axis in turn])
    np.testing.assert_allclose(swapped, resample(volume, grid, (9, 30, 14)).transpose(turn), atol=1e-5)


def test_a_large_image_has_the_threshold_of_a_small_one():
    small = np.random.default_rng(2).choice([0.0, 1.0, 10.0, 11.0], size=(30, 30, 30)).astype(np.float32)
    large = small.repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=2)
    assert otsu_threshold(large) == pytest.approx(otsu_threshold(small), abs=0.1)


def test_resample_is_zero_outside():
    volume = Volume(np.ones((8, 9, 10), np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))
    # Along x the grid begins 2 steps before the image.
    grid = grid_affine((0.0, 12.0, 18.0), (2.0, 3.0, 4.0), (5, 3, 3))
    out = resample(volume, grid, (5, 3, 3))
    np.testing.assert_allclose(out[:2], 0.0)
    np.testing.assert_allclose(out[2:], 1.0)


def test_resample_to_the_same_grid_is_the_identity():
    array = np.random.default_rng(0).normal(size=(7, 8, 9)).astype(np.float32)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    np.testing.assert_allclose(resample(Volume(array, affine), affine, (7, 8, 9)), array, atol=1e-6)


def test_grid_affine_puts_the_middle_of_the_grid_at_the_centre():
    affine = grid_affine((10.0, -20.0, 30.0), (2.0, 3.0, 4.0), (7, 8, 9))
    np.testing.assert_allclose(apply_affine(affine, [3.0, 3.5, 4.0]), (10.0, -20.0, 30.0))
    np.testing.assert_allclose(affine[:3, :3], np.diag([2.0, 3.0, 4.0]))


# ---- anti-aliasing


def test_a_checkerboard_becomes_its_mean():
    array = (np.indices((48, 48, 48)).sum(axis=0) % 2).astype(np.float32)
    # The grid's points fall on voxel centres: without smoothing all of them would show the same colour.
    out = resample(Volume(array, np.eye(4)), grid_affine((24, 24, 24), (4, 4, 4), (9, 9, 9)), (9, 9, 9))
    np.testing.assert_allclose(out, 0.5, atol=0.01)


@pytest.mark.parametrize("axis", range(3))
def test_smoothing_is_along_the_axis_that_is_coarsened(axis):
    shape = [40, 40, 40]
    stripes = (np.indices(shape)[axis] % 2).astype(np.float32)
    others = (np.indices(shape)[(axis + 1) % 3] % 2).astype(np.float32)
    zooms = [1.0, 1.0, 1.0]
    zooms[axis] = 4.0
    grid = grid_affine((20.5, 20.5, 20.5), zooms, (6, 6, 6))
    smooth = resample(Volume(stripes, np.eye(4)), grid, (6, 6, 6))
    sharp = resample(Volume(others, np.eye(4)), grid, (6, 6, 6))
    np.testing.assert_allclose(smooth, 0.5, atol=0.01)
    np.testing.assert_allclose(np.unique(sharp.round(5)), [0.0, 1.0])


def test_smoothing_takes_one_voxel_to_the_resolution_of_the_grid():
    """A thin plane, 1 mm to 4 mm: a Gaussian of FWHM sqrt(4^2 - 1) mm, as seen on a fine grid in native voxels."""
    plane = np.zeros((61, 9, 9), dtype=np.float32)
    plane[30] = 1.0
    profile = [
        resample(Volume(plane, np.eye(4)), grid_affine((30 + shift, 4, 4), (4, 1, 1), (1, 1, 1)), (1, 1, 1)).item()
        for shift in range(-12, 13)
    ]
    offsets = np.arange(-12, 13)
    assert np.sum(profile) == pytest.approx(1.0, abs=0.01)
    fwhm = np.sqrt(8 * np.log(2) * np.sum(offsets**2 * profile) / np.sum(profile))
    assert fwhm == pytest.approx(np.sqrt(15.0), rel=0.03)


# ---- the head


@pytest.mark.parametrize(
    ("values", "counts", "upper"),
    [
        ([0, 100], [500, 100], 100),
        ([0, 10, 100], [500, 300, 200], 100),  # 10 is noise in the air
        ([0, 90, 100], [500, 300, 200], 90),
        ([-100, -90, 0], [500, 300, 200], 0),
    ],
)
def test_otsu_parts_known_values(values, counts, upper):
    array = np.repeat(np.array(values, dtype=np.float32), counts)
    threshold = otsu_threshold(array)
    assert array[array >= threshold].min() == upper
    assert array[array < threshold].max() < upper


def test_otsu_parts_two_gaussians_in_the_middle():
    generator = np.random.default_rng(0)
    array = np.concatenate([generator.normal(100, 20, 40_000), generator.normal(300, 20, 40_000)])
    assert otsu_threshold(array) == pytest.approx(200, abs=8)


def test_otsu_agrees_with_a_naive_search():
    generator = np.random.default_rng(1)
    array = np.concatenate([generator.gamma(2.0, 20.0, 6000), generator.normal(260, 40, 2500)])
    array = np.minimum(array, np.percentile(array, 99.9))

    def between(threshold):
        low, high = array[array < threshold], array[array >= threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    candidates = np.linspace(array.min(), array.max(), 402)[1:-1]
    best = max(candidates, key=between)
    assert between(otsu_threshold(array)) == pytest.approx(between(best), rel=1e-3)


def test_a_few_hot_voxels_do_not_move_otsu():
    array = scan().array.copy()
    before = otsu_threshold(array)
    array.flat[:20] = 1e6
    assert otsu_threshold(array) == pytest.approx(before, rel=0.02)


def test_the_head_is_the_largest_component():
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[2:10, 2:10, 2:10] = 100
    array[14:18, 14:18, 14:18] = 120  # brighter, but smaller
    mask = head_mask(array)
    assert mask.sum() == 8**3
    assert mask[2:10, 2:10, 2:10].all()


@pytest.mark.parametrize("row", [1, 2])
def test_the_largest_component_is_found_between_others(row):
    """None has half of the voxels, and those looked at first (every second plane, every fourth row) may miss it."""
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[4, ::4, :3] = array[12, ::4, :3] = 100  # ten of three voxels
    array[15, row, :8] = 100
    mask = head_mask(array)
    assert mask.sum() == 8
    assert mask[15, row, :8].all()


def test_a_component_that_the_first_look_misses_is_found():
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[3, 5, 2:14] = 100
    assert head_mask(array).sum() == 12


@pytest.mark.parametrize(("zooms", "angles"), [((1.5, 2.0, 3.0), None), ((3.0, 1.5, 2.0), (11, -8, 14))])
def test_head_volume_of_a_ball_is_right(zooms, angles):
    expected = 4 / 3 * np.pi * RADIUS**3 / 1000
    prepared = prepare(scan(zooms, angles), volume_shape=8)  # a grid far too small loses nothing of it
    assert prepared.head_volume == pytest.approx(expected, rel=0.01)
    assert prepared.brain_volume is None


# ---- intensities


def test_intensities_are_scaled_from_low_to_high():
    prepared = prepare(scan(), **SETTINGS)
    assert prepared.scale == pytest.approx(BRIGHT - AIR, abs=3)
    assert (prepared.array.min(), prepared.array.max()) == (0, 255)
    assert np.median(prepared.array[prepared.array > 60]) / 255 * prepared.scale + AIR == pytest.approx(TISSUE, abs=3)


def test_the_high_percentile_is_of_the_head_not_of_the_image():
    volume = block((60, 60, 60), (20, 40), (20, 40), (20, 40))
    volume.array[20:40, 20:40, 20:22] = 300.0  # a tenth of the head, a two-hundredth of the image
    volume.array[volume.array == 0] = np.random.default_rng(0).uniform(0, 0.1, (volume.array == 0).sum())
    assert prepare(volume, intensity_percentiles=(0, 91), volume_shape=32).scale == pytest.approx(300.0, abs=0.1)
    prepared = prepare(volume, intensity_percentiles=(0, 89), volume_shape=32)
    assert prepared.scale == pytest.approx(100.0, abs=0.1)
    assert prepared.array.max() == 255  # what is brighter is clipped


@pytest.mark.parametrize("gain", [1e-3, 1.0, 1e4])
def test_units_do_not_matter(gain):
    volume = scan()
    prepared = prepare(Volume(volume.array * np.float32(gain), volume.affine), **SETTINGS)
    np.testing.assert_allclose(prepared.array.astype(int), prepare(volume, **SETTINGS).array.astype(int), atol=1)
    assert prepared.scale == pytest.approx(gain * (BRIGHT - AIR), rel=3e-3)


def whole_head():
    """A textured head of more than a brain's size in noisy air, and where it is well inside."""
    affine, shape = native_grid((4.0, 4.0, 4.0), extent=(240.0, 256.0, 256.0))
    generator = np.random.default_rng(4)
    points = world(affine, shape) - (0.0, 0.0, 10.0)
    distance = np.linalg.norm(points / (85.0, 100.0, 110.0), axis=-1)
    texture = ndimage.gaussian_filter(generator.normal(size=shape), 1.5)
    head = 600 + 150 * texture / texture.std() + np.where(distance < 0.5, 250, 0)
    array = np.where(distance < 1, head, 0) + np.abs(generator.normal(0, 6, shape))
    return Volume(np.rint(array).astype(np.float32), affine), distance < 0.8


def stripped_brain(cropped=False):
    """A textured brain, 0 all around."""
    affine, shape = native_grid((3.0, 3.0, 3.0))
    generator = np.random.default_rng(5)
    distance = np.linalg.norm(world(affine, shape) / (62.0, 75.0, 58.0), axis=-1)
    texture = ndimage.gaussian_filter(generator.normal(size=shape), 1.0)
    brain = 500 + 120 * texture / texture.std() + np.where(distance < 0.6, 200, 0)
    array = np.where(distance < 1, np.maximum(brain, 40), 0).astype(np.float32)
    if cropped:
        keep = tuple(slice(found.start, found.stop) for found in ndimage.find_objects((array > 0).astype(int))[0])
        affine = affine.copy()
        affine[:3, 3] += 3.0 * np.array([part.start for part in keep])
        array = array[keep]
    return Volume(np.ascontiguousarray(array), affine)


def spoil_shift(array):
    return array - 1000


def spoil_stretch(array):
    return array * 7.5 + 12345


def spoil_wrap(array):
    """The brightest voxels of 16 bits overflow."""
    out = array * (32000 / np.percentile(array, 99.8))
    return np.where(out > 32767, out - 65536, out)


def spoil_dead(array):
    out = array.copy()
    out[3, 4, 5] = -32768
    out[7, 2, 1] = -1e10
    return out


def spoil_hot(array):
    out = array.copy()
    out[3, 4, 5] = 1e7
    return out


def spoil_everywhere(array):
    return (array - array.mean()) / array.std()


def spoil_undershoot(array):
    """Ringing, as a spline leaves it."""
    return array - 0.08 * ndimage.gaussian_laplace(array, 1.0)


def far_apart(prepared, expected, where):
    """Levels, at the 99.9th percentile over `where`, (x, y, z) bool of the grid."""
    assert np.abs(prepared.centre - expected.centre).max() < 1e-6
    return np.percentile(np.abs(prepared.array.astype(int) - expected.array)[where], 99.9)


WHOLE = {"zooms": (4.0, 4.0, 4.0), "volume_shape": (60, 64, 64), "centre": "field_of_view"}


@pytest.mark.parametrize(
    "spoil", [spoil_shift, spoil_stretch, spoil_wrap, spoil_dead, spoil_hot, spoil_everywhere], ids=lambda f: f.__name__
)
def test_a_whole_head_has_the_same_levels_however_its_intensities_were_changed(spoil):
    volume, _ = whole_head()
    expected = prepare(volume, **WHOLE)
    spoiled = prepare(Volume(spoil(volume.array).astype(np.float32), volume.affine), **WHOLE)
    # What has overflown is lost, and so are its neighbours on the grid; what is left has a white a little lower.
    kept = ndimage.minimum_filter(spoiled.array, 3) > 40 if spoil is spoil_wrap else True
    assert far_apart(spoiled, expected, kept & (expected.array > 60)) <= (12 if spoil is spoil_wrap else 3)
    assert np.median(spoiled.array[expected.array < 10]) <= 3
    assert spoiled.head_volume == pytest.approx(expected.head_volume, rel=0.02)


def test_undershoot_does_not_lift_the_background():
    volume, _ = whole_head()
    prepared = prepare(Volume(spoil_undershoot(volume.array), volume.affine), **WHOLE)
    assert np.median(prepared.array[prepare(volume, **WHOLE).array < 10]) <= 4


@pytest.mark.parametrize("fill", [-1024.0, -2048.0])
@pytest.mark.parametrize("air_is_zero", [False, True])
@pytest.mark.parametrize("form", ["cylinder", "sphere"])
def test_what_was_put_around_a_field_of_view_is_no_background(form, air_is_zero, fill):
    volume, _ = whole_head()
    array = np.where(volume.array < 60, 0, volume.array) if air_is_zero else volume.array
    points = world(volume.affine, array.shape) - apply_affine(volume.affine, (np.array(array.shape) - 1) / 2)
    distance = np.linalg.norm(points[..., : 2 if form == "cylinder" else 3], axis=-1)
    seen = distance < (118 if form == "cylinder" else 128)
    expected = prepare(Volume(array, volume.affine), **WHOLE)
    filled = prepare(Volume(np.where(seen, array, fill).astype(np.float32), volume.affine), **WHOLE)
    inner = ndimage.binary_erosion(seen, iterations=2)
    assert far_apart(filled, expected, inner & (expected.array > 60)) <= 3
    assert filled.array[inner & (expected.array < 5)].max() <= 6


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("spoil", [spoil_shift, spoil_stretch, spoil_dead, spoil_hot], ids=lambda f: f.__name__)
def test_a_stripped_brain_has_the_same_levels_however_its_intensities_were_changed(spoil, cropped):
    volume = stripped_brain(cropped)
    expected = prepare(volume)
    spoiled = prepare(Volume(spoil(volume.array).astype(np.float32), volume.affine))
    assert far_apart(spoiled, expected, expected.array > 25) <= 3
    assert np.percentile(spoiled.array[expected.array == 0], 99.9) == 0  # a hot voxel stays what it is


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("outside", [0.0, -5.0, 100.0])
def test_a_brain_standardized_inside_its_mask_has_the_levels_of_the_brain_as_it_was(outside, cropped):
    volume = stripped_brain(cropped)
    brain = volume.array > 0
    array = np.full_like(volume.array, outside)
    array[brain] = (volume.array[brain] - volume.array[brain].mean()) / volume.array[brain].std()
    expected, prepared = prepare(volume), prepare(Volume(array, volume.affine))
    assert far_apart(prepared, expected, expected.array > 25) <= 3
    assert prepared.array[expected.array == 0].max() == 0
    assert prepared.head_volume == pytest.approx(brain.sum() * 0.027, rel=1e-6)


def test_black_and_white_are_where_they_were_in_runs_made_before():
    volume, _ = whole_head()
    array = spoil_dead(volume.array)
    prepared = prepare(Volume(array, volume.affine), version=3)
    assert prepared.low == -1e10
    assert prepared.surround is None
    head = array >= otsu_threshold(array)
    assert prepared.scale == pytest.approx(np.percentile(array[head_mask(array)], 99.5) + 1e10, rel=1e-6)
    assert head.any()


def test_a_range_that_is_small_beside_its_offset_is_found():
    volume, _ = whole_head()
    prepared = prepare(Volume((1e7 + volume.array).astype(np.float32), volume.affine), **WHOLE)
    expected = prepare(volume, **WHOLE)
    assert far_apart(prepared, expected, expected.array > 60) <= 3


def test_native_intensities_give_the_image_back_and_what_was_around_it():
    whole = prepare(whole_head()[0], **WHOLE)
    levels = whole.array / np.float32(255)
    np.testing.assert_allclose(whole.intensities.of_levels(levels), whole.low + whole.scale * levels, rtol=1e-6)
    volume = stripped_brain()
    standardized = np.where(volume.array > 0, (volume.array - 600) / 150, 0).astype(np.float32)
    for array in (volume.array, standardized):
        prepared = prepare(
            Volume(array, volume.affine), zooms=(3, 3, 3), volume_shape=(60, 64, 64), centre="field_of_view"
        )
        native = prepared.intensities.of_levels(prepared.array / np.float32(255))
        assert not native[prepared.array == 0].any()
        inside = prepared.array > 100
        assert np.median(native[inside]) == pytest.approx(np.median(array[array != 0]), abs=0.2 * float(array.std()))


# ---- fields of view that lie aslant


@pytest.mark.parametrize("angles", [(10, 0, 0), (30, 0, 0), (-30, 0, 0), (0, 25, 0), (0, 0, -20), (15, -10, 20)])
@pytest.mark.parametrize("as_wide", [1.0, 1.4])
def test_a_head_lands_on_the_same_grid_from_a_field_of_view_aslant(angles, as_wide):
    def scanned(turn):
        affine, shape = native_grid((2.5, 2.5, 2.5), turn, extent=as_wide * np.array([230.0, 250.0, 270.0]))
        points = world(affine, shape) - (4.0, -6.0, 12.0)
        skull = np.linalg.norm(points / (75.0, 95.0, 85.0), axis=-1) < 1
        neck = (np.linalg.norm(points[..., :2] - (0.0, -20.0), axis=-1) < 45) & (points[..., 2] < 0)
        nose = np.linalg.norm(points - (0.0, 88.0, -45.0), axis=-1) < 14
        array = np.where(skull | nose | (neck & (points[..., 2] > -105)), 700.0, 0.0)
        return Volume((array + np.abs(np.random.default_rng(1).normal(0, 8, shape))).astype(np.float32), affine)

    straight, aslant = prepare(scanned(None)), prepare(to_canonical(scanned(rotation(*angles))))
    np.testing.assert_allclose(aslant.centre, straight.centre, atol=4.0)
    assert aslant.lost < 0.005


# ---- masks


def brain(volume, radius=40.0):
    """A ball of labels 1 and 2 beside the middle of the head."""
    points = world(volume.affine, volume.array.shape)
    inside = np.linalg.norm(points - HEAD - np.array([6.0, -4.0, 10.0]), axis=-1) <= radius
    return Volume(inside * (1.0 + (points[..., 0] > HEAD[0])), volume.affine)


def test_apply_mask_leaves_zeros_outside_and_the_rest_as_it_is():
    volume = scan()
    mask = brain(volume)
    settings = {**SETTINGS, "centre": "mask"}
    whole, stripped = prepare(volume, mask, **settings), prepare(volume, mask, apply_mask=True, **settings)
    np.testing.assert_allclose(stripped.centre, whole.centre)
    inside = Volume((mask.array > 0).astype(np.float32), mask.affine)
    near = resample(inside, grid_affine(whole.centre, **SETTINGS), whole.array.shape)
    assert not stripped.array[near == 0].any()
    assert whole.array[near == 0].any()
    # In the brain, its median is at .6 and its white at 1, whatever the head round it: one map of intensities.
    native = whole.low + whole.scale * whole.array[near > 0.999] / 255
    expected = np.clip((native - stripped.low) / stripped.scale, 0, 1) * 255
    np.testing.assert_allclose(stripped.array[near > 0.999], expected, atol=1)
    assert np.median(stripped.array[near > 0.999]) == 153


def test_brain_volume_counts_all_labels_and_head_volume_ignores_the_mask():
    volume = scan()
    mask = brain(volume)
    for apply_mask in (False, True):
        prepared = prepare(volume, mask, apply_mask=apply_mask, **SETTINGS)
        assert prepared.brain_volume == pytest.approx(4 / 3 * np.pi * 40**3 / 1000, rel=0.01)
        assert prepared.brain_volume == pytest.approx((mask.array > 0).sum() * 2.5 * 3.0 * 2.0 / 1000)
        assert prepared.head_volume == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.01)


# ---- where the grid is laid (voxels of 2 mm at the origin: world = 2 x index)


def test_a_tall_head_hangs_from_its_top():
    volume = block((60, 60, 110), (20, 40), (10, 50), (5, 100))  # 190 mm tall, the last voxel of it at 99
    prepared = prepare(volume, zooms=4, volume_shape=(30, 30, 40))
    assert prepared.centre[2] + 4 * 40 / 2 == pytest.approx(2 * 99 + 2)
    np.testing.assert_allclose(prepared.centre[:2], (59, 59))


def test_a_short_object_is_centred():
    volume = block((60, 60, 110), (20, 40), (10, 44), (30, 100))  # 140 mm tall
    np.testing.assert_allclose(prepare(volume, volume_shape=40).centre, (59, 53, 129))


def test_the_height_that_makes_a_whole_head_is_in_mm():
    bounds = ((20, 40), (10, 44), (30, 90))
    short = prepare(block((60, 60, 110), *bounds, zooms=(2, 2, 2)), volume_shape=40)
    tall = prepare(block((60, 60, 110), *bounds, zooms=(2, 2, 3)), volume_shape=40)
    assert short.centre[2] == pytest.approx(2 * 59.5)
    assert tall.centre[2] + 80 == pytest.approx(3 * 89 + 2)


def test_head_top_hangs_a_short_object_too():
    prepared = prepare(block((60, 60, 60), (20, 40), (10, 44), (10, 50)), centre="head_top", volume_shape=(8, 8, 20))
    assert prepared.centre[2] + 4 * 20 / 2 == pytest.approx(2 * 49 + 2)


def test_field_of_view_is_the_middle_of_the_image():
    volume = block((60, 70, 80), (2, 30), (10, 44), (10, 50), zooms=(2, 2.5, 3))
    np.testing.assert_allclose(prepare(volume, centre="field_of_view").centre, (59, 86.25, 118.5))


def test_mask_is_the_middle_of_the_mask():
    volume = block((60, 60, 110), (20, 40), (10, 50), (5, 100))
    mask = block((60, 60, 110), (22, 32), (20, 40), (60, 90), value=3)
    np.testing.assert_allclose(prepare(volume, mask, centre="mask").centre, (53, 59, 149))


def test_auto_centres_a_stripped_brain_whatever_its_head():
    volume = block((60, 60, 110), (20, 40), (10, 50), (5, 100))
    mask = block((60, 60, 110), (22, 32), (20, 40), (60, 90), value=1)
    np.testing.assert_allclose(prepare(volume, mask, apply_mask=True).centre, (53, 59, 149))


def test_a_cable_does_not_move_the_grid():
    volume = block((60, 60, 110), (20, 40), (10, 50), (30, 90))
    volume.array[30, 30, 90:110] = 100.0  # connected, but only a voxel wide
    np.testing.assert_allclose(prepare(volume).centre, (59, 59, 119))


# ---- what is lost


def test_lost_is_the_part_of_the_mask_outside_the_grid():
    volume = block((60, 50, 50), (5, 55), (5, 45), (5, 45))
    mask = block((60, 50, 50), (20, 50), (10, 40), (10, 40), value=1)
    settings = {"zooms": 4, "volume_shape": (16, 24, 24), "centre": "field_of_view"}
    # Along x the grid covers 59 -+ 32 mm: voxels 14 to 45, that is 26 of the 30 planes of the mask.
    assert prepare(volume, mask, **settings).lost == pytest.approx(4 / 30)
    assert prepare(volume, mask, apply_mask=True, **settings).lost == pytest.approx(4 / 30)
    assert prepare(volume, mask, **(settings | {"volume_shape": 24})).lost == 0.0


def test_lost_without_a_mask_is_of_the_upper_150_mm():
    volume = block((60, 60, 110), (20, 40), (10, 50), (2, 102))  # 200 mm tall, its top voxel at 101
    # The grid covers 2 mm of air and 123 mm of head: voxels 40 to 101, of 26 to 101.
    settings = {"zooms": 5, "volume_shape": (20, 20, 25)}
    assert prepare(volume, **settings).lost == pytest.approx(14 / 76)
    # A grid that covers 150 mm loses only neck.
    assert prepare(volume, **(settings | {"volume_shape": (20, 20, 32)})).lost == 0.0


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MRIGEN_REAL_DATA is not set")
@pytest.mark.parametrize("apply_mask", [False, True])
def test_real_brains_fit_the_default_grid(apply_mask):
    table = index_cohort(DataRecipe(root=str(Path(REAL) / "ixi-hh"), mask="dlmuse")).table.iloc[::4]
    settings = PreprocessRecipe()
    whole = 0
    for row in table.itertuples():
        mask = read_volume(row.mask_path)
        prepared = prepare_volume(read_volume(row.path), mask, settings, apply_mask)
        raw = nibabel.load(row.mask_path)
        count = (np.asarray(raw.dataobj) > 0).sum() * abs(np.linalg.det(raw.affine[:3, :3])) / 1000
        assert prepared.brain_volume == pytest.approx(count)
        assert 900 < prepared.brain_volume < 2000
        assert prepared.brain_volume < prepared.head_volume < 6000
        # Seen from the volume itself: no bright voxel of a stripped brain lies on the border of the grid.
        if apply_mask:
            inner = np.zeros(prepared.array.shape, dtype=bool)
            inner[1:-1, 1:-1, 1:-1] = True
            assert prepared.array[~inner].max() < 64
        whole += prepared.lost == 0.0
    assert whole >= 0.98 * len(table)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MRIGEN_REAL_DATA is not set")
@pytest.mark.parametrize("row", [0, 53, 77, 111])  # Of two of them grey levels lie on the border of Otsu's bins.
def test_a_real_head_that_was_shifted_is_the_same_to_the_last_voxel_of_its_mask(row):
    path = index_cohort(DataRecipe(root=str(Path(REAL) / "ixi-hh"))).table["path"].iloc[row]
    volume, settings = read_volume(path), PreprocessRecipe()
    expected = prepare_volume(volume, None, settings, False)
    old = prepare_volume(volume, None, PreprocessRecipe(version=3), False)
    np.testing.assert_array_equal(expected.array, old.array)  # Heads in air that is 0 are what they were.
    shifted = prepare_volume(Volume(volume.array - 1000, volume.affine), None, settings, False)
    assert shifted.head_volume == expected.head_volume
    np.testing.assert_array_equal(shifted.centre, expected.centre)
    assert np.abs(shifted.array.astype(int) - expected.array).max() <= 3
