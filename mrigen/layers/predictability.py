"""How well latents predict a covariate, as something that training can reduce."""

import keras
import tensorflow as tf

from mrigen.losses import predictability


@keras.saving.register_keras_serializable(package="mrigen")
class Predictability(keras.layers.Layer):
    """How well a covariate can be predicted from latents, over the batch and those before it. Always float32.

    A batch of a few people says little about a whole cohort, so the latents of the last `memory` are kept; the gradient
    is that of a cohort of as many.

    Args:
        memory: rows that are kept.

    Call arguments: latents (batch, latent), posterior means in training, and targets (batch, columns), zeros where they
    are unknown.
    Output: from 0 (nothing) to 1, a scalar; see `predictability`.
    """

    def __init__(self, memory: int = 256, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.memory = memory

    def build(self, z_shape, targets_shape):
        options = {"initializer": "zeros", "trainable": False}
        self.kept_z = self.add_weight(name="kept_z", shape=(self.memory, z_shape[-1]), **options)
        self.kept_targets = self.add_weight(name="kept_targets", shape=(self.memory, targets_shape[-1]), **options)

    def call(self, z, targets, training=False):
        z, targets = tf.cast(z, tf.float32), tf.cast(targets, tf.float32)
        all_z = tf.concat([z, tf.convert_to_tensor(self.kept_z)], axis=0)
        all_targets = tf.concat([targets, tf.convert_to_tensor(self.kept_targets)], axis=0)
        value = predictability(all_z, all_targets)
        if training:
            self.kept_z.assign(tf.stop_gradient(all_z[: self.memory]))
            self.kept_targets.assign(all_targets[: self.memory])
        # Only the batch can move, and is a small part of what the value is of: its share of the gradient is made whole.
        known = tf.reduce_sum(tf.cast(tf.reduce_any(all_targets != 0.0, axis=-1), tf.float32))
        factor = tf.maximum(known / tf.cast(tf.shape(z)[0], tf.float32), 1.0)
        return value + (factor - 1.0) * (value - tf.stop_gradient(value))

    def get_config(self):
        return {**super().get_config(), "memory": self.memory}
