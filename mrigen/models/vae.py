"""The variational autoencoder: Gaussian posterior and prior, calibrated Gaussian decoder, ELBO in nats."""

import keras
import tensorflow as tf

from mrigen.distributions import DiagonalGaussianPosterior, GaussianLikelihood
from mrigen.models.base import LatentModel, choose_patch
from mrigen.recipe import ModelRecipe


@keras.saving.register_keras_serializable(package="mrigen")
class VariationalAutoencoder(LatentModel):
    """Maximises the evidence lower bound of volumes, in nats per subject.

    Args:
        objective: "elbo" (nll + beta * kl, both sums) or "paper" (voxel-MEAN squared error + summed KL: the same as a
            decoder whose variance is half the number of voxels, so the posterior collapses; kept to be explained).
        decoder_sigma: see `GaussianLikelihood`.
        beta: weight of the KL term.
        See `LatentModel` for the others and for shapes. The output also holds "scale" and "z".

    References:
        Kingma and Welling 2014, Auto-encoding variational Bayes; Rybkin et al. 2021 (the decoder's sigma).
    """

    def __init__(self, *args, objective="elbo", decoder_sigma="optimal", beta=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.objective = objective
        self.beta = beta
        self.to_posterior = DiagonalGaussianPosterior(
            self.latent_dim, self.latent_channels, seed=self.seed + 400, name="posterior"
        )
        self.likelihood = GaussianLikelihood(decoder_sigma, name="likelihood")
        # Keys the noise of a training step, and is saved with the weights, so a resumed fit draws what it would have.
        self.step = self.add_weight(name="step", shape=(), initializer="zeros", trainable=False, dtype="int32")
        # Rises from 0 to 1 during the KL warm-up; set before each epoch by training.
        self.kl_warmth = self.add_weight(
            name="kl_warmth", shape=(), initializer="ones", trainable=False, dtype="float32", autocast=False
        )
        self.add_trackers("nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma")

    @classmethod
    def from_recipe(
        cls, recipe: ModelRecipe, volume_shape, precision: str, seed: int, **options
    ) -> "VariationalAutoencoder":
        return cls(
            volume_shape,
            latent_dim=recipe.latent_dim,
            latent_channels=recipe.latent_channels,
            channels=recipe.block_channels,
            patch=choose_patch(recipe.patch, volume_shape),
            residual=recipe.residual,
            mean_image=recipe.mean_image,
            seed=seed,
            objective=recipe.objective,
            decoder_sigma=recipe.decoder_sigma,
            beta=recipe.beta,
            dtype=precision,
            name=recipe.kind,
            **options,
        )

    def build_latent(self, features_shape):
        self.to_posterior.build(features_shape)
        self.likelihood.build((None, *self.volume_shape, 1))

    def posterior(self, volumes, training=False) -> dict:
        return self.to_posterior(self.features(volumes, training))

    def call(self, volumes, training=False):
        posterior = self.posterior(volumes, training)
        # Outside training the noise is always the same: epochs are compared on equal draws.
        step = tf.convert_to_tensor(self.step) if training else tf.constant(-1)
        if training:
            self.step.assign_add(1)
        z = self.to_posterior.draw(posterior["loc"], posterior["scale"], tf.stack([tf.constant(self.seed), step]))
        return {**posterior, "z": z, **self.decode_parts(z, training)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        likelihood = self.likelihood(x, y_pred["reconstruction"], training=training)
        nll, mse = likelihood["nll"], likelihood["squared_error"] / self.num_voxels
        kl = tf.reduce_sum(self.to_posterior.kl_per_dimension(y_pred["loc"], y_pred["scale"]), axis=-1)
        self.track(
            nll_nats=nll, kl_nats=kl, elbo_nats=-(nll + kl), mse=mse, decoder_sigma=self.likelihood.decoder_sigma
        )
        if self.objective == "paper":
            return tf.reduce_mean(mse + self.kl_warmth * kl)
        return tf.reduce_mean(nll + self.kl_warmth * self.beta * kl)

    def get_config(self):
        config = {"objective": self.objective, "decoder_sigma": self.likelihood.sigma, "beta": self.beta}
        return {**super().get_config(), **config}
