"""Latents that do not tell some covariates: what they tell, linearly, is taken out, while training and after it."""

import logging

import keras
import numpy as np
import tensorflow as tf

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import inference_dataset
from mrigen.encoding import BATCH_SIZE, pad_batch
from mrigen.models import VariationalAutoencoder

logger = logging.getLogger(__name__)


class Unlearning(keras.callbacks.Callback):
    """Takes out of the latents after every epoch what they tell, so that the decoder learns to do without it.

    It depends on the weights at the end of an epoch alone, and is saved with them.

    Args:
        dataset: whose training people teach what is taken out.
    """

    def __init__(self, dataset: Dataset):
        super().__init__()
        self.dataset = dataset
        self.posterior = None

    def on_epoch_end(self, epoch, logs=None):
        if self.posterior is None:
            self.posterior = tf.function(self.model.posterior, autograph=False)
        take_out(self.model, self.dataset, self.posterior)


def take_out(model: VariationalAutoencoder, dataset: Dataset, posterior=None) -> float:
    """Makes posterior means of the training people tell nothing of `model.invariant`, linearly.

    Args:
        model: with an erasure, which is learned anew.
        dataset: of the model.
        posterior: `model.posterior` as a function of TensorFlow, where it is called again and again.

    Returns:
        The share of the covariates' variance that the means told before.
    """
    posterior = posterior or tf.function(model.posterior, autograph=False)
    rows = dataset.rows("train")
    model.erasure.forget()
    means = []
    for _, volumes in inference_dataset(dataset.cache, rows, BATCH_SIZE):
        means.append(posterior(pad_batch(volumes))["loc"].numpy()[: len(volumes)])
    return model.erasure.learn(np.concatenate(means), dataset.conditions(rows)[:, list(model.invariant)])


def finish(model: VariationalAutoencoder, dataset: Dataset) -> None:
    """Takes out, once more, what the means of the weights that are kept tell, and says how much it was."""
    if model.erasure is not None:
        share = take_out(model, dataset)
        logger.info("Invariance: latents told %.1f %% of the covariate's variance; taken out", 100.0 * share)
