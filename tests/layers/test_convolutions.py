"""Keras's numbers in all precisions, and gradients that are right."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import disturb

from mrigen.layers import Conv3D, Conv3DTranspose, PatchEmbedding, PatchExpansion
from mrigen.system.machine import cpu_flags

HAS_BFLOAT16 = bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags())
LAYERS = {
    "plain": (Conv3D, {"filters": 3, "kernel_size": 3, "padding": "same", "activation": "tanh"}),
    "strided": (Conv3D, {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}),
    "no bias": (Conv3D, {"filters": 2, "kernel_size": 1, "use_bias": False}),
    "to one": (Conv3D, {"filters": 1, "kernel_size": 3, "padding": "same"}),
    "to one, uneven": (Conv3D, {"filters": 1, "kernel_size": (1, 3, 5), "padding": "same"}),
    "to one, even": (Conv3D, {"filters": 1, "kernel_size": 2, "padding": "same"}),
    "to one, cut": (Conv3D, {"filters": 1, "kernel_size": 3}),
    "to one, strided": (Conv3D, {"filters": 1, "kernel_size": 3, "strides": 2, "padding": "same"}),
    "to one, dilated": (Conv3D, {"filters": 1, "kernel_size": 3, "dilation_rate": 2, "padding": "same"}),
    "transposed": (Conv3DTranspose, {"filters": 3, "kernel_size": 2, "strides": 2, "activation": "tanh"}),
    "transposed, wide": (Conv3DTranspose, {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}),
}


def results(layer, inputs):
    """Returns the output of a layer and the gradients with respect to its input and its weights, as float32 arrays."""

    @tf.function
    def run(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.cast(layer(inputs), tf.float32)
            # Not the same for all voxels, or reversed taps would go unnoticed.
            weights = 1.5 + tf.sin(tf.range(tf.size(outputs, tf.int64), dtype=tf.float32))
            total = tf.reduce_sum(outputs * tf.reshape(weights, outputs.shape))
        return outputs, *tape.gradient(total, [inputs, *[weight.value for weight in layer.weights]])

    return [each.numpy() for each in run(tf.constant(inputs))]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_outputs_and_gradients_are_those_of_keras(name, precision):
    kind, options = LAYERS[name]
    ours = kind(**options, dtype=precision)
    theirs = getattr(keras.layers, kind.__name__)(**options, dtype="float32")
    inputs = np.random.default_rng(0).uniform(size=(2, 7, 6, 5, 2)).astype("float32")
    ours.build(inputs.shape)
    theirs.build(inputs.shape)
    disturb(ours)
    theirs.set_weights(ours.get_weights())
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 3e-2, "mixed_float16": 1e-2}[precision]
    if precision == "mixed_bfloat16" and not HAS_BFLOAT16:
        tolerance = 0.12  # TensorFlow's gradient of a kernel adds up in bfloat16 there.
    for got, expected in zip(results(ours, inputs), results(theirs, inputs), strict=True):
        np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


def test_the_gradient_of_a_bias_is_right_over_many_voxels():
    """A sum in bfloat16 stops growing after some hundred terms."""
    layer = Conv3D(8, 1, dtype="mixed_bfloat16")
    inputs = np.ones((2, 40, 40, 40, 1), "float32")
    layer.build(inputs.shape)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(layer(inputs), tf.float32))
    np.testing.assert_allclose(tape.gradient(total, layer.bias.value), np.full(8, 128_000.0), rtol=0.01)


@pytest.mark.parametrize("patch", [2, 3])
def test_patches_are_what_the_strided_convolutions_make(patch):
    generator = np.random.default_rng(0)
    volumes = tf.constant(generator.normal(size=(2, 7, 8, 9, 2)), tf.float32)
    embedding = PatchEmbedding(4, patch, seed=0)
    features = embedding(volumes)
    np.testing.assert_allclose(features, embedding.convolution(volumes), rtol=1e-4, atol=1e-5)
    expansion = PatchExpansion(3, patch, (7, 8, 9))
    expansion.build(features.shape)
    expansion.convolution.bias.assign([1.0, 2.0, 3.0])
    expected = expansion.convolution(features)[:, :7, :8, :9]
    np.testing.assert_allclose(expansion(features), expected, rtol=1e-4, atol=1e-5)


def test_a_bfloat16_gradient_of_two_places_reads_no_memory_of_others():
    """Left to oneDNN it does on some CPUs: a quarter of such gradients hold what was there before."""
    layer = Conv3D(4, 3, padding="same", dtype="mixed_bfloat16")
    layer.build((None, 2, 3, 3, 4))
    inputs = tf.cast(np.random.default_rng(0).normal(size=(2, 2, 3, 3, 4)), tf.bfloat16)
    for attempt in range(30):
        filled = tf.fill((100 * attempt + 1,), np.nan)
        del filled
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.cast(layer(inputs), tf.float32)))
        assert np.isfinite(tape.gradient(loss, layer.kernel.value)).all()
