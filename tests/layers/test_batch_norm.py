"""The fused layer against the formula in NumPy and against the plain Keras layer."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from mrigen.layers import FusedBatchNormalization

SHAPE = (3, 7, 8, 9, 2)
NUM_VALUES = 3 * 7 * 8 * 9
MOMENTUM, EPSILON = 0.9, 1e-2


def volumes(seed=0):
    scale, loc = np.array([0.5, 3.0]), np.array([1.0, -2.0])
    return (np.random.default_rng(seed).normal(size=SHAPE) * scale + loc).astype("float32")


def make(kind, dtype="float32"):
    layer = kind(momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype)
    layer.build(SHAPE)
    layer.gamma.assign([0.7, 1.5])
    layer.beta.assign([0.2, -0.4])
    return layer


@pytest.fixture(params=["float32", "mixed_bfloat16", "mixed_float16"])
def pair(request):
    """Ours, the Keras layer in float32, and the tolerance of the policy."""
    tolerance = {"float32": 1e-4, "mixed_bfloat16": 0.04, "mixed_float16": 0.005}[request.param]
    return make(FusedBatchNormalization, request.param), make(keras.layers.BatchNormalization), tolerance


def unbiased(moving_variance, steps):
    """Returns Keras's moving variance as it were with the variance of NumPy's ddof=1."""
    kept = MOMENTUM**steps
    return kept + (moving_variance - kept) * NUM_VALUES / (NUM_VALUES - 1)


def test_training_outputs_and_statistics_equal_the_formula():
    x, layer = volumes(), make(FusedBatchNormalization)
    mean, variance = x.mean(axis=(0, 1, 2, 3)), x.astype(float).var(axis=(0, 1, 2, 3))
    expected = [0.7, 1.5] * (x - mean) / np.sqrt(variance + EPSILON) + [0.2, -0.4]
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, (1 - MOMENTUM) * mean, rtol=1e-5)
    moving = MOMENTUM + (1 - MOMENTUM) * variance * NUM_VALUES / (NUM_VALUES - 1)
    np.testing.assert_allclose(layer.moving_variance, moving, rtol=1e-5)


def test_inference_uses_the_moving_statistics_alone():
    layer = make(FusedBatchNormalization)
    layer.moving_mean.assign([1.0, 2.0])
    layer.moving_variance.assign([4.0, 0.25])
    expected = [0.7, 1.5] * (volumes() - [1.0, 2.0]) / np.sqrt([4.0 + EPSILON, 0.25 + EPSILON]) + [0.2, -0.4]
    np.testing.assert_allclose(layer(volumes()), expected, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [1.0, 2.0])


def test_several_steps_equal_keras_up_to_the_unbiased_variance(pair):
    ours, theirs, tolerance = pair
    for step in range(5):
        x = volumes(step) + step
        got, expected = ours(x, training=True), theirs(x, training=True)
        np.testing.assert_allclose(tf.cast(got, tf.float32), expected, atol=tolerance * 10)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=tolerance)
    np.testing.assert_allclose(ours.moving_variance, unbiased(theirs.moving_variance.numpy(), 5), rtol=tolerance)
    assert ours.moving_variance.dtype == "float32"


@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_those_of_keras(pair, training):
    found = []
    for layer in pair[:2]:
        x = tf.constant(volumes())
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=training), tf.float32)
            loss = tf.reduce_sum(tf.sin(2.0 * y) + 0.1 * y)
        found.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for ours, theirs in zip(*found, strict=True):
        assert np.linalg.norm(ours - theirs) <= pair[2] * np.linalg.norm(theirs)


def test_a_frozen_layer_uses_and_keeps_its_moving_statistics():
    layer = make(FusedBatchNormalization)
    layer.trainable = False
    np.testing.assert_array_equal(layer(volumes(), training=True), layer(volumes(), training=False))
    np.testing.assert_array_equal(layer.moving_mean, [0.0, 0.0])


def test_one_value_a_channel_gives_finite_statistics():
    layer = FusedBatchNormalization()
    assert np.isfinite(layer(np.ones((1, 1, 1, 1, 2), "float32"), training=True)).all()
    assert np.isfinite(layer.moving_variance).all()


TWO_REPLICAS = """
import numpy as np, tensorflow as tf, sys
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from mrigen.layers import FusedBatchNormalization
x = np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 6, 7, 2)).astype("float32")
x[:2] += 5.0  # The replicas differ.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def run(layer, values):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        outputs = layer(values, training=True)
        loss = tf.reduce_sum(tf.sin(outputs))
    return outputs, tape.gradient(loss, values)

alone = FusedBatchNormalization(0.9)
alone.build(x.shape)
expected = run(alone, tf.constant(x))
with strategy.scope():
    layer = FusedBatchNormalization(0.9)
    layer.build(x.shape)
parts = strategy.experimental_distribute_values_from_function(
    lambda c: tf.constant(x[2 * c.replica_id_in_sync_group:][:2])
)
outputs, gradients = strategy.run(tf.function(lambda v: run(layer, v)), args=(parts,))
for got, want in zip((outputs, gradients), expected):
    np.testing.assert_allclose(np.concatenate(strategy.experimental_local_results(got)), want, atol=2e-4)
np.testing.assert_allclose(layer.moving_mean, alone.moving_mean, rtol=1e-4)
np.testing.assert_allclose(layer.moving_variance, alone.moving_variance, rtol=1e-4)
"""


def test_two_replicas_equal_one_device():
    ended = subprocess.run([sys.executable, "-c", TWO_REPLICAS], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
