"""Transposed convolution and convolution in one: the same numbers at a third of the arithmetic."""

import functools

import numpy as np
import tensorflow as tf


def convolve_doubled(inputs, up_kernel, up_bias, kernel, bias):
    """Returns what a transposed convolution of stride 2 and a 3x3x3 convolution after it make of `inputs`.

    Nothing stands between the two, so each voxel of the output is a linear function of 2x2x2 places of the input: eight
    products where the convolution at full resolution has 27. The kernel of that function is made anew from both at
    each call (in float32), so both are trained as if they were apart.

    Args:
        inputs: (batch, x, y, z, channels).
        up_kernel: (2, 2, 2, middle, channels), as Keras's Conv3DTranspose keeps it; no padding.
        up_bias: (middle,).
        kernel: (3, 3, 3, middle, outputs), as Keras's Conv3D keeps it; zeros around the doubled volume ("same").
        bias: (outputs,).

    Returns:
        (batch, 2 x, 2 y, 2 z, outputs), of the type of `inputs`.
    """
    x, y, z, channels = inputs.shape[1:].as_list()
    outputs = kernel.shape[-1]
    up_kernel, kernel = tf.cast(up_kernel, tf.float32), tf.cast(kernel, tf.float32)
    # All 8 x 27 products of a tap of the one with a tap of the other, then the sums of those that meet.
    up_taps, taps = tf.reshape(up_kernel, [8, -1, channels]), tf.reshape(kernel, [27, -1, outputs])
    products = tf.reshape(tf.einsum("smc,tmo->stco", up_taps, taps), [216, channels * outputs])
    joint = tf.reshape(tf.constant(_meetings()) @ products, [8, 2, 2, 2, channels, outputs])
    octants = []
    for octant, octant_kernel in zip(np.ndindex(2, 2, 2), tf.unstack(tf.cast(joint, inputs.dtype)), strict=True):
        # A zero before or after each axis. (To pad once and slice eight times takes twice as long on the way back.)
        # PadV2, because TensorFlow's remapper trips over Pad before a convolution, complains and gives up.
        edges = [[0, 0], *([1 - after, after] for after in octant), [0, 0]]
        seen = tf.raw_ops.PadV2(input=inputs, paddings=edges, constant_values=tf.zeros([], inputs.dtype))
        octants.append(tf.nn.conv3d(seen, octant_kernel, [1] * 5, "VALID"))
    stacked = tf.reshape(tf.stack(octants), [2, 2, 2, -1, x, y, z, outputs])
    doubled = tf.reshape(tf.transpose(stacked, [3, 4, 0, 5, 1, 6, 2, 7]), [-1, 2 * x, 2 * y, 2 * z, outputs])
    # The bias between the two ends at the border of the volume, so its sum is smaller there. In float32, or the sums
    # over voxels on the way back would be wrong in float16.
    ones = tf.ones([1, 2 * x, 2 * y, 2 * z, 1])
    bias_kernel = tf.einsum("m,xyzmo->xyzo", tf.cast(up_bias, tf.float32), kernel)[..., None, :]
    bias_field = tf.nn.conv3d(ones, bias_kernel, [1] * 5, "SAME") + tf.cast(bias, tf.float32)
    return doubled + tf.cast(bias_field, inputs.dtype)


@functools.cache
def _meetings() -> np.ndarray:
    """Returns the matrix (8 octants x 8 taps, 8 x 27 products) of which product goes to which tap of which octant.

    Along one axis, output 2 i + r takes in doubled voxel 2 i + r + t - 1 through tap t, which input i + a - 1 + r made
    by its tap s.
    """
    along = np.zeros((2, 2, 2, 3), dtype=np.float32)  # r, a, s, t
    for r in (0, 1):
        for t in (0, 1, 2):
            place, s = divmod(r + t - 1, 2)
            along[r, place + 1 - r, s, t] = 1.0
    meetings = np.einsum("adgj,behk,cfil->abcdefghijkl", along, along, along)
    return meetings.reshape(64, 216)
