"""Posterior, prior and likelihood as float32 Keras layers around TensorFlow Probability (its only import)."""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from mrigen.layers.latent_head import flat_size, latent_head
from mrigen.losses import gaussian_nll, squared_error

tfd = tfp.distributions

# Keeps the decoder's sigma away from zero, where the density is infinite.
SMALLEST_SCALE = 1e-4


@keras.saving.register_keras_serializable(package="mrigen")
class DiagonalGaussianPosterior(keras.layers.Layer):
    """The Gaussian q(z given x) with a diagonal covariance.

    The layer maps features to the parameters; `distribution` and `kl` do the probability. Always float32.

    Args:
        latent_dim: number of latent variables, or None for a spatial latent (one vector of `latent_channels` a place).
        latent_channels: channels of a spatial latent.
        seed: seed of the weights.

    Input shape: (batch, x, y, z, channels).
    Output: {"loc": (batch, latent), "scale": (batch, latent)}, float32.

    References:
        Kingma and Welling 2014, Auto-encoding variational Bayes, equation 9.
    """

    def __init__(self, latent_dim: int | None, latent_channels: int = 16, seed: int | None = None, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.latent_channels = latent_channels
        self.seed = seed
        self.flatten = keras.layers.Flatten(dtype="float32")
        # Both start small, so the posterior starts near the prior, and says more only where the likelihood pays for it.
        self.loc = latent_head(latent_dim, latent_channels, seed, "loc", 0.01)
        self.raw_scale = latent_head(latent_dim, latent_channels, None if seed is None else seed + 1, "raw_scale", 0.01)

    def build(self, input_shape):
        shape = tuple(input_shape) if self.latent_dim is None else (input_shape[0], flat_size(input_shape[1:]))
        self.loc.build(shape)
        self.raw_scale.build(shape)

    def call(self, features):
        features = tf.cast(features, tf.float32)
        if self.latent_dim is not None:
            features = self.flatten(features)
        features *= features.shape[-1] ** -0.5  # See latent_head.
        loc = self.flatten(self.loc(features))
        # The inverse hyperbolic sine grows like a logarithm: whatever the first steps do, no scale is so small or so
        # large that its gradient dies there (softplus with a floor did, and the posterior stayed stuck at it).
        scale = tf.exp(tf.math.asinh(self.flatten(self.raw_scale(features))))
        return {"loc": loc, "scale": scale}

    @staticmethod
    def distribution(loc, scale):
        """Returns q(z given x) as a `tfp` distribution of event shape (latent,)."""
        return tfd.MultivariateNormalDiag(loc, scale)

    @staticmethod
    def draw(loc, scale, seed):
        """Returns one draw z (batch, latent); `seed` is a stateless seed of two integers."""
        return DiagonalGaussianPosterior.distribution(loc, scale).sample(seed=tf.cast(seed, tf.int32))

    @staticmethod
    def kl_per_dimension(loc, scale):
        """Returns KL(q(z_k given x) || N(0, 1)), (batch, latent), nats; the closed form that TFP registers."""
        return tfd.kl_divergence(tfd.Normal(loc, scale), tfd.Normal(0.0, 1.0))

    def get_config(self):
        config = {"latent_dim": self.latent_dim, "latent_channels": self.latent_channels, "seed": self.seed}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mrigen")
class GaussianLikelihood(keras.layers.Layer):
    """p(x given z) = N(decoded, sigma^2 I), with one calibrated sigma for all voxels. Always float32.

    Args:
        sigma: "optimal" (in training the root mean square of the batch's residual, which is the maximum likelihood
            sigma; its moving average afterwards), "learned" (a trained weight), or a fixed number.
        momentum: share of the old moving average kept at each step, for "optimal".

    Call arguments: volumes and reconstruction (batch, x, y, z, 1).
    Output: {"nll": (batch,) nats, "squared_error": (batch,) sums over voxels}, float32.

    References:
        Rybkin et al. 2021, Simple and effective VAE training with calibrated decoders, equation 5.
    """

    def __init__(self, sigma: float | str = "optimal", momentum: float = 0.95, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.sigma = sigma
        self.momentum = momentum

    def build(self, volumes_shape, reconstruction_shape=None):
        start = 0.1 if isinstance(self.sigma, str) else self.sigma
        self.log_sigma = self.add_weight(
            name="log_sigma",
            shape=(),
            initializer=keras.initializers.Constant(math.log(start)),
            trainable=self.sigma == "learned",
        )

    @property
    def decoder_sigma(self):
        """The decoder's standard deviation, intensity on the [0, 1] scale; a scalar tensor."""
        return tf.exp(tf.convert_to_tensor(self.log_sigma))

    def calibrate(self, mean_squared_error: float) -> None:
        """Sets an "optimal" sigma to the root of `mean_squared_error`; the others are left alone."""
        if self.sigma == "optimal":
            self.log_sigma.assign(0.5 * tf.math.log(mean_squared_error + SMALLEST_SCALE**2))

    def call(self, volumes, reconstruction, training=False):
        error = squared_error(volumes, reconstruction)
        num_voxels = flat_size(volumes.shape[1:])
        sigma = self.decoder_sigma
        if self.sigma == "optimal" and training:
            # At the optimum the derivative by sigma vanishes, so nothing is lost by holding sigma still.
            batch = tf.stop_gradient(0.5 * tf.math.log(tf.reduce_mean(error) / num_voxels + SMALLEST_SCALE**2))
            self.log_sigma.assign(self.momentum * self.log_sigma + (1.0 - self.momentum) * batch)
            sigma = tf.exp(batch)
        return {"nll": gaussian_nll(error, num_voxels, sigma), "squared_error": error}

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "momentum": self.momentum}
