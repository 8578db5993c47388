"""The way into and out of a network that works on patches: full-resolution volumes at a fraction of the cost."""

import keras

from mrigen.layers.convolutions import Conv3D, Conv3DTranspose


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
        return self.convolution(inputs)

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
        x, y, z = self.output_sides
        return self.convolution(inputs)[:, :x, :y, :z]

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
