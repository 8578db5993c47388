"""Likelihoods: how far a volume may lie from what was decoded."""

import abc
import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from mrigen.layers import upsample
from mrigen.layers.latent_head import flat_size
from mrigen.layers.replicas import mean_of_replicas
from mrigen.losses import gaussian_nll, squared_error

tfd = tfp.distributions

# Keeps the decoder's sigma away from zero, where the density is infinite.
SMALLEST_SCALE = 1e-4
# The same for a sigma of each voxel, which a few people determine: about two steps of an 8-bit intensity.
SMALLEST_VOXEL_SCALE = 0.01
# Voxels from one control point of such a sigma to the next.
SIGMA_SPACING = 4


class Likelihood(keras.layers.Layer, abc.ABC):
    """p(x given z): independent noise around what was decoded, whose size is calibrated. Always float32.

    Args:
        sigma: standard deviation of the noise, intensity on the [0, 1] scale. "optimal": in training the maximum
            likelihood one of the batch, in closed form, and its moving average afterwards; "learned": a trained weight;
            "voxelwise": a trained one for each voxel, smooth (a cubic B-spline with a control point every
            `SIGMA_SPACING` voxels) and at least `SMALLEST_VOXEL_SCALE`; or a fixed number.
        masked: whether only some voxels count; see `limit_to`. All do until then.
        momentum: share of the old moving average kept at each step, for "optimal".

    Call arguments: volumes and reconstruction (batch, x, y, z, 1).
    Output: {"nll": (batch,) nats, "squared_error": (batch,)}, float32; sums over the voxels that count.

    References:
        Rybkin et al. 2021, Simple and effective VAE training with calibrated decoders, equation 5.
    """

    def __init__(self, sigma: float | str = "optimal", masked: bool = False, momentum: float = 0.95, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.sigma = sigma
        self.masked = masked
        self.momentum = momentum

    def build(self, volumes_shape, reconstruction_shape=None):
        self.sides = tuple(int(side) for side in volumes_shape[1:4])
        start = self.sigma if self.is_fixed else 0.1
        # One number, or control points that are brought to the grid.
        points = tuple(-(-side // SIGMA_SPACING) for side in self.sides)
        self.log_sigma = self.add_weight(
            name="log_sigma",
            shape=(*points, 1) if self.sigma == "voxelwise" else (),
            initializer=keras.initializers.Constant(math.log(start)),
            trainable=self.sigma in ("learned", "voxelwise"),
        )
        if self.masked:
            self.inside = self.add_weight(
                name="inside", shape=(*self.sides, 1), initializer="ones", trainable=False, autocast=False
            )

    def limit_to(self, mask: np.ndarray) -> None:
        """Makes only the voxels of `mask` (x, y, z), bool, count."""
        self.inside.assign(np.asarray(mask, np.float32)[..., None])

    @property
    def is_fixed(self) -> bool:
        """Whether the standard deviation is a number that was given."""
        return not isinstance(self.sigma, str)

    @property
    def num_voxels(self):
        """The voxels that count: a number, or a scalar tensor where there is a mask."""
        return tf.reduce_sum(tf.convert_to_tensor(self.inside)) if self.masked else flat_size(self.sides)

    @property
    def scale(self):
        """The standard deviation of the noise: a scalar tensor, or one of (x, y, z, 1)."""
        if self.sigma != "voxelwise":
            return tf.exp(tf.convert_to_tensor(self.log_sigma))
        exponent = upsample(tf.convert_to_tensor(self.log_sigma)[None], self.sides)[0]
        return tf.sqrt(tf.exp(2.0 * exponent) + SMALLEST_VOXEL_SCALE**2)

    @property
    def decoder_sigma(self):
        """The standard deviation of the noise, root mean square over the voxels that count; a scalar tensor."""
        if self.sigma != "voxelwise":
            return self.scale
        variance = tf.square(self.scale) * (tf.convert_to_tensor(self.inside) if self.masked else 1.0)
        return tf.sqrt(tf.reduce_sum(variance) / self.num_voxels)

    def apply_mask(self, values):
        """Returns `values` (..., x, y, z, 1) with 0 where voxels do not count."""
        return values * tf.convert_to_tensor(self.inside) if self.masked else values

    def calibrate(self, mean_spread: float) -> None:
        """Sets an "optimal" sigma by the mean of `spread` over people, for one voxel; the others are left alone."""
        if self.sigma == "optimal":
            self.log_sigma.assign(self._log_sigma_of(tf.constant(mean_spread, tf.float32)))

    def call(self, volumes, reconstruction, training=False):
        volumes, reconstruction = (self.apply_mask(tf.cast(values, tf.float32)) for values in (volumes, reconstruction))
        scale = self.scale
        if self.sigma == "optimal" and training:
            # At the optimum the derivative by sigma vanishes, so nothing is lost by holding sigma still.
            mean = mean_of_replicas(tf.reduce_mean(self.spread(volumes, reconstruction))) / self.num_voxels
            batch = tf.stop_gradient(self._log_sigma_of(mean))
            self.log_sigma.assign(self.momentum * self.log_sigma + (1.0 - self.momentum) * batch)
            scale = tf.exp(batch)
        return {
            "nll": self.nll(volumes, reconstruction, scale),
            "squared_error": squared_error(volumes, reconstruction),
        }

    def nll(self, volumes, reconstruction, scale):
        """Returns -log p(x given z), (batch,) nats; `scale` is as the property of that name."""
        log_density = self.noise(scale).log_prob(volumes - reconstruction)
        return -tf.reduce_sum(self.apply_mask(log_density), axis=[1, 2, 3, 4])

    @staticmethod
    @abc.abstractmethod
    def noise(scale):
        """Returns the distribution of the noise of a voxel, around 0 and of standard deviation `scale`."""

    @staticmethod
    @abc.abstractmethod
    def spread(volumes, reconstruction):
        """Returns what an optimal sigma is found from, (batch,): a sum over voxels."""

    @staticmethod
    @abc.abstractmethod
    def log_scale(spread):
        """Returns the logarithm of the optimal sigma; `spread` is the mean for one voxel."""

    def _log_sigma_of(self, spread):
        return tf.cast(self.log_scale(spread), tf.float32)

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "masked": self.masked, "momentum": self.momentum}


@keras.saving.register_keras_serializable(package="mrigen")
class GaussianLikelihood(Likelihood):
    """Gaussian noise; "optimal" is the root mean square of the residual. See `Likelihood`."""

    def nll(self, volumes, reconstruction, scale):
        if self.sigma == "voxelwise":
            return super().nll(volumes, reconstruction, scale)
        return gaussian_nll(squared_error(volumes, reconstruction), self.num_voxels, scale)

    @staticmethod
    def noise(scale):
        return tfd.Normal(0.0, scale)

    @staticmethod
    def spread(volumes, reconstruction):
        return squared_error(volumes, reconstruction)

    @staticmethod
    def log_scale(spread):
        return 0.5 * tf.math.log(spread + SMALLEST_SCALE**2)


@keras.saving.register_keras_serializable(package="mrigen")
class LaplaceLikelihood(Likelihood):
    """Laplacian noise: large residuals, as at edges, cost less. "optimal" is the mean absolute residual times the root
    of 2. See `Likelihood`."""

    @staticmethod
    def noise(scale):
        return tfd.Laplace(0.0, scale / math.sqrt(2.0))

    @staticmethod
    def spread(volumes, reconstruction):
        return tf.reduce_sum(tf.abs(volumes - reconstruction), axis=[1, 2, 3, 4])

    @staticmethod
    def log_scale(spread):
        return tf.math.log(math.sqrt(2.0) * spread + SMALLEST_SCALE)


@keras.saving.register_keras_serializable(package="mrigen")
class StudentLikelihood(Likelihood):
    """Student's t of `DEGREES` degrees of freedom: a few large residuals, such as a lesion, cost little.

    Its sigma has no closed form: "optimal" is refused. See `Likelihood`.
    """

    DEGREES = 4.0

    def __init__(self, sigma: float | str = "learned", *args, **kwargs):
        if sigma == "optimal":
            raise ValueError("sigma: got optimal, expected learned, voxelwise or a number for a Student's t.")
        super().__init__(sigma, *args, **kwargs)

    @staticmethod
    def noise(scale):
        degrees = StudentLikelihood.DEGREES
        return tfd.StudentT(degrees, 0.0, scale * math.sqrt((degrees - 2.0) / degrees))

    @staticmethod
    def spread(volumes, reconstruction):
        return squared_error(volumes, reconstruction)

    @staticmethod
    def log_scale(spread):
        return 0.5 * tf.math.log(spread + SMALLEST_SCALE**2)  # By moments: not optimal, and not taken for it.


LIKELIHOODS = {"gaussian": GaussianLikelihood, "laplace": LaplaceLikelihood, "student": StudentLikelihood}
