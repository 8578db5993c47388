"""What reaches the output of a block, and where."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import disturb

from mrigen.layers import ConvolutionBlock, DecoderBlock, EncoderBlock, MeanImage
from mrigen.layers.doubling import convolve_doubled


def decoder_block(input_sides, output_sides, channels=2):
    block = DecoderBlock(channels, output_sides, seed=0)
    block.build((None, *input_sides, 2))
    disturb(block)
    return block


def reached(block, inputs, place):
    """Returns for each axis the (first, last) output voxel that a change of the input at `place` reaches."""
    changed = inputs.copy()
    changed[(0, *place)] += 5.0
    where = np.argwhere(np.abs(block(changed) - block(inputs))[0].max(-1) > 1e-6)
    return [(int(low), int(high)) for low, high in zip(where.min(0), where.max(0), strict=True)]


def test_decoder_block_crops_the_far_end_of_each_axis():
    block = decoder_block((4, 5, 6), (8, 9, 11))
    inputs = np.random.default_rng(0).uniform(size=(1, 4, 5, 6, 2)).astype("float32")
    # A voxel n becomes 2n and 2n + 1, and two convolutions reach two voxels further.
    assert reached(block, inputs, (0, 0, 0)) == [(0, 3), (0, 3), (0, 3)]
    assert reached(block, inputs, (3, 4, 5)) == [(4, 7), (6, 8), (8, 10)]


def test_decoder_block_ignores_everything_but_its_input():
    block, inputs = decoder_block((4, 5, 6), (8, 9, 11)), np.ones((1, 4, 5, 6, 2), "float32")
    before = block(inputs)
    encoder = EncoderBlock(2, seed=1)
    for seed in range(2):
        encoder(np.random.default_rng(seed).uniform(size=(1, 8, 9, 11, 2)).astype("float32"))
        block(np.random.default_rng(seed).uniform(size=(1, 4, 5, 6, 2)).astype("float32"))
    np.testing.assert_array_equal(block(inputs), before)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_encoder_block_equals_plain_keras_layers(precision):
    block = EncoderBlock(3, seed=0, dtype=precision)
    inputs = np.random.default_rng(0).uniform(size=(2, 9, 8, 7, 2)).astype("float32")
    block.build(inputs.shape)
    disturb(block)
    outputs = inputs
    for convolution, norm in (block.steps[:2], block.steps[2:]):
        outputs = tf.nn.relu(tf.nn.conv3d(outputs, convolution.kernel.value, [1] * 5, "SAME") + convolution.bias.value)
        outputs = tf.nn.batch_normalization(
            outputs, norm.moving_mean.value, norm.moving_variance.value, norm.beta.value, norm.gamma.value, norm.epsilon
        )
    padded = np.pad(outputs, [(0, 0), (0, 1), (0, 0), (0, 1), (0, 0)], constant_values=-np.inf)
    expected = padded.reshape(2, 5, 2, 4, 2, 4, 2, 3).max(axis=(2, 4, 6))
    got = tf.cast(block(inputs), tf.float32).numpy()
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 0.03, "mixed_float16": 0.005}[precision]
    assert np.linalg.norm(got - expected) <= tolerance * np.linalg.norm(expected)


def test_half_precision_policies_compute_in_half_precision():
    block = EncoderBlock(3, dtype="mixed_float16")
    block.build((None, 9, 8, 7, 2))
    assert {step.compute_dtype for step in block.steps} == {"float16"}
    assert {variable.dtype for variable in block.variables} == {"float32"}


def test_one_seed_gives_one_set_of_weights_and_no_two_kernels_alike():
    first, again, other = (decoder_block_kernels(seed) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], first[1])
    assert not any(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def decoder_block_kernels(seed):
    block = DecoderBlock(2, (4, 4, 4), seed=seed)
    block.build((None, 2, 2, 2, 2))
    return [np.asarray(layer.kernel) for layer in (*block.steps[::2], block.up)]


def test_mean_image_adds_the_image_it_starts_at():
    layer, mean = MeanImage(), np.random.default_rng(0).uniform(size=(7, 8, 9)).astype("float32")
    layer.build((None, 7, 8, 9, 1))
    inputs = np.random.default_rng(1).uniform(size=(2, 7, 8, 9, 1)).astype("float32")
    np.testing.assert_array_equal(layer(inputs), inputs)
    layer.start_at(mean)
    np.testing.assert_array_equal(layer(inputs)[1, ..., 0], inputs[1, ..., 0] + mean)
    assert keras.tree.flatten(layer.trainable_weights)[0] is layer.image


@pytest.mark.parametrize("channels_in", [3, 2])
def test_residual_blocks_add_their_input(channels_in):
    inputs = np.random.default_rng(0).normal(size=(2, 5, 4, 3, channels_in)).astype("float32")
    plain, residual = ConvolutionBlock(3, seed=0), ConvolutionBlock(3, residual=True, seed=0)
    added = residual(inputs).numpy() - plain(inputs).numpy()
    expected = inputs if residual.shortcut is None else residual.shortcut(inputs).numpy()
    assert (residual.shortcut is None) == (channels_in == 3)
    np.testing.assert_allclose(added, expected, atol=1e-5)


@pytest.mark.parametrize("sides", [(4, 3, 2), (1, 1, 1)])
def test_doubling_and_convolution_in_one_equal_both_in_turn(sides):
    """Outputs and every gradient, at the borders too."""
    generator = np.random.default_rng(0)
    up, convolution = keras.layers.Conv3DTranspose(4, 2, strides=2), keras.layers.Conv3D(5, 3, padding="same")
    inputs = tf.constant(generator.normal(size=(2, *sides, 3)).astype("float32"))
    convolution(up(inputs))
    up.bias.assign(generator.normal(size=4))
    convolution.bias.assign(generator.normal(size=5))
    weights = [weight.value for weight in (*up.weights, *convolution.weights)]
    results = []
    for call in (
        lambda: convolution(up(inputs)),
        lambda: convolve_doubled(inputs, up.kernel, up.bias, convolution.kernel, convolution.bias),
    ):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = call()
            total = tf.reduce_sum(outputs * tf.cast(np.random.default_rng(1).normal(size=outputs.shape), tf.float32))
        results.append([outputs, *tape.gradient(total, [inputs, *weights])])
    for in_turn, in_one in zip(*results, strict=True):
        np.testing.assert_allclose(in_one, in_turn, rtol=1e-4, atol=1e-4)
