"""People by batches of a constant size: how a model is given volumes, in adaptation, encoding and decoding."""

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

# Volumes at a time, wherever a model is adapted or used.
BATCH_SIZE = 8


def split_inputs(inputs):
    """Returns volumes and covariates of a model's input, which is a dict of both or volumes alone."""
    if isinstance(inputs, dict):
        return inputs["volumes"], inputs["condition"]
    return inputs, None


def batches_of(x) -> tf.data.Dataset:
    """Returns what Keras's `fit` takes, a dataset of batches or arrays, as batches of everyone in their order."""
    if isinstance(x, tf.data.Dataset):
        return x
    x = x[0] if isinstance(x, tuple) else x
    return tf.data.Dataset.from_tensor_slices(x).batch(BATCH_SIZE)


def pad_batch(batch: tf.Tensor) -> tf.Tensor:
    """Returns `batch` filled up with zeros to `BATCH_SIZE`, so that a value does not depend on who is beside it."""
    missing = BATCH_SIZE - len(batch)
    return tf.pad(batch, [[0, missing]] + [[0, 0]] * (batch.shape.rank - 1)) if missing else batch


def encode_batches(model, batches: Iterable) -> dict[str, np.ndarray]:
    """Returns the parameters of the posteriors of volumes, (n, latent) float32 each, in their order.

    Batches have a constant size, so the latents of a person do not depend on who is beside them.

    Args:
        model: a `LatentModel`. batches: of at most `BATCH_SIZE` volumes (batch, x, y, z, 1).
    """
    posterior = posterior_graph(model)
    parts = []
    for volumes in batches:
        outputs = posterior(pad_batch(volumes))
        parts.append({name: value.numpy()[: len(volumes)] for name, value in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def posterior_graph(model) -> Callable:
    """Returns `model.posterior` of padded batches, as a graph that is made once."""
    return model.graph(_posterior)


def _posterior(model, volumes):
    return model.posterior(volumes)
