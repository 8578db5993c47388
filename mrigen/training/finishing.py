"""What is found of a trained VAE once, after its last step: by what inference improves, and how sure the decoder is."""

import logging

import numpy as np
import tensorflow as tf

from mrigen.data.dataset import Dataset
from mrigen.models import VariationalAutoencoder
from mrigen.runs.encoding import BATCH_SIZE, encode_cache, encoded_batches, pad_batch

logger = logging.getLogger(__name__)

# People by whom the curvature of a refinement is found, and how many derivatives for each latent variable.
CURVATURE_PEOPLE = 64
CURVATURE_DRAWS = 8


def finish_inference(model: VariationalAutoencoder, dataset: Dataset) -> None:
    """Sets what a trained model's inference and likelihood have beside weights, by the people of a fit."""
    told = None
    if model.refinement is not None:
        told, noise = _curvature(model, dataset), model.likelihood.decoder_sigma
        _learn_curvature(model, told)
    _erase(model, dataset)
    _calibrate(model, dataset)
    if told is not None:
        _learn_curvature(model, told * tf.square(noise / model.likelihood.decoder_sigma).numpy())


def _curvature(model: VariationalAutoencoder, dataset: Dataset) -> np.ndarray:
    """Returns how the log-likelihood of a training person falls around their latents, in the mean, (latent, latent).

    The Gauss-Newton approximation: derivatives of the decoded volume by the latents, of which there is one for each
    voxel, in random mixtures of voxels, whose squares are those of all in the mean (Hutchinson's estimate).
    """
    mixed_slope = model.graph(_mixed_slope)
    rows = dataset.rows("train")
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), CURVATURE_PEOPLE)).astype(int)]
    latents = encode_cache(model, dataset.cache, rows)["loc"]
    draws = -(-CURVATURE_DRAWS * model.latent_size // len(latents))
    curvature = np.zeros((model.latent_size, model.latent_size))
    for start in range(0, len(latents), BATCH_SIZE):
        z = latents[start : start + BATCH_SIZE]
        for draw in range(draws):
            slopes = mixed_slope(pad_batch(tf.constant(z)), tf.constant([start, draw])).numpy()[: len(z)]
            curvature += slopes.T.astype(np.float64) @ slopes / (len(latents) * draws)
    return curvature


def _mixed_slope(model: VariationalAutoencoder, z, seed):
    with tf.GradientTape() as tape:
        tape.watch(z)
        volumes = model.decode(z) / model.likelihood.scale
        mixed = tf.reduce_sum(volumes * tf.random.stateless_normal(tf.shape(volumes), seed))
    return tape.gradient(mixed, z)


def _learn_curvature(model: VariationalAutoencoder, curvature: np.ndarray) -> None:
    # The standard normal's own is added; that of another prior is of the same size.
    model.refinement.learn(curvature + np.eye(model.latent_size))


def _erase(model: VariationalAutoencoder, dataset: Dataset) -> None:
    """Takes what latents still tell, linearly, of the covariates that they should not out of the posterior means."""
    if model.erasure is None:
        return
    rows = dataset.rows("train")
    told = dataset.conditions(rows)[:, list(model.invariant)]
    share = model.erasure.learn(encode_cache(model, dataset.cache, rows)["loc"], told)
    logger.info("Invariance: latents told %.1f %% of the covariate's variance; taken out", 100.0 * share)


def _calibrate(model: VariationalAutoencoder, dataset: Dataset) -> None:
    """Sets an "optimal" sigma by the residuals, one draw each, of people whom the weights were not fitted to: training
    people's are smaller, and a decoder as sure as that is too sure of everyone else. Without validation people it is
    theirs all the same: the moving average of training lags, and knows batches of changed volumes only."""
    if model.likelihood.sigma != "optimal":
        return
    rows = dataset.rows("validation")
    if not len(rows):
        rows = dataset.rows("train")
    spread, latents = model.graph(_spread), encode_cache(model, dataset.cache, rows)
    total = 0.0
    for count, *people in encoded_batches(dataset, rows, latents):
        total += float(np.sum(spread(*people)[:count]))
    model.likelihood.calibrate(total / (len(rows) * model.num_counted))


def _spread(model: VariationalAutoencoder, volumes, posterior: dict, condition):
    z = model.to_posterior.draw(posterior, tf.constant([model.seed, -1]))
    return model.likelihood.spread(model.apply_mask(volumes), model.decode(z, condition=condition))
