"""From volumes to latents and back, with a trained model, subject by subject."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from mrigen.data.cache import VolumeCache
from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import inference_dataset
from mrigen.models.base import LatentModel
from mrigen.models.batches import BATCH_SIZE, encode_batches, pad_batch


def encode_cache(model: LatentModel, cache: VolumeCache, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Returns the latents of images of a cache, in the order of its table.

    Args:
        model: the model. cache: where the volumes are.
        rows: of the cache's table, ascending; None for all.

    Returns:
        scan_id (scans,) str; loc (scans, latent) float32, the posterior means; for a VAE also scale, the posterior
        standard deviations.
    """
    rows = np.arange(len(cache.table)) if rows is None else rows
    latents = encode_batches(model, (volumes for _, volumes in inference_dataset(cache, rows, BATCH_SIZE)))
    return {"scan_id": cache.table["scan_id"].to_numpy(dtype=str)[rows], **latents}


def encode_volumes(model: LatentModel, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns loc and, for a VAE, scale (n, latent) float32 of `volumes` (n, x, y, z), bytes as a cache has them."""
    parts = (volumes[start : start + BATCH_SIZE] for start in range(0, len(volumes), BATCH_SIZE))
    return encode_batches(model, (tf.cast(part, tf.float32)[..., None] / 255.0 for part in parts))


def encoded_batches(
    dataset: Dataset, rows: np.ndarray, latents: dict[str, np.ndarray]
) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray], np.ndarray | None]]:
    """Yields (count, volumes, posterior, conditions) of people whose latents are known, `BATCH_SIZE` at a time.

    The last people are repeated where there are too few; the first `count` are meant.

    Args:
        dataset: the people. rows: of its table.
        latents: of `rows`, in that order; see `encode_cache`.
    """
    conditions = dataset.conditions(rows)
    start = 0
    for _, volumes in inference_dataset(dataset.cache, rows, BATCH_SIZE).as_numpy_iterator():
        count = len(volumes)
        filled = np.minimum(np.arange(BATCH_SIZE), count - 1)
        posterior = {name: latents[name][start + filled] for name in latents if name != "scan_id"}
        yield count, volumes[filled], posterior, None if conditions is None else conditions[start + filled]
        start += count


def latent_names(count: int, what: str = "loc") -> list[str]:
    """Returns the names of the columns of a table of latents.

    Example:
        >>> latent_names(2), latent_names(2, "scale")
        (['loc_001', 'loc_002'], ['scale_001', 'scale_002'])
    """
    digits = max(3, len(str(count)))
    return [f"{what}_{number:0{digits}d}" for number in range(1, count + 1)]


def decode_latents(model: LatentModel, latents: np.ndarray, conditions: np.ndarray | None = None) -> np.ndarray:
    """Returns the volumes (n, x, y, z) float32 of `latents` (n, latent).

    Batches have a constant size, so a latent gives the same volume whoever is decoded with it.

    Args:
        conditions: covariates (n, condition), of a model that is given any; None where nothing is known.
    """
    return np.concatenate([parts["reconstruction"] for parts in decode_batches(model, latents, conditions)])[..., 0]


def decode_batches(
    model: LatentModel, latents: np.ndarray, conditions: np.ndarray | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Yields what the decoder makes of `latents` (n, latent), `BATCH_SIZE` at a time; see `decode_parts` and
    `decode_latents`."""
    decode = model.graph(_decode_parts)
    for start in range(0, len(latents), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        z = tf.constant(latents[rows], tf.float32)
        condition = None if conditions is None else pad_batch(tf.constant(conditions[rows], tf.float32))
        yield {name: value.numpy()[: len(z)] for name, value in decode(pad_batch(z), condition).items()}


def _decode_parts(model: LatentModel, z, condition):
    return model.decode_parts(z, condition=condition)
