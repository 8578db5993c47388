"""A residual block of a network that is told a time: of a flow or a diffusion."""

import keras
import tensorflow as tf

from mrigen.layers.convolutions import Conv3D


@keras.saving.register_keras_serializable(package="mrigen")
class TimedBlock(keras.layers.Layer):
    """Two convolutions whose result is added to the input; features of a time scale and shift what is between them.

    Each place is normalised by the root mean square of its own channels, so that a crop is treated as the whole volume
    is. At the start the block returns its input.

    Args:
        channels: of input and output.
        seed: seed of the weights.

    Call arguments: volumes (batch, x, y, z, channels), features of the time (batch, any).
    Output shape: (batch, x, y, z, channels).

    References:
        Dhariwal and Nichol 2021, Diffusion models beat GANs on image synthesis, section 3 (scale and shift by time).
        Zhang and Sennrich 2019, Root mean square layer normalization.
    """

    def __init__(self, channels: int, seed: int | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.channels = channels
        self.seed = seed
        start = keras.initializers.HeNormal(seed=seed)
        options = {"padding": "same", "dtype": self.dtype_policy}
        self.first = Conv3D(channels, 3, kernel_initializer=start, **options)
        self.second = Conv3D(channels, 3, kernel_initializer="zeros", **options)
        little = keras.initializers.VarianceScaling(0.01, seed=seed)
        self.by_time = keras.layers.Dense(2 * channels, kernel_initializer=little, dtype="float32")

    def build(self, volumes_shape, time_shape):
        self.first.build((*volumes_shape[:4], self.channels))
        self.second.build((*volumes_shape[:4], self.channels))
        self.by_time.build(time_shape)
        self.gain = self.add_weight(
            name="gain", shape=(self.channels,), initializer="ones", dtype="float32", autocast=False
        )

    def call(self, volumes, time):
        volumes = tf.cast(volumes, self.compute_dtype)
        inner = normalised(volumes) * tf.convert_to_tensor(self.gain)
        inner = self.first(tf.cast(tf.nn.silu(inner), self.compute_dtype))
        scale, shift = tf.split(self.by_time(tf.cast(time, tf.float32))[:, None, None, None], 2, axis=-1)
        inner = tf.nn.silu(normalised(inner) * (1.0 + scale) + shift)
        return volumes + self.second(tf.cast(inner, self.compute_dtype))

    def compute_output_shape(self, volumes_shape, time_shape):
        return tuple(volumes_shape)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "seed": self.seed}


def normalised(volumes):
    """Returns volumes (batch, x, y, z, c) float32, each place divided by the root mean square of its channels."""
    volumes = tf.cast(volumes, tf.float32)
    return volumes * tf.math.rsqrt(tf.reduce_mean(tf.square(volumes), axis=-1, keepdims=True) + 1e-6)
