"""The warp against SciPy, its gradients against those of a naive reference and against finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from mrigen.layers import WarpedTemplate, warp

SIDES = [(9, 8, 7), (29, 35, 29), (1, 5, 2)]
any_sides = pytest.mark.parametrize("sides", SIDES, ids=str)
SHARED = {"per subject": 3, "one axis": 1, "no axis": None}
any_batch = pytest.mark.parametrize("volumes_batch", SHARED.values(), ids=SHARED)


def draw(sides, volumes_batch, channels=2, spread=3.0, seed=0):
    """Returns volumes and a rough displacement that also leaves the grid, float32."""
    generator = np.random.default_rng(seed)
    shape = (*sides, channels) if volumes_batch is None else (volumes_batch, *sides, channels)
    volumes = generator.uniform(size=shape).astype("float32")
    return volumes, (spread * generator.normal(size=(3, *sides, 3))).astype("float32")


def reference(volumes, displacement):
    """Returns the warp as SciPy makes it, in float64."""
    batch, *sides, _ = displacement.shape
    volumes = np.broadcast_to(volumes, (batch, *volumes.shape[-4:])).astype(float)
    places = np.moveaxis(displacement.astype(float) + np.stack(np.indices(sides), axis=-1), -1, 0)
    return np.stack(
        [
            np.stack(
                [map_coordinates(channel, places[:, n], order=1, mode="nearest") for channel in np.moveaxis(v, -1, 0)],
                axis=-1,
            )
            for n, v in enumerate(volumes)
        ]
    )


def naive(volumes, displacement):
    """Returns the warp by eight gathers, with TensorFlow's own gradients."""
    batch, *sides, _ = displacement.shape
    volumes = tf.broadcast_to(volumes, (batch, *volumes.shape[-4:]))
    places = [
        tf.clip_by_value(displacement[..., axis] + np.indices(sides)[axis].astype("float32"), 0.0, side - 1.0)
        for axis, side in enumerate(sides)
    ]
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight, index = 1.0, []
        for place, above, side in zip(places, corner, sides, strict=True):
            lower = tf.floor(place)
            weight *= place - lower if above else 1.0 - (place - lower)
            index.append(tf.minimum(tf.cast(lower, tf.int32) + above, side - 1))
        total += weight[..., None] * tf.gather_nd(volumes, tf.stack(index, axis=-1), batch_dims=1)
    return total


def gradients(function, volumes, displacement, upstream):
    volumes, displacement = tf.constant(volumes), tf.constant(displacement)
    with tf.GradientTape() as tape:
        tape.watch([volumes, displacement])
        total = tf.reduce_sum(function(volumes, displacement) * upstream)
    return [gradient.numpy() for gradient in tape.gradient(total, [volumes, displacement])]


@any_sides
@any_batch
def test_warp_equals_scipy(sides, volumes_batch):
    volumes, displacement = draw(sides, volumes_batch)
    np.testing.assert_allclose(warp(volumes, displacement), reference(volumes, displacement), atol=2e-5)


@any_sides
@any_batch
def test_gradients_equal_those_of_eight_gathers(sides, volumes_batch):
    volumes, displacement = draw(sides, volumes_batch)
    upstream = np.random.default_rng(1).normal(size=(3, *sides, 2)).astype("float32")
    expected = gradients(naive, volumes, displacement, upstream)
    for got, wanted in zip(gradients(warp, volumes, displacement, upstream), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    got = tf.function(gradients_of_warp)(volumes, displacement, upstream)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-4)


def gradients_of_warp(volumes, displacement, upstream):
    total = tf.reduce_sum(warp(volumes, displacement) * upstream)
    return tf.gradients(total, [volumes, displacement])


def test_gradients_equal_finite_differences():
    volumes, displacement = draw((9, 8, 7), 3, spread=1.0)
    upstream, change = (np.random.default_rng(n).normal(size=(3, 9, 8, 7, k)) for n, k in ((1, 2), (2, 3)))
    # Within one cell the warp is smooth; stay clear of the faces, where its slope jumps.
    displacement = np.floor(displacement) + 0.25 + 0.5 * np.random.default_rng(3).uniform(size=displacement.shape)
    to_volumes, to_displacement = gradients(warp, volumes, displacement.astype("float32"), upstream.astype("float32"))
    ends = [np.sum(upstream * reference(volumes, displacement + step * change)) for step in (-1e-5, 1e-5)]
    assert np.sum(to_displacement * change) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-4)
    # The warp is linear in the volumes.
    assert np.sum(to_volumes * volumes) == pytest.approx(np.sum(upstream * reference(volumes, displacement)), rel=1e-4)


@any_batch
def test_no_displacement_changes_nothing(volumes_batch):
    volumes, _ = draw((9, 8, 7), volumes_batch)
    np.testing.assert_array_equal(
        warp(volumes, np.zeros((3, 9, 8, 7, 3))), np.broadcast_to(volumes, (3, *volumes.shape[-4:]))
    )


def test_whole_voxels_shift_along_the_named_axis_and_repeat_the_edge():
    volumes, _ = draw((9, 8, 7), 3)
    for axis, side in enumerate((9, 8, 7)):
        displacement = np.zeros((3, 9, 8, 7, 3))
        displacement[..., axis] = 2
        expected = np.take(volumes, np.minimum(np.arange(side) + 2, side - 1), axis=axis + 1)
        np.testing.assert_array_equal(warp(volumes, displacement), expected)


def test_each_subject_is_read_from_its_own_volume():
    volumes, displacement = draw((9, 8, 7), 3)
    together = warp(volumes, displacement)
    for n in range(3):
        np.testing.assert_array_equal(together[n], warp(volumes[n], displacement[n : n + 1])[0])


def test_beyond_the_edge_the_displacement_has_no_gradient():
    volumes, displacement = draw((9, 8, 7), 1)
    _, to_displacement = gradients(warp, volumes, displacement + 100.0, np.ones((3, 9, 8, 7, 2), "float32"))
    np.testing.assert_array_equal(to_displacement, 0.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_warp_computes_in_float32(dtype):
    volumes, displacement = draw((9, 8, 7), 3, spread=1.0)
    volumes, displacement = (tf.cast(tensor, dtype) for tensor in (volumes, displacement))
    moved = warp(volumes, displacement)
    assert moved.dtype == tf.float32
    wanted = reference(tf.cast(volumes, tf.float64).numpy(), tf.cast(displacement, tf.float64).numpy())
    np.testing.assert_allclose(moved, wanted, atol=1e-5)


def test_what_is_no_number_stays_in_its_own_place():
    volumes, displacement = draw((9, 8, 7), 3)
    displacement[1, 2, 3, 4] = np.nan
    moved = warp(volumes, displacement).numpy()
    assert np.argwhere(np.isnan(moved)).tolist() == [[1, 2, 3, 4, 0], [1, 2, 3, 4, 1]]


def test_a_batch_of_any_size_is_traced_once():
    function = tf.function(warp, input_signature=[tf.TensorSpec((None, 9, 8, 7, 2)), tf.TensorSpec((None, 9, 8, 7, 3))])
    volumes, displacement = draw((9, 8, 7), 3)
    for batch in (1, 2, 3):
        np.testing.assert_array_equal(
            function(volumes[:batch], displacement[:batch]), warp(volumes[:batch], displacement[:batch])
        )


def test_warped_template_starts_at_the_mean_for_everybody():
    layer, mean = WarpedTemplate(), np.random.default_rng(0).uniform(size=(9, 8, 7)).astype("float32")
    layer.build((None, 9, 8, 7, 3))
    layer.start_at(mean)
    _, displacement = draw((9, 8, 7), 3)
    np.testing.assert_array_equal(layer(0 * displacement)[2, ..., 0], mean)
    np.testing.assert_allclose(layer(displacement), reference(mean[..., None], displacement), atol=2e-5)
