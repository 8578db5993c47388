"""What of an image raises the score of a direction: integrated gradients through the whole of inference."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mrigen.models import LatentModel
from mrigen.models.batches import BATCH_SIZE, encode_batches, pad_batch

# Enough for the mean of a map; the gradients of a whole cohort would take as long as a fit.
MOST_PAIRS = 16
NUM_STEPS = 8


def draw_pairs(targets: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of women and of men, (pairs,) each, who are put beside each other; at most `MOST_PAIRS`."""
    generator = np.random.default_rng(seed)
    women, men = (generator.permutation(np.flatnonzero(targets == label)) for label in (0, 1))
    count = min(len(women), len(men), MOST_PAIRS)
    return women[:count], men[:count]


def saliency(
    model: LatentModel,
    weights: np.ndarray,
    women: np.ndarray,
    men: np.ndarray,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, float]:
    """Returns the mean integrated gradients (x, y, z) float32 of a score from women to men, and what it gains.

    The map sums to the mean of what the score gains from a woman to a man, but for the coarseness of the way. A pair's
    map starts at one person and ends at another; the mean of many does not hang on where they start.

    Args:
        model: that encodes.
        weights: (latent,) of the score, which is of refined latents, as a probe's are.
        women, men: (pairs, x, y, z, 1) volumes.
        advance: called with a number of images that are done, of `NUM_STEPS` times pairs.

    References:
        Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks; Erion et al. 2021, Improving
        performance of deep learning models with axiomatic attribution priors and expected gradients (many baselines).
    """
    gradients, found = model.graph(_gradients), tf.constant(weights, tf.float32)
    total = np.zeros(women.shape[1:], np.float64)
    for step in (np.arange(NUM_STEPS) + 0.5) / NUM_STEPS:
        for first in range(0, len(women), BATCH_SIZE):
            some = slice(first, first + BATCH_SIZE)
            away = men[some] - women[some]
            gradient = gradients(pad_batch(tf.constant(women[some] + np.float32(step) * away)), found)[: len(away)]
            total += np.einsum("nxyzc,nxyzc->xyzc", gradient.numpy(), away)
            advance(len(away))
    gained = np.mean(_scores(model, men, weights) - _scores(model, women, weights))
    return (total[..., 0] / (NUM_STEPS * len(women))).astype(np.float32), float(gained)


def _gradients(model: LatentModel, volumes: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(volumes)
        score = tf.linalg.matvec(tf.cast(model.posterior(volumes)["loc"], tf.float32), weights)
    return tape.gradient(score, volumes)


def _scores(model: LatentModel, volumes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    parts = (tf.constant(volumes[first : first + BATCH_SIZE]) for first in range(0, len(volumes), BATCH_SIZE))
    return encode_batches(model, parts)["loc"] @ weights
