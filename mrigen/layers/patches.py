"""The way into and out of a network that works on patches: full-resolution volumes at a fraction of the cost.

A convolution whose kernel is as wide as its stride is one matrix product over patches; on CPUs without bfloat16
TensorFlow's own takes twenty times as long on the way back.
"""

import keras
import tensorflow as tf

from mrigen.layers.convolutions import Conv3D, Conv3DTranspose, finish


@keras.saving.register_keras_serializable(package="mrigen")
class PatchEmbedding(keras.layers.Layer):
    """Takes in patches of `patch` voxels a side, each as one place with `channels` features (a strided convolution).

    Args:
        channels: features of each patch.
        patch: voxels along each side of a patch; a volume that it does not divide is padded with zeros.
        seed: seed of the weights.

    Input shape: (batch, x, y, z, any).
    Output shape: (batch, ceil(x / patch), ceil(y / patch), ceil(z / patch), channels).

    References:
        Dosovitskiy et al. 2021, An image is worth 16x16 words, section 3.1.
    """

    def __init__(self, channels: int, patch: int, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.patch = patch
        self.seed = seed
        self.convolution = Conv3D(
            channels,
            patch,
            strides=patch,
            padding="same",
            kernel_initializer=keras.initializers.HeNormal(seed=seed),
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        self.convolution.build(tuple(input_shape))

    def call(self, inputs):
        inputs = tf.cast(inputs, self.compute_dtype)
        channels, patch = inputs.shape[-1], self.patch
        sides = [-(-side // patch) for side in inputs.shape[1:4]]
        missing = [patch * count - side for count, side in zip(sides, inputs.shape[1:4], strict=True)]
        inputs = tf.pad(inputs, [[0, 0], *([few // 2, few - few // 2] for few in missing), [0, 0]])
        x, y, z = sides
        inputs = tf.reshape(inputs, [-1, x, patch, y, patch, z, patch * channels])
        inputs = tf.reshape(tf.transpose(inputs, [0, 1, 3, 5, 2, 4, 6]), [-1, x, y, z, patch**3 * channels])
        kernel = tf.reshape(tf.cast(self.convolution.kernel, inputs.dtype), [-1, self.channels])
        return finish(self.convolution, tf.matmul(inputs, kernel))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(-(-side // self.patch) for side in input_shape[1:4]), self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "patch": self.patch, "seed": self.seed}


@keras.saving.register_keras_serializable(package="mrigen")
class PatchExpansion(keras.layers.Layer):
    """Makes each place a patch of `patch` voxels a side again, cropped to `output_sides`.

    A transposed convolution whose kernel is as wide as its stride: every voxel is made once, so there is no
    checkerboard.

    Args:
        channels: channels of the output.
        patch: voxels along each side of a patch.
        output_sides: (x, y, z) of the output in voxels, at most `patch` times those of the input.
        kernel_initializer: of the convolution.

    Input shape: (batch, x, y, z, any).
    Output shape: (batch, *output_sides, channels).
    """

    def __init__(self, channels: int, patch: int, output_sides, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.patch = patch
        self.output_sides = tuple(output_sides)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.convolution = Conv3DTranspose(
            channels, patch, strides=patch, kernel_initializer=self.kernel_initializer, dtype=self.dtype_policy
        )

    def build(self, input_shape):
        self.convolution.build(tuple(input_shape))

    def call(self, inputs):
        inputs = tf.cast(inputs, self.compute_dtype)
        x, y, z, features = inputs.shape[1:]
        patch = self.patch
        kernel = tf.reshape(tf.cast(self.convolution.kernel, inputs.dtype), [-1, features])
        outputs = tf.reshape(
            tf.matmul(inputs, kernel, transpose_b=True), [-1, x, y, z, patch, patch, patch * self.channels]
        )
        outputs = tf.transpose(outputs, [0, 1, 4, 2, 5, 3, 6])
        outputs = tf.reshape(outputs, [-1, x * patch, y * patch, z * patch, self.channels])
        x, y, z = self.output_sides
        return finish(self.convolution, outputs[:, :x, :y, :z])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_sides, self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "patch": self.patch,
            "output_sides": self.output_sides,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
