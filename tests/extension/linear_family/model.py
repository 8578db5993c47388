"""Probabilistic PCA by gradient descent: a linear encoder and decoder, and a Student prior. Nothing of mrigen's VAE."""

import keras
import tensorflow as tf

from mrigen.distributions import GaussianLikelihood
from mrigen.layers import MeanImage
from mrigen.models import LatentModel

LOG_NOISE = -1.0


class StudentPrior:
    """Independent Student variables (5 degrees of freedom) of a given width."""

    condition_size = 0

    def __init__(self, latent_size: int, width: float):
        self.latent_size, self.width = latent_size, width

    def draw(self, count, seed, condition=None, temperature=1.0):
        gauss, gamma = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
        normal = tf.random.stateless_normal([count, self.latent_size], gauss)
        chi = tf.random.stateless_gamma([count, self.latent_size], gamma, 2.5, beta=0.5)
        return temperature * self.width * normal / tf.sqrt(chi / 5.0)

    def __call__(self, z, condition=None):
        return tf.reduce_sum(
            -3.0 * tf.math.log1p(tf.square(z / self.width) / 5.0) - 0.969 - tf.math.log(self.width), -1
        )


@keras.saving.register_keras_serializable(package="linear_family")
class LinearModel(LatentModel):
    """See `LatentModel`."""

    def __init__(self, *args, prior_width=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.prior_width = prior_width
        self.flatten = keras.layers.Flatten(dtype="float32")
        start = keras.initializers.GlorotUniform(seed=self.seed)
        self.to_latent = keras.layers.Dense(
            self.latent_dim, kernel_initializer=start, dtype="float32", name="to_latent"
        )
        self.prior = StudentPrior(self.latent_dim, prior_width)
        self.likelihood = GaussianLikelihood("learned", name="likelihood")
        self.step = self.add_weight(name="step", shape=(), initializer="zeros", trainable=False, dtype="int32")
        self.report("nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma")

    @classmethod
    def from_recipe(cls, recipe, volume_shape, precision, seed, **options):
        options["prior_width"] = recipe.prior_width
        return super().from_recipe(recipe, volume_shape, precision, seed, **options)

    def make_decoder(self, sides):
        start = keras.initializers.RandomNormal(stddev=0.01, seed=self.seed)
        self.to_volume = keras.layers.Dense(self.num_voxels, kernel_initializer=start, dtype="float32", use_bias=False)
        self.mean = MeanImage(name="mean")

    def build_decoder(self, shape):
        self.to_volume.build((None, self.latent_size))
        self.mean.build((None, *self.volume_shape, 1))

    def build_latent(self, features_shape):
        self.to_latent.build((None, self.num_voxels))
        self.likelihood.build((None, *self.volume_shape, 1))

    def posterior(self, volumes, training=False, refined=True):
        loc = self.to_latent(self.flatten(volumes) * self.num_voxels**-0.5)
        return {"loc": loc, "scale": tf.fill(tf.shape(loc), tf.exp(LOG_NOISE))}

    @property
    def posterior_names(self):
        return ("loc", "scale")

    def draw(self, posterior, seed):
        noise = tf.random.stateless_normal(tf.shape(posterior["loc"]), seed)
        return posterior["loc"] + posterior["scale"] * noise

    def kl(self, posterior, z, condition=None):
        standard = (z - posterior["loc"]) / posterior["scale"]
        log_q = tf.reduce_sum(-0.5 * tf.square(standard) - 0.919 - tf.math.log(posterior["scale"]), -1)
        return log_q - self.prior(z)

    def decode_parts(self, z, training=False, condition=None):
        return {"reconstruction": self.mean(tf.reshape(self.to_volume(z), [-1, *self.volume_shape, 1]))}

    def call(self, volumes, training=False):
        posterior = self.posterior(volumes)
        if training:
            self.step.assign_add(1)
        step = tf.convert_to_tensor(self.step) if training else tf.constant(-1)
        z = self.draw(posterior, tf.stack([tf.constant(self.seed), step]))
        return {**posterior, "z": z, **self.decode_parts(z)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        found = self.likelihood(x, y_pred["reconstruction"])
        nll, kl = found["nll"], self.kl({name: y_pred[name] for name in ("loc", "scale")}, y_pred["z"])
        self.record(
            nll_nats=nll, kl_nats=kl, elbo_nats=-(nll + kl), mse=found["squared_error"] / self.num_voxels,
            decoder_sigma=self.likelihood.decoder_sigma,
        )  # fmt: skip
        return tf.reduce_mean(nll + kl)

    def get_config(self):
        return {**super().get_config(), "prior_width": self.prior_width}
