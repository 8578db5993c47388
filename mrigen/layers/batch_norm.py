"""Batch normalisation of volumes through TensorFlow's fused kernel."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="mrigen")
class FusedBatchNormalization(keras.layers.Layer):
    """Batch normalisation of volumes, several times faster than the plain Keras layer on five axes.

    The fused kernel takes images of four axes only, so (batch, x, y, z, channels) is seen as
    (batch * x, y, z, channels): the statistics are the same, over everything but the channels.
    Parameters and statistics stay float32 under any precision policy. The moving variance is the unbiased one, as in
    the paper's algorithm 2: over the N values of a channel it counts N / (N - 1) times that of the Keras layer.

    Args:
        momentum: share of the old moving statistics that is kept at each training step.
        epsilon: added to the variance, at least 1.001e-5 (the kernel's own limit).

    Input shape: (batch, x, y, z, channels).
    Output shape: the same.

    References:
        Ioffe and Szegedy 2015, Batch normalization, algorithms 1 and 2.
    """

    def __init__(self, momentum: float = 0.95, epsilon: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=channels, initializer="ones", dtype="float32", autocast=False)
        self.beta = self.add_weight(name="beta", shape=channels, initializer="zeros", dtype="float32", autocast=False)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=channels, initializer="zeros", trainable=False, dtype="float32", autocast=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=channels, initializer="ones", trainable=False, dtype="float32", autocast=False
        )

    def call(self, inputs, training=False):
        shape = tf.shape(inputs)
        images = tf.reshape(inputs, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))
        # The moving averages are ours to keep, so the kernel is only asked for the moments of this batch.
        use_batch = bool(training) and self.trainable
        normalised, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.zeros([0]) if use_batch else tf.convert_to_tensor(self.moving_mean),
            variance=tf.zeros([0]) if use_batch else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=use_batch,
        )
        if use_batch:
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(self.momentum * moving + (1.0 - self.momentum) * tf.stop_gradient(batch))
        return tf.reshape(normalised, shape)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
