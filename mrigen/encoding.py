"""From volumes to latents and back, with a trained model, subject by subject."""

import numpy as np
import tensorflow as tf

from mrigen.data.cache import VolumeCache
from mrigen.data.pipeline import inference_dataset
from mrigen.models import LatentModel

BATCH_SIZE = 8


def encode_cache(model: LatentModel, cache: VolumeCache) -> dict[str, np.ndarray]:
    """Returns the latents of every image of a cache, in the order of its table.

    Returns:
        scan_id (scans,) str; loc (scans, latent) float32, the posterior means; for a VAE also scale, the posterior
        standard deviations.
    """
    posterior = tf.function(lambda volumes: model.posterior(volumes))
    batches = []
    for _, volumes in inference_dataset(cache, np.arange(len(cache.table)), BATCH_SIZE):
        count = len(volumes)
        outputs = posterior(pad_batch(volumes))
        batches.append({name: value.numpy()[:count] for name, value in outputs.items()})
    latents = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return {"scan_id": cache.table["scan_id"].to_numpy(dtype=str), **latents}


def decode_latents(model: LatentModel, latents: np.ndarray) -> np.ndarray:
    """Returns the volumes (n, x, y, z) float32 of `latents` (n, latent).

    Batches have a constant size, so a latent gives the same volume whoever is decoded with it.
    """
    decode = tf.function(lambda z: model.decode(z))
    volumes = []
    for start in range(0, len(latents), BATCH_SIZE):
        z = tf.constant(latents[start : start + BATCH_SIZE], tf.float32)
        volumes.append(decode(pad_batch(z)).numpy()[: len(z), ..., 0])
    return np.concatenate(volumes)


def pad_batch(batch: tf.Tensor) -> tf.Tensor:
    """Returns `batch` filled up with zeros to `BATCH_SIZE`."""
    missing = BATCH_SIZE - len(batch)
    return tf.pad(batch, [[0, missing]] + [[0, 0]] * (batch.shape.rank - 1)) if missing else batch
