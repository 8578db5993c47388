"""Priors: where the latents of people are expected before anything is seen of them."""

import abc
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from mrigen.layers import upsample

tfd = tfp.distributions
tfb = tfp.bijectors

# Voxels from one control point of a pseudo-input to the next.
PSEUDO_SPACING = 4


class Prior(keras.layers.Layer, abc.ABC):
    """p(z), or p(z given covariates): then moved and scaled, for each latent variable alone, by a linear function of
    them. Always float32.

    Args:
        latent_size: latent variables.
        condition_size: length of the vector of covariates; 0 for none.
        seed: seed of the weights.

    Call arguments: z (batch, latent), and the covariates (batch, condition) where there are any.
    Output: log p(z), (batch,) nats.
    """

    def __init__(self, latent_size: int, condition_size: int = 0, seed: int | None = None, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.latent_size = latent_size
        self.condition_size = condition_size
        self.seed = seed
        if condition_size:
            options = {"kernel_initializer": "zeros", "use_bias": False, "dtype": "float32"}
            self.to_loc = keras.layers.Dense(latent_size, name="to_loc", **options)
            self.to_raw_scale = keras.layers.Dense(latent_size, name="to_raw_scale", **options)

    def build(self, z_shape, condition_shape=None):
        if self.condition_size:
            self.to_loc.build((None, self.condition_size))
            self.to_raw_scale.build((None, self.condition_size))
        self.build_base()

    def build_base(self) -> None:
        """Makes the weights of `base`."""

    @abc.abstractmethod
    def base(self, temperature: float = 1.0):
        """Returns the distribution, of event shape (latent,), that covariates move and scale; the `temperature`
        multiplies the standard deviations of the Gaussians in it."""

    def move(self, condition):
        """Returns where covariates (batch, condition) put the middle, and the scale there, (batch, latent) both."""
        return self.to_loc(condition), tf.exp(tf.math.asinh(self.to_raw_scale(condition)))

    def distribution(self, condition=None, temperature: float = 1.0):
        """Returns p(z) as a `tfp` distribution, of batch shape (batch,) where there are covariates.

        Args:
            condition: covariates (batch, condition_size); None where nothing is known.
            temperature: see `base`.
        """
        if not self.condition_size:
            return self.base(temperature)
        loc, scale = self.move(self._known(condition))
        base = tfd.BatchBroadcast(self.base(temperature), tf.shape(loc)[:1])
        return tfd.TransformedDistribution(base, tfb.Shift(loc)(tfb.ScaleMatvecDiag(scale)))

    def draw(self, count, seed, condition=None, temperature: float = 1.0):
        """Returns `count` draws (count, latent); `seed` is a stateless seed of two integers, the rest as in
        `distribution`."""
        seed = tf.cast(seed, tf.int32)
        if not self.condition_size:
            return self.distribution(temperature=temperature).sample(count, seed=seed)
        if condition is None:
            condition = tf.zeros([count, self.condition_size])
        return self.distribution(condition, temperature).sample(seed=seed)

    def _known(self, condition):
        return tf.zeros((1, self.condition_size)) if condition is None else tf.cast(condition, tf.float32)

    def call(self, z, condition=None):
        return self.distribution(condition).log_prob(z)

    def get_config(self):
        config = {"latent_size": self.latent_size, "condition_size": self.condition_size, "seed": self.seed}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mrigen")
class NormalPrior(Prior):
    """The standard normal. See `Prior`."""

    def base(self, temperature=1.0):
        return standard_normal(self.latent_size, temperature)

    def distribution(self, condition=None, temperature=1.0):
        if not self.condition_size:
            return self.base(temperature)
        # The same as what is inherited, but of a kind whose KL is known in closed form.
        loc, scale = self.move(self._known(condition))
        return tfd.MultivariateNormalDiag(loc, temperature * scale)


@keras.saving.register_keras_serializable(package="mrigen")
class MixturePrior(Prior):
    """A mixture of Gaussians with diagonal covariances, all of it trained.

    Args:
        num_components: Gaussians.
        See `Prior` for the others.
    """

    def __init__(self, latent_size: int, condition_size: int = 0, seed: int | None = None, num_components=16, **kwargs):
        super().__init__(latent_size, condition_size, seed, **kwargs)
        self.num_components = num_components

    def build_base(self):
        shape = (self.num_components, self.latent_size)
        # Apart from each other from the start, or they would all move alike.
        spread = keras.initializers.RandomNormal(stddev=0.5, seed=self.seed)
        self.logits = self.add_weight(name="logits", shape=shape[:1], initializer="zeros")
        self.loc = self.add_weight(name="loc", shape=shape, initializer=spread)
        self.raw_scale = self.add_weight(name="raw_scale", shape=shape, initializer="zeros")

    def base(self, temperature=1.0):
        scale = temperature * tf.exp(tf.math.asinh(tf.convert_to_tensor(self.raw_scale)))
        return gaussian_mixture(tf.convert_to_tensor(self.logits), tf.convert_to_tensor(self.loc), scale)

    def get_config(self):
        return {**super().get_config(), "num_components": self.num_components}


@keras.saving.register_keras_serializable(package="mrigen")
class VampPrior(Prior):
    """A mixture of the posteriors of pseudo-inputs: heads of nobody, which training makes.

    A pseudo-input is the image of `start_at` plus a smooth field (a cubic B-spline with a control point every
    `PSEUDO_SPACING` voxels), so that a few people suffice to learn it. `encode` has to be set by the model.

    Args:
        volume_shape: (x, y, z) in voxels.
        num_components: pseudo-inputs.
        See `Prior` for the others.

    Attributes:
        encode: from volumes (n, x, y, z, 1) to the {"loc", "scale"} of their posteriors.

    References:
        Tomczak and Welling 2018, VAE with a VampPrior, equation 9.
    """

    def __init__(
        self,
        latent_size: int,
        condition_size: int = 0,
        seed: int | None = None,
        volume_shape=(8, 8, 8),
        num_components=16,
        **kwargs,
    ):
        super().__init__(latent_size, condition_size, seed, **kwargs)
        self.volume_shape = tuple(volume_shape)
        self.num_components = num_components
        self.encode: Callable | None = None

    def build_base(self):
        points = tuple(-(-side // PSEUDO_SPACING) for side in self.volume_shape)
        spread = keras.initializers.RandomNormal(stddev=0.1, seed=self.seed)
        self.logits = self.add_weight(name="logits", shape=(self.num_components,), initializer="zeros")
        self.fields = self.add_weight(name="fields", shape=(self.num_components, *points, 1), initializer=spread)
        self.image = self.add_weight(
            name="image", shape=(*self.volume_shape, 1), initializer="zeros", trainable=False, autocast=False
        )

    def start_at(self, mean_volume) -> None:
        """Sets the image that pseudo-inputs are made from to `mean_volume` (x, y, z), intensities in [0, 1]."""
        self.image.assign(mean_volume[..., None])

    @property
    def pseudo_inputs(self):
        """The pseudo-inputs, (num_components, x, y, z, 1)."""
        return tf.convert_to_tensor(self.image) + upsample(tf.convert_to_tensor(self.fields), self.volume_shape)

    def base(self, temperature=1.0):
        posterior = self.encode(self.pseudo_inputs)
        scale = temperature * posterior["scale"]
        return gaussian_mixture(tf.convert_to_tensor(self.logits), posterior["loc"], scale)

    def get_config(self):
        config = {"volume_shape": self.volume_shape, "num_components": self.num_components}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mrigen")
class FlowPrior(Prior):
    """The standard normal, bent by a real-valued non-volume-preserving flow (RealNVP), which starts as the identity.

    Each coupling moves and scales half of the latent variables by what a small network makes of the other half; halves
    change places from one to the next.

    Args:
        num_couplings: how many.
        width: units in the hidden layer of their networks.
        See `Prior` for the others. A single latent variable has no halves: it takes two at least.

    References:
        Dinh et al. 2017, Density estimation using Real NVP.
    """

    def __init__(
        self, latent_size: int, condition_size: int = 0, seed: int | None = None, num_couplings=6, width=64, **kwargs
    ):
        super().__init__(latent_size, condition_size, seed, **kwargs)
        if latent_size < 2:
            raise ValueError(f"latent_size: got {latent_size}, expected at least 2 for a flow.")
        self.num_couplings = num_couplings
        self.width = width
        self.kept = latent_size // 2
        seeds = np.arange(num_couplings) + (0 if seed is None else seed)
        self.networks = [
            keras.Sequential(
                [
                    keras.layers.Dense(
                        width,
                        "tanh",
                        kernel_initializer=keras.initializers.GlorotUniform(seed=int(number)),
                        dtype="float32",
                    ),
                    keras.layers.Dense(2 * (latent_size - self.kept), kernel_initializer="zeros", dtype="float32"),
                ],
                name=f"coupling_{index}",
            )
            for index, number in enumerate(seeds)
        ]
        # Turning the order round swaps the halves, and keeps which variable is which.
        self.order = list(range(latent_size))[::-1]

    def build_base(self):
        for network in self.networks:
            network.build((None, self.kept))

    def base(self, temperature=1.0):
        bijectors = []
        for network in self.networks:
            bijectors += [tfb.RealNVP(self.kept, shift_and_log_scale_fn=_coupling(network)), tfb.Permute(self.order)]
        return tfd.TransformedDistribution(standard_normal(self.latent_size, temperature), tfb.Chain(bijectors))

    def get_config(self):
        return {**super().get_config(), "num_couplings": self.num_couplings, "width": self.width}


def _coupling(network):
    def shift_and_log_scale(values, units, **_):
        shape = tf.shape(values)
        outputs = network(tf.reshape(values, [-1, values.shape[-1]]))
        outputs = tf.reshape(outputs, tf.concat([shape[:-1], [2 * units]], axis=0))
        shift, raw = tf.split(outputs, 2, axis=-1)
        return shift, tf.tanh(raw)  # A coupling scales by e at most.

    return shift_and_log_scale


def standard_normal(latent_size: int, temperature: float = 1.0):
    """Returns N(0, temperature^2 I)."""
    return tfd.MultivariateNormalDiag(tf.zeros(latent_size), tf.fill([latent_size], tf.cast(temperature, tf.float32)))


def gaussian_mixture(logits, loc, scale):
    """Returns the mixture of Gaussians with diagonal covariances; logits (n,), loc and scale (n, latent)."""
    return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), tfd.MultivariateNormalDiag(loc, scale))


PRIORS = {"normal": NormalPrior, "mixture": MixturePrior, "vamp": VampPrior, "flow": FlowPrior}


def kl_nats(posterior, prior, z):
    """Returns KL(posterior || prior), (batch,) nats: in closed form where there is one, else by the draws `z`.

    Args:
        posterior, prior: `tfp` distributions of event shape (latent,).
        z: (batch, latent), one draw of each posterior.
    """
    if _is_low_rank(posterior, prior):
        return low_rank_kl(posterior, prior)
    if has_closed_form(posterior, prior):
        return tfd.kl_divergence(posterior, prior)
    return posterior.log_prob(z) - prior.log_prob(z)


def low_rank_kl(posterior, prior):
    """Returns KL(posterior || prior), (batch,) nats, which TFP does not know: of a Gaussian whose covariance is
    diagonal plus a few directions, and one with a diagonal covariance.

    The log-determinant is by the matrix determinant lemma: as large a matrix as there are directions.
    """
    diagonal, factor = (posterior.parameters[name] for name in ("cov_diag_factor", "cov_perturb_factor"))
    variance = tf.square(prior.stddev())
    outer = tf.square(posterior.mean() - prior.mean())
    spread = diagonal + tf.reduce_sum(tf.square(factor), axis=-1)
    scaled = factor / tf.sqrt(diagonal)[..., None]
    inner = tf.eye(factor.shape[-1]) + tf.matmul(scaled, scaled, transpose_a=True)
    terms = (spread + outer) / variance - 1.0 + tf.math.log(variance / diagonal)
    return 0.5 * (tf.reduce_sum(terms, axis=-1) - tf.linalg.logdet(inner))


def _is_low_rank(posterior, prior) -> bool:
    kinds = tfd.MultivariateNormalDiagPlusLowRankCovariance, tfd.MultivariateNormalDiag
    return isinstance(posterior, kinds[0]) and isinstance(prior, kinds[1])


def has_closed_form(posterior, prior) -> bool:
    """Whether the KL of these two is known in closed form."""
    if _is_low_rank(posterior, prior):
        return True
    try:
        tfd.kl_divergence(posterior, prior)
    except NotImplementedError:  # How TFP says that it knows none.
        return False
    return True
