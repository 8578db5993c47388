"""The part of latents that predicts a covariate, erased in closed form."""

import keras
import numpy as np
import tensorflow as tf

# Directions with a smaller share of the largest variance are none.
TOLERANCE = 1e-6


@keras.saving.register_keras_serializable(package="mrigen")
class Erasure(keras.layers.Layer):
    """Latents from which no linear model can predict a covariate, moved as little as that allows. Always float32.

    One affine map, the identity until `learn`: nothing needs to be known of a person to apply it.

    Input and output shape: (batch, latent).

    References:
        Belrose et al. 2023, LEACE: Perfect linear concept erasure in closed form, theorem 4.3.
    """

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def build(self, input_shape):
        size = input_shape[-1]
        self.matrix = self.add_weight(name="matrix", shape=(size, size), initializer="identity", trainable=False)
        self.offset = self.add_weight(name="offset", shape=(size,), initializer="zeros", trainable=False)

    def call(self, latents):
        return tf.matmul(tf.cast(latents, tf.float32), self.matrix) + self.offset

    def learn(self, latents: np.ndarray, targets: np.ndarray) -> float:
        """Makes the map that takes `targets` out of `latents`, and returns the share of variance that they predict.

        Args:
            latents: (n, latent), before the map.
            targets: (n, columns); rows of zeros are unknown, and do not count.
        """
        known = np.any(targets != 0.0, axis=1)
        latents, targets = (np.asarray(values, np.float64)[known] for values in (latents, targets))
        mean = latents.mean(axis=0)
        latents, targets = latents - mean, targets - targets.mean(axis=0)
        variances, axes = np.linalg.eigh(latents.T @ latents / len(latents))
        kept = variances > TOLERANCE * variances.max()
        # Latents in units in which they are uncorrelated and vary by 1; the way there, and back.
        there = axes[:, kept] / np.sqrt(variances[kept])
        back = (axes[:, kept] * np.sqrt(variances[kept])).T
        effects = there.T @ latents.T @ targets / len(latents)
        directions, sizes, _ = np.linalg.svd(effects, full_matrices=False)
        directions = directions[:, sizes > TOLERANCE * max(sizes.max(initial=0.0), 1e-12)]
        matrix = np.eye(len(mean)) - there @ directions @ directions.T @ back
        self.matrix.assign(matrix)
        self.offset.assign(mean - mean @ matrix)
        return float(np.sum(sizes**2) / max(np.square(targets).sum() / len(targets), 1e-12))
