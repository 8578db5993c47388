"""What is found of a trained VAE once, after its last step: by what inference improves, and how sure the decoder is."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from mrigen.models.batches import BATCH_SIZE, encode_batches, pad_batch, posterior_graph, split_inputs

logger = logging.getLogger(__name__)

# People by whom the curvature of a refinement is found, and how many derivatives for each latent variable.
CURVATURE_PEOPLE = 64
CURVATURE_DRAWS = 8


def adapt_inference(model, dataset: Iterable, validation: Iterable | None) -> None:
    """Sets what a trained model's inference and likelihood have beside weights.

    Args:
        model: a `VariationalAutoencoder`.
        dataset: batches of the training people; see `LatentModel.adapt`.
        validation: of people that the weights were not fitted to, or None.
    """
    curvature = None
    if model.refinement is not None:
        curvature, noise = _curvature(model, dataset), model.likelihood.decoder_sigma
        _learn_curvature(model, curvature)
    _erase(model, dataset)
    _calibrate(model, dataset if validation is None else validation)
    if curvature is not None:
        _learn_curvature(model, curvature * tf.square(noise / model.likelihood.decoder_sigma).numpy())


def _curvature(model, dataset: Iterable) -> np.ndarray:
    """Returns how the log-likelihood of a training person falls around their latents, in the mean, (latent, latent).

    The Gauss-Newton approximation: derivatives of the decoded volume by the latents, of which there is one for each
    voxel, in random mixtures of voxels, whose squares are those of all in the mean (Hutchinson's estimate).
    """
    mixed_slope = model.graph(_mixed_slope)
    count = sum(len(split_inputs(batch)[0]) for batch in dataset)
    rows = np.linspace(0, count - 1, min(count, CURVATURE_PEOPLE)).astype(int)
    latents = encode_batches(model, _volumes(dataset, rows))["loc"]
    draws = -(-CURVATURE_DRAWS * model.latent_size // len(latents))
    curvature = np.zeros((model.latent_size, model.latent_size))
    for start in range(0, len(latents), BATCH_SIZE):
        z = latents[start : start + BATCH_SIZE]
        for draw in range(draws):
            slopes = mixed_slope(pad_batch(tf.constant(z)), tf.constant([start, draw])).numpy()[: len(z)]
            curvature += slopes.T.astype(np.float64) @ slopes / (len(latents) * draws)
    return curvature


def _mixed_slope(model, z, seed):
    with tf.GradientTape() as tape:
        tape.watch(z)
        volumes = model.decode(z) / model.likelihood.scale
        mixed = tf.reduce_sum(volumes * tf.random.stateless_normal(tf.shape(volumes), seed))
    return tape.gradient(mixed, z)


def _learn_curvature(model, curvature: np.ndarray) -> None:
    # The standard normal's own is added; that of another prior is of the same size.
    model.refinement.learn(curvature + np.eye(model.latent_size))


def _erase(model, dataset: Iterable) -> None:
    """Erases from the posterior means what they still predict, linearly, of the covariates that they should not."""
    if model.erasure is None:
        return
    targets = np.concatenate([np.asarray(split_inputs(batch)[1])[:, list(model.invariant)] for batch in dataset])
    share = model.erasure.learn(encode_batches(model, _volumes(dataset))["loc"], targets)
    logger.info("Invariance: latents predicted %.1f %% of the covariate's variance; erased", 100.0 * share)


def _calibrate(model, dataset: Iterable) -> None:
    """Sets an "optimal" sigma by the residuals, one draw each, of people whom the weights were not fitted to: training
    people's are smaller, and a decoder as sure as that is too sure of everyone else. Without validation people it is
    theirs all the same: the moving average of training lags, and knows batches of changed volumes only."""
    if model.likelihood.sigma != "optimal":
        return
    spread, encode = model.graph(_spread), posterior_graph(model)
    total, count = 0.0, 0
    for volumes, condition in _batches(dataset):
        number = len(volumes)
        # The last people are repeated where there are too few; the first `number` count.
        filled = np.minimum(np.arange(BATCH_SIZE), number - 1)
        posterior = {name: tf.gather(values, filled) for name, values in encode(pad_batch(volumes)).items()}
        condition = None if condition is None else tf.gather(condition, filled)
        spreads = spread(tf.gather(volumes, filled), posterior, condition).numpy()
        total += float(np.sum(spreads[:number]))
        count += number
    model.likelihood.calibrate(total / (count * model.num_counted))


def _spread(model, volumes, posterior: dict, condition):
    z = model.draw(posterior, tf.constant([model.seed, -1]))
    return model.likelihood.spread(model.apply_mask(volumes), model.decode(z, condition=condition))


def _volumes(dataset: Iterable, rows: np.ndarray | None = None) -> Iterator[tf.Tensor]:
    """Yields the volumes of people, all or those of `rows` (ascending), `BATCH_SIZE` at a time."""
    return (volumes for volumes, _ in _batches(dataset, rows))


def _batches(dataset: Iterable, rows: np.ndarray | None = None) -> Iterator[tuple[tf.Tensor, tf.Tensor | None]]:
    """Yields volumes and covariates (None where there are none) of people, `BATCH_SIZE` at a time."""
    chosen = None if rows is None else set(rows.tolist())
    kept, number = [], 0
    for batch in dataset:
        volumes, condition = split_inputs(batch)
        for row in range(len(volumes)):
            if chosen is None or number in chosen:
                kept.append((volumes[row], None if condition is None else condition[row]))
            number += 1
            if len(kept) == BATCH_SIZE:
                yield _stacked(kept)
                kept = []
    if kept:
        yield _stacked(kept)


def _stacked(people: list) -> tuple[tf.Tensor, tf.Tensor | None]:
    volumes = tf.stack([volume for volume, _ in people])
    return volumes, None if people[0][1] is None else tf.stack([condition for _, condition in people])
