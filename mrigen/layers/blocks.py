"""The paper's block, (convolution - ReLU - normalisation) x 2, on the way down and on the way up.

With `residual` the input of the pair is added to its output (He et al. 2016, Identity mappings in deep residual
networks).
"""

import keras

from mrigen.layers.batch_norm import FusedBatchNormalization
from mrigen.layers.convolutions import Conv3D, Conv3DTranspose
from mrigen.layers.doubling import convolve_doubled


class _ConvolutionPair(keras.layers.Layer):
    """(Convolution 3x3x3 - ReLU - batch normalisation) x 2 at one resolution, and a way around it."""

    def __init__(self, channels: int, residual: bool = False, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.residual = residual
        self.seed = seed
        self.steps = []
        for index in range(2):
            initializer = keras.initializers.HeNormal(seed=None if seed is None else seed + index)
            convolution = Conv3D(
                channels, 3, padding="same", kernel_initializer=initializer, activation="relu", dtype=self.dtype_policy
            )
            self.steps += [convolution, FusedBatchNormalization(dtype=self.dtype_policy)]
        self.shortcut = None

    def build(self, input_shape):
        shape = tuple(input_shape)
        if self.residual and shape[-1] != self.channels:
            initializer = keras.initializers.GlorotUniform(seed=None if self.seed is None else self.seed + 3)
            self.shortcut = Conv3D(
                self.channels, 1, kernel_initializer=initializer, use_bias=False, dtype=self.dtype_policy
            )
            self.shortcut.build(shape)
        for step in self.steps:
            step.build(shape)
            shape = (*shape[:-1], self.channels)

    def _call_pair(self, inputs, training):
        outputs = self._call_steps(self.steps, inputs, training)
        if not self.residual:
            return outputs
        return outputs + (inputs if self.shortcut is None else self.shortcut(inputs))

    @staticmethod
    def _call_steps(steps, outputs, training):
        for step in steps:
            outputs = step(outputs, training=training) if isinstance(step, FusedBatchNormalization) else step(outputs)
        return outputs

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "residual": self.residual, "seed": self.seed}


@keras.saving.register_keras_serializable(package="mrigen")
class ConvolutionBlock(_ConvolutionPair):
    """(Convolution - ReLU - normalisation) x 2 at one resolution.

    Args:
        channels: channels of both convolutions.
        residual: whether the input, through a 1x1x1 convolution where its channels differ, is added to the output.
        seed: seed of the weights.

    Input shape: (batch, x, y, z, any).
    Output shape: (batch, x, y, z, channels).
    """

    def call(self, inputs, training=False):
        return self._call_pair(inputs, training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)


@keras.saving.register_keras_serializable(package="mrigen")
class EncoderBlock(_ConvolutionPair):
    """(Convolution - ReLU - normalisation) x 2, then halving by maximum pooling.

    Args:
        channels, residual, seed: see `ConvolutionBlock`; the input is added before the pooling.

    Input shape: (batch, x, y, z, any).
    Output shape: (batch, ceil(x / 2), ceil(y / 2), ceil(z / 2), channels).
    """

    def __init__(self, channels: int, residual: bool = False, seed: int | None = None, **kwargs):
        super().__init__(channels, residual, seed, **kwargs)
        # TensorFlow pools no float16 volumes on CPU; the largest value is the same in float32.
        pool_dtype = "float32" if self.compute_dtype == "float16" else self.dtype_policy
        self.pool = keras.layers.MaxPooling3D(2, padding="same", dtype=pool_dtype)

    def call(self, inputs, training=False):
        return keras.ops.cast(self.pool(self._call_pair(inputs, training)), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(-(-side // 2) for side in input_shape[1:4]), self.channels)


@keras.saving.register_keras_serializable(package="mrigen")
class DecoderBlock(_ConvolutionPair):
    """Doubling by transposed convolution, cropped to `output_sides`, then (convolution - ReLU - normalisation) x 2.

    The kernel of the transposed convolution is as wide as its stride, so it leaves no checkerboard, and nothing but
    the input reaches the output: no pooling indices are handed across from the encoder.

    Args:
        channels: channels of all convolutions.
        output_sides: (x, y, z) of the output in voxels, each 2 n or 2 n - 1 for an input side n.
        residual: whether what was doubled is added to the output.
        seed: seed of the weights.

    Input shape: (batch, x, y, z, any).
    Output shape: (batch, *output_sides, channels).
    """

    def __init__(self, channels: int, output_sides, residual: bool = False, seed: int | None = None, **kwargs):
        super().__init__(channels, residual, seed, **kwargs)
        self.output_sides = tuple(output_sides)
        self.up = Conv3DTranspose(
            channels,
            2,
            strides=2,
            kernel_initializer=keras.initializers.HeNormal(seed=None if seed is None else seed + 2),
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        self.up.build(tuple(input_shape))
        super().build((input_shape[0], *self.output_sides, self.channels))

    def call(self, inputs, training=False):
        x, y, z = self.output_sides
        if self.residual or (x, y, z) != tuple(2 * side for side in inputs.shape[1:4]):
            return self._call_pair(self.up(inputs)[:, :x, :y, :z], training)
        # Nothing is cropped, and nobody else needs what was doubled: the first convolution can be had with it.
        first, *others = self.steps
        outputs = convolve_doubled(inputs, self.up.kernel, self.up.bias, first.kernel, first.bias)
        return self._call_steps(others, first.activation(outputs), training)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_sides, self.channels)

    def get_config(self):
        return {**super().get_config(), "output_sides": self.output_sides}
