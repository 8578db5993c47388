"""From a cache to batches: one tf.data builder for training, one for inference."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from mrigen.data.augment import Augmenter
from mrigen.data.cache import VolumeCache
from mrigen.recipe import AugmentRecipe

# Records waiting to be shuffled take at most this much memory.
SHUFFLE_BYTES = 2**27
# Volumes that are handed on together take at most this much.
BLOCK_BYTES = 2**27


def steps_per_epoch(num_subjects: int, batch_size: int) -> int:
    """Returns the full batches in an epoch; at least one.

    Example:
        >>> steps_per_epoch(89, 8)
        11
    """
    return max(1, num_subjects // batch_size)


def shuffle_buffer(num_subjects: int, volume_shape) -> int:
    """Returns how many records (one byte a voxel) wait in memory to be shuffled.

    Example:
        >>> shuffle_buffer(89, (48, 56, 48)), shuffle_buffer(20000, (160, 192, 160))
        (89, 27)
    """
    return min(num_subjects, max(1, SHUFFLE_BYTES // int(np.prod(volume_shape))))


def training_dataset(
    cache: VolumeCache,
    rows: np.ndarray,
    batch_size: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    augment: AugmentRecipe | None = None,
    zooms=(1.0, 1.0, 1.0),
    conditions: np.ndarray | None = None,
    first_step: int = 0,
    positions: tuple[int, int, int] | None = None,
) -> tf.data.Dataset:
    """Returns batches (batch, x, y, z, 1) float32 in [0, 1] for all epochs, one after the other.

    Order and changes are keyed by (seed, epoch, row): an epoch is the same whether training starts before it or is
    resumed at it, or within it. Each epoch has `steps_per_epoch` full batches; who is left over differs from epoch to
    epoch.

    Args:
        cache: where the volumes are.
        rows: rows of `cache.table` to train on.
        batch_size: subjects a step; a smaller cohort gives smaller batches.
        seed: of order and changes.
        epochs: number of the last epoch, exclusive.
        first_epoch: where to start.
        augment: random changes, or None.
        zooms: voxel size in mm, for the changes.
        conditions: covariates of each row of `cache.table`, (rows, condition): batches are then {"volumes",
            "condition": (batch, condition)}.
        first_step: batches of the first epoch to leave out.
        positions: (first, last, size): only those at positions first to last (exclusive) of each batch, in batches of
            `size`; None for all in one. What is left out is read, but not prepared.
    """
    batch_size = min(batch_size, len(rows))
    steps = steps_per_epoch(len(rows), batch_size)
    buffer = shuffle_buffer(len(rows), cache.volume_shape)
    augmenter = None if augment is None else Augmenter(augment, cache.volume_shape, zooms)
    shards = tf.constant([str(path) for path in cache.shards])

    def one_epoch(epoch):
        # Of this function's graph alone; else shuffle() mixes the global seed into its own (and fails where that is 0).
        tf.compat.v1.set_random_seed(1)
        order_seed = tf.random.fold_in(tf.constant([seed, 0], tf.int32), tf.cast(epoch, tf.int32))
        number = tf.random.stateless_uniform([], order_seed, minval=None, maxval=None, dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(shards, order_seed)
        records = _records(tf.data.Dataset.from_tensor_slices(order), cache, rows)
        records = records.shuffle(buffer, seed=number, reshuffle_each_iteration=False)
        records = records.skip(tf.where(epoch == first_epoch, tf.constant(first_step * batch_size, tf.int64), 0))

        if positions is not None:
            first, last, _ = positions
            records = records.enumerate().filter(
                lambda n, _: tf.logical_and(n % batch_size >= first, n % batch_size < last)
            )
            records = records.map(lambda _, record: record)

        def prepare(row, volume):
            volume = tf.cast(volume, tf.float32) / 255.0
            if augmenter is not None:
                volume = augmenter(volume, tf.random.fold_in(order_seed, tf.cast(row, tf.int32)))
            volume = volume[..., None]
            return volume if conditions is None else {"volumes": volume, "condition": tf.gather(conditions, row)}

        records = records.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        if positions is not None:
            first, last, size = positions
            return records.batch(size, drop_remainder=True).take(steps * ((last - first) // size))
        return records.batch(batch_size, drop_remainder=True).take(steps)

    return _untuned(tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch).prefetch(2))


def inference_dataset(cache: VolumeCache, rows: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Returns batches (row numbers (batch,) int64, volumes (batch, x, y, z, 1) float32); each row exactly once.

    Args:
        cache: where the volumes are.
        rows: rows of `cache.table`; the batches come in the order of the table.
        batch_size: subjects a batch; the last may be smaller.
    """
    records = _records(tf.data.Dataset.from_tensor_slices([str(path) for path in cache.shards]), cache, rows, cycle=1)
    records = records.map(lambda row, volume: (row, tf.cast(volume, tf.float32)[..., None] / 255.0))
    batches = records.batch(batch_size).prefetch(2)
    # Keras warns of data whose end it meets without notice.
    return _untuned(batches.apply(tf.data.experimental.assert_cardinality(-(-len(rows) // batch_size))))


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns `dataset` without what TensorFlow tunes in it as it runs: its end waits for the tuner, now and then for a
    minute. AUTOTUNE is then the number of cores, at most 16."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def choose_rows(rows: np.ndarray, volume_shape, num_bytes: int, seed: int = 0) -> np.ndarray:
    """Returns `rows`, or a random part of them whose float32 volumes take at most `num_bytes` of memory (two at least).

    Example:
        >>> len(choose_rows(np.arange(89), (10, 10, 10), 40_000))
        10
    """
    limit = max(2, num_bytes // (4 * int(np.prod(volume_shape))))
    if len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def read_volumes(cache: VolumeCache, rows: np.ndarray) -> np.ndarray:
    """Returns the volumes of `rows` of the table, in their order: (rows, x, y, z) float32 in [0, 1]."""
    volumes = np.empty((len(rows), *cache.volume_shape), dtype=np.float32)
    rows = np.asarray(rows)
    for numbers, batch in inference_dataset(cache, rows, 32).as_numpy_iterator():
        for number, volume in zip(numbers, batch, strict=True):
            volumes[rows == number] = volume[..., 0]
    return volumes


def level_blocks(cache: VolumeCache, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yields the volumes of `rows` of the table (of all, if None) as they are stored, in the order of the table: blocks
    (some rows, x, y, z) uint8 of at most `BLOCK_BYTES`."""
    rows = np.arange(len(cache.table)) if rows is None else np.asarray(rows)
    shards = tf.data.Dataset.from_tensor_slices([str(path) for path in cache.shards])
    size = max(1, BLOCK_BYTES // int(np.prod(cache.volume_shape)))
    for _, block in _records(shards, cache, rows, cycle=1).batch(size).as_numpy_iterator():
        yield block


def _records(shards: tf.data.Dataset, cache: VolumeCache, rows: np.ndarray, cycle: int = 8) -> tf.data.Dataset:
    """Returns (row, volume uint8 (x, y, z)) for the records of `rows`, shard by shard, or from several at once."""
    wanted = np.zeros(len(cache.table), dtype=bool)
    wanted[np.asarray(rows, dtype=np.int64)] = True
    wanted = tf.constant(wanted)
    features = {"row": tf.io.FixedLenFeature([], tf.int64), "volume": tf.io.FixedLenFeature([], tf.string)}

    def parse(record):
        example = tf.io.parse_single_example(record, features)
        return example["row"], example["volume"]

    def decode(row, content):
        return row, tf.reshape(tf.io.decode_raw(content, tf.uint8), cache.volume_shape)

    records = shards.interleave(tf.data.TFRecordDataset, cycle_length=cycle, block_length=1)
    return records.map(parse).filter(lambda row, content: wanted[row]).map(decode)
