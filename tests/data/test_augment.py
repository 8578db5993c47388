"""Random changes of a volume, against SciPy and against geometry in millimetres."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from mrigen.data.augment import Augmenter, _rotation
from mrigen.recipe import AugmentRecipe

SHAPE = (11, 14, 17)
ZOOMS = (4.0, 3.0, 2.0)
NOTHING = dict.fromkeys(("shift", "rotation", "scaling", "intensity", "bias_field", "noise"), 0.0)
MIDDLE = (np.array(SHAPE) - 1) / 2


def augmenter(**settings):
    return Augmenter(AugmentRecipe(**(NOTHING | settings)), SHAPE, ZOOMS)


def noise(seed=0):
    """Bright up to the border, so that what comes in from outside is seen."""
    return np.random.default_rng(seed).uniform(0.3, 1.0, SHAPE).astype(np.float32)


def points():
    """Voxel centres in mm from the middle, (x, y, z, 3)."""
    return (np.moveaxis(np.indices(SHAPE), 0, -1) - MIDDLE) * ZOOMS


def blob(centre, sigma=3.0):
    """A round spot at `centre` (mm from the middle)."""
    return np.exp(-((points() - centre) ** 2).sum(axis=-1) / (2 * sigma**2)).astype(np.float32)


def moments(volume):
    """Centroid (mm from the middle) and covariance (mm^2)."""
    weights = volume.ravel() / volume.sum()
    flat = points().reshape(-1, 3)
    centroid = weights @ flat
    return centroid, (flat - centroid).T @ ((flat - centroid) * weights[:, None])


def matrix(*degrees):
    return _rotation(tf.constant(np.radians(degrees), tf.float32))


def bessel(volume, voxels, offset):
    """Bessel's interpolation by SciPy and NumPy, 0 outside: the linear one, less t (1 - t) / 2 times the likewise
    interpolated second differences along each axis, t being the part of a voxel from the voxel below."""
    padded = np.pad(volume.astype(float), 1)
    places = np.einsum("ij,jxyz->ixyz", voxels, np.indices(volume.shape)) + np.reshape(offset, (3, 1, 1, 1)) + 1.0
    places = np.clip(places, 0, np.reshape(padded.shape, (3, 1, 1, 1)) - 1)
    result = ndimage.map_coordinates(padded, places, order=1)
    for axis in range(3):
        ends = np.pad(padded, [(int(axis == other),) * 2 for other in range(3)], mode="edge")
        t = places[axis] - np.floor(places[axis])
        result -= t * (1 - t) / 2 * ndimage.map_coordinates(np.diff(ends, 2, axis=axis), places, order=1)
    return result


def draws(settings, volume, number=60):
    apply = tf.function(augmenter(**settings))
    return [apply(volume, tf.constant([3, seed])).numpy() for seed in range(number)]


# ---- moving


def test_nothing_changes_when_everything_is_zero():
    np.testing.assert_array_equal(augmenter()(noise(), (1, 2)), noise())


def test_sampling_at_the_same_place_is_the_identity():
    np.testing.assert_allclose(augmenter()._sample(noise(), tf.eye(3), tf.zeros(3)), noise(), atol=1e-5)


@pytest.mark.parametrize("shift", [(4.0, 0.0, 0.0), (0.0, -3.0, 0.0), (0.0, 0.0, 5.0), (2.5, -7.1, 3.3), (-50.0, 0, 0)])
def test_a_shift_is_in_mm_towards_higher_indices(shift):
    expected = bessel(noise(), np.eye(3), -np.array(shift) / ZOOMS)
    np.testing.assert_allclose(augmenter()._sample(noise(), tf.eye(3), tf.constant(shift)), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, 0, 0), (0, -15, 0), (0, 0, 30), (12, -7, 44)])
def test_turning_and_scaling_agree_with_the_formula_up_to_the_borders(degrees, scale):
    turn = matrix(*degrees).numpy().astype(float) * scale
    shift = np.array([1.5, -2.5, 3.5])
    voxels = np.diag(1 / np.array(ZOOMS)) @ turn @ np.diag(ZOOMS)
    offset = MIDDLE - voxels @ MIDDLE - shift / ZOOMS
    expected = bessel(noise(), voxels, offset)
    out = augmenter()._sample(noise(), tf.constant(turn, tf.float32), tf.constant(shift, tf.float32))
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_whole_voxels_are_moved_exactly_as_scipy_does():
    shift = (4.0, -6.0, 10.0)
    expected = ndimage.shift(noise(), np.array(shift) / ZOOMS, order=0, mode="grid-constant", cval=0.0)
    np.testing.assert_allclose(augmenter()._sample(noise(), tf.eye(3), tf.constant(shift)), expected, atol=1e-4)


def test_a_parabola_is_moved_without_being_flattened():
    """Linear interpolation would lift it by up to an eighth of its curvature; heads would come out blurred."""
    x, y, z = np.moveaxis(points(), -1, 0)
    parabola = (0.002 * x**2 - 0.003 * y**2 + 0.001 * z**2 + 0.5).astype(np.float32)
    moved = (0.002 * (x - 1) ** 2 - 0.003 * (y + 2) ** 2 + 0.001 * (z - 0.5) ** 2 + 0.5).astype(np.float32)
    out = augmenter()._sample(parabola, tf.eye(3), tf.constant([1.0, -2.0, 0.5])).numpy()
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(out[inner], moved[inner], atol=1e-5)


def test_a_volume_moved_out_of_sight_leaves_zeros():
    assert not augmenter()._sample(noise(), tf.eye(3), tf.constant([100.0, 0.0, 0.0])).numpy().any()


@pytest.mark.parametrize("degrees", [(25, 0, 0), (0, 25, 0), (0, 0, 25), (10, -20, 15)])
def test_turning_is_rigid_in_mm(degrees):
    """A round spot stays round and comes to lie where the rotation of millimetres, not of voxels, puts it."""
    centre, shift = np.array([4.0, -5.0, 3.0]), np.array([2.0, 1.0, -2.0])
    turn = matrix(*degrees)
    out = augmenter()._sample(blob(centre), turn, tf.constant(shift, tf.float32)).numpy()
    centroid, covariance = moments(out)
    # What is at `matrix @ point - shift` comes to lie at `point`.
    np.testing.assert_allclose(centroid, turn.numpy().T @ (centre + shift), atol=0.15)
    # Linear interpolation would widen by up to a quarter of a voxel squared along each axis.
    widening = np.diag(covariance - moments(blob(centre))[1])
    assert (widening > -0.2).all()
    assert (widening < 0.2).all()
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1.0)
    assert out.sum() == pytest.approx(blob(centre).sum(), rel=0.05)


@pytest.mark.parametrize(
    ("degrees", "image"), [((90, 0, 0), (1, -3, 2)), ((0, 90, 0), (3, 2, -1)), ((0, 0, 90), (-2, 1, 3))]
)
def test_rotations_are_right_handed_about_x_y_and_z(degrees, image):
    np.testing.assert_allclose(matrix(*degrees).numpy() @ (1, 2, 3), image, atol=1e-6)


def test_rotation_is_about_x_then_y_then_z():
    turn = matrix(10, 20, 30).numpy()
    np.testing.assert_allclose(turn, matrix(0, 0, 30) @ matrix(0, 20, 0) @ matrix(10, 0, 0), atol=1e-6)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_random_shifts_fill_their_range_in_mm():
    start = np.array([0.5, -0.5, 0.3])
    shifts = np.array([moments(out)[0] - start for out in draws({"shift": 6.0}, blob(start))])
    assert np.abs(shifts).max() < 6.3
    assert (shifts.max(axis=0) > 4).all()
    assert (shifts.min(axis=0) < -4).all()
    assert np.abs(np.corrcoef(shifts.T) - np.eye(3)).max() < 0.4  # each axis by itself


def test_random_rotations_keep_to_their_range():
    arm = np.array([10.0, 0.0, 0.0])
    angles = []
    for out in draws({"rotation": 10.0}, blob(arm)):
        centroid = moments(out)[0]
        assert np.linalg.norm(centroid) == pytest.approx(10.0, abs=0.3)
        angles.append(np.degrees(np.arctan2(centroid[1:], centroid[0])))
    assert np.abs(angles).max() < 11
    assert (np.max(angles, axis=0) > 6).all()
    assert (np.min(angles, axis=0) < -6).all()


def test_random_scaling_is_about_the_middle_and_as_often_larger_as_smaller():
    arm = np.array([6.0, -5.0, 4.0])
    ends = np.array([moments(out)[0] for out in draws({"scaling": 0.2}, blob(arm))])
    factors = ends @ arm / (arm @ arm)
    np.testing.assert_allclose(ends, factors[:, None] * arm, atol=0.15)
    assert 1 / 1.22 < factors.min() < 0.9
    assert 1.1 < factors.max() < 1.22
    assert 0.25 < (factors > 1).mean() < 0.75


def test_flip_mirrors_left_and_right_alone_and_half_of_the_time():
    outs = draws({"flip": True}, noise())
    mirrored = [np.array_equal(out, noise()[::-1]) for out in outs]
    same = [np.array_equal(out, noise()) for out in outs]
    assert all(np.logical_xor(mirrored, same))
    assert 15 < sum(mirrored) < 45


# ---- brightness


def test_intensity_is_one_gain_for_the_whole_volume():
    gains = [out / (0.5 * noise()) for out in draws({"intensity": 0.1}, 0.5 * noise())]
    assert all(np.ptp(gain) < 1e-4 for gain in gains)
    values = np.array([gain.flat[0] for gain in gains])
    assert 1 / 1.1 - 1e-4 < values.min() < 0.95
    assert 1.05 < values.max() < 1.1 + 1e-4


def test_the_bias_field_is_smooth_and_stays_within_its_bounds():
    largest = np.log1p(0.2)
    fields = [np.log(out / 0.5) for out in draws({"bias_field": 0.2}, np.full(SHAPE, 0.5, np.float32))]
    for field in fields:
        for axis, side in enumerate(SHAPE):
            assert np.ptp(field, axis=axis).max() > 1e-4  # it varies along every axis
            step = largest * 3 * np.pi / side / 3
            assert np.abs(np.diff(field, axis=axis)).max() <= step
        assert abs(field.mean()) < 1e-3  # cosines: the gain as a whole is left to `intensity`
    extremes = np.array([np.abs(field).max() for field in fields])
    assert extremes.max() <= 2 * largest
    assert np.median(extremes) > 0.3 * largest


def test_noise_has_up_to_its_deviation_and_no_pattern():
    residuals = [out - 0.5 for out in draws({"noise": 0.05}, np.full(SHAPE, 0.5, np.float32))]
    deviations = np.array([residual.std() for residual in residuals])
    assert deviations.max() < 0.053
    assert deviations.max() > 0.04 > 0.02 > deviations.min()
    assert np.abs(np.mean(residuals)) < 1e-3
    assert np.abs(np.corrcoef(residuals[0].ravel(), residuals[1].ravel())[0, 1]) < 0.1


def test_values_stay_from_zero_to_one():
    settings = {"intensity": 0.5, "bias_field": 0.5, "noise": 0.5}
    outs = np.array(draws(settings, np.linspace(0, 1, noise().size, dtype=np.float32).reshape(SHAPE), 10))
    assert (outs.min(), outs.max()) == (0.0, 1.0)


# ---- seeds


EVERYTHING = {
    "scaling": 0.1,
    "flip": True,
    "intensity": 0.1,
    "bias_field": 0.1,
    "noise": 0.02,
    "shift": 5,
    "rotation": 9,
}


def test_the_same_seed_gives_the_same_change_whatever_the_global_seed():
    tf.random.set_seed(1)
    first = augmenter(**EVERYTHING)(noise(), (5, 6))
    tf.random.set_seed(2)
    np.testing.assert_array_equal(augmenter(**EVERYTHING)(noise(), (5, 6)), first)
    traced = tf.function(augmenter(**EVERYTHING))
    np.testing.assert_allclose(traced(noise(), tf.constant([5, 6])), first, atol=1e-5)
    for other in ((5, 7), (6, 6)):
        assert np.abs(augmenter(**EVERYTHING)(noise(), other) - first).mean() > 0.01


def test_each_kind_of_change_has_draws_of_its_own():
    """Turning one kind off leaves the others as they were."""
    flat = np.full(SHAPE, 0.5, np.float32)
    with_noise, without = (augmenter(bias_field=0.1, noise=size)(flat, (1, 2)).numpy() for size in (1e-3, 0.0))
    assert np.abs(with_noise - without).max() < 0.01
    moved, moved_and_lit = (augmenter(shift=5, intensity=gain)(0.5 * noise(), (1, 2)).numpy() for gain in (0.0, 0.1))
    ratio = moved_and_lit[moved > 0.1] / moved[moved > 0.1]
    assert np.ptp(ratio) < 1e-4
