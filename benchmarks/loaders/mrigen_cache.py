"""mrigen's cache: epochs from NIfTI files, and the memory of reading many records."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.loaders import PERCENTILES, VOLUME_SHAPE, ZOOMS, image_paths, timed_epochs
from mrigen.data.cache import SHARD_BYTES, VolumeCache, encode_record, open_cache
from mrigen.data.dataset import open_cohort
from mrigen.data.pipeline import inference_dataset, training_dataset
from mrigen.recipe import DataRecipe, PreprocessRecipe
from mrigen.system.machine import peak_rss_mb

RECORD_SHAPE = (24, 28, 24)
FOREVER = 2**31 - 1


def epochs(files, folder, batch_size, min_seconds):
    """The cache as `mrigen fit` makes and reads it, shuffled, without augmentation."""
    settings = PreprocessRecipe(zooms=ZOOMS, volume_shape=VOLUME_SHAPE, intensity_percentiles=PERCENTILES)
    num_volumes = len(image_paths(files))

    def open_epochs(fresh):
        cache = open_cache(open_cohort(DataRecipe(root=files)), settings, directory=fresh)
        # One stream of all epochs, as training has it.
        batches = iter(training_dataset(cache, np.arange(num_volumes), batch_size, seed=0, epochs=FOREVER))
        return lambda: (next(batches) for _ in range(num_volumes // batch_size))

    return timed_epochs(open_epochs, num_volumes, folder, min_seconds)


def records(num_records, kind):
    """Reads a cache of generated records once; kind is "inference" or "training"."""

    def run_round():
        with tempfile.TemporaryDirectory() as folder:
            cache = _generated_cache(Path(folder), num_records)
            before, started = peak_rss_mb(), time.perf_counter()
            rows = np.arange(num_records)
            if kind == "inference":
                batches = inference_dataset(cache, rows, 8)
            else:
                batches = training_dataset(cache, rows, 8, seed=0, epochs=1)
            for _ in batches:
                pass
            seconds = time.perf_counter() - started
        return {"before_mb": before, "peak_mb": peak_rss_mb(), "volumes_per_second": num_records / seconds}

    return {}, run_round


def _generated_cache(folder: Path, num_records: int) -> VolumeCache:
    """Returns a cache of random volumes, in shards as large as those of a real one."""
    generator = np.random.default_rng(0)
    shard_size = SHARD_BYTES // int(np.prod(RECORD_SHAPE))
    shards = []
    for start in range(0, num_records, shard_size):
        shards.append(folder / f"shard-{len(shards):05d}.tfrecord")
        with tf.io.TFRecordWriter(str(shards[-1])) as writer:
            for row in range(start, min(start + shard_size, num_records)):
                writer.write(encode_record(row, generator.bytes(int(np.prod(RECORD_SHAPE)))))
    return VolumeCache(folder, "generated", RECORD_SHAPE, tuple(shards), pd.DataFrame(index=range(num_records)))
