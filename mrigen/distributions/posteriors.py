"""Posteriors: what the features of a volume say about its latents."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from mrigen.layers.latent_head import flat_size, latent_head

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="mrigen")
class DiagonalGaussianPosterior(keras.layers.Layer):
    """The Gaussian q(z given x) with a diagonal covariance.

    The layer maps features to the parameters; the other methods take them back, by name. Always float32.

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
        self.loc = self.make_head("loc", 0)
        self.raw_scale = self.make_head("raw_scale", 1)

    def make_head(self, name: str, number: int, multiple: int = 1):
        """Returns a layer from features to `multiple` numbers for each latent variable, small at the start."""
        seed = None if self.seed is None else self.seed + number
        size = None if self.latent_dim is None else multiple * self.latent_dim
        return latent_head(size, multiple * self.latent_channels, seed, name, 0.01)

    def build(self, input_shape):
        self.features_shape = tuple(input_shape)
        shape = self.features_shape if self.latent_dim is None else (input_shape[0], flat_size(input_shape[1:]))
        for head in self.heads:
            head.build(shape)

    @property
    def heads(self) -> list:
        """The layers from features to parameters."""
        return [self.loc, self.raw_scale]

    def prepare(self, features):
        """Returns `features` as the heads take them."""
        features = tf.cast(features, tf.float32)
        if self.latent_dim is not None:
            features = self.flatten(features)
        return features * features.shape[-1] ** -0.5  # See latent_head.

    def call(self, features):
        features = self.prepare(features)
        return {"loc": self.flatten(self.loc(features)), "scale": self.to_scale(features)}

    def to_scale(self, features):
        """Returns standard deviations (batch, latent) of prepared features."""
        # The inverse hyperbolic sine grows like a logarithm: whatever the first steps do, no scale is so small or so
        # large that its gradient dies there (softplus with a floor did, and the posterior stayed stuck at it).
        return tf.exp(tf.math.asinh(self.flatten(self.raw_scale(features))))

    @staticmethod
    def distribution(loc, scale):
        """Returns q(z given x) as a `tfp` distribution of event shape (latent,)."""
        return diagonal_gaussian(loc, scale)

    @classmethod
    def draw(cls, posterior: dict, seed):
        """Returns one draw z (batch, latent) of the parameters that the layer gave; `seed`: two integers."""
        return cls.distribution(**posterior).sample(seed=tf.cast(seed, tf.int32))

    @staticmethod
    def kl_per_dimension(loc, scale, prior_loc=0.0, prior_scale=1.0):
        """Returns KL(q(z_k given x) || N(prior_loc, prior_scale^2)), (batch, latent), nats; TFP's closed form."""
        return tfd.kl_divergence(tfd.Normal(loc, scale), tfd.Normal(prior_loc, prior_scale))

    def get_config(self):
        config = {"latent_dim": self.latent_dim, "latent_channels": self.latent_channels, "seed": self.seed}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mrigen")
class LowRankGaussianPosterior(DiagonalGaussianPosterior):
    """The Gaussian q(z given x) whose covariance is diagonal plus a few directions: latents uncertain together.

    Args:
        rank: directions beside the diagonal.
        See `DiagonalGaussianPosterior` for the others and for the input.

    Output: {"loc": (batch, latent), "scale": (batch, latent), standard deviations with everything in, "factor": (batch,
        latent, rank)}: the covariance is diag(scale^2 - sum of squared factors) + factor factor^T.
    """

    # The share of a variance that always stays diagonal; keeps the covariance away from singular ones.
    DIAGONAL_SHARE = 0.05

    def __init__(self, latent_dim: int | None, latent_channels: int = 16, seed: int | None = None, rank=4, **kwargs):
        super().__init__(latent_dim, latent_channels, seed, **kwargs)
        self.rank = rank
        self.raw_factor = self.make_head("raw_factor", 2, rank)

    @property
    def heads(self):
        return [*super().heads, self.raw_factor]

    def call(self, features):
        posterior = super().call(features)
        raw = tf.reshape(
            self.flatten(self.raw_factor(self.prepare(features))), [-1, *posterior["loc"].shape[1:], self.rank]
        )
        # Shorter than 1 together, so that they never take more than their share of the variance.
        length = tf.reduce_sum(tf.square(raw), axis=-1, keepdims=True)
        share = tf.sqrt(1.0 - self.DIAGONAL_SHARE) * tf.math.rsqrt(1.0 + length)
        return {**posterior, "factor": posterior["scale"][..., None] * share * raw}

    @staticmethod
    def distribution(loc, scale, factor):
        diagonal = tf.square(scale) - tf.reduce_sum(tf.square(factor), axis=-1)
        return tfd.MultivariateNormalDiagPlusLowRankCovariance(loc, diagonal, factor)

    def get_config(self):
        return {**super().get_config(), "rank": self.rank}


def diagonal_gaussian(loc, scale):
    """Returns the Gaussian with a diagonal covariance, of event shape (latent,); loc and scale (..., latent)."""
    return tfd.MultivariateNormalDiag(loc, scale)


def pairwise_log_density(z, loc, scale):
    """Returns log q(z_k of one given x of another) for each pair and latent variable: (rows, people, latent) nats.

    Args:
        z: (rows, latent). loc, scale: (people, latent), of Gaussians.
    """
    return tfd.Normal(loc[None], scale[None]).log_prob(z[:, None])


POSTERIORS = {"diagonal": DiagonalGaussianPosterior, "low_rank": LowRankGaussianPosterior}
