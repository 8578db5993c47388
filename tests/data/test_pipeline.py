"""From a cache to batches: who is in them, in which order, with which changes."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from mrigen.data.augment import Augmenter
from mrigen.data.cache import VolumeCache, encode_record
from mrigen.data.pipeline import inference_dataset, read_volumes, steps_per_epoch, training_dataset
from mrigen.recipe import AugmentRecipe

NUM_ROWS = 23
SHAPE = (5, 6, 7)
SHARDS = (range(10), range(10, 19), range(19, 23))


def contents(row):
    """A volume that tells its row at one voxel and its axes at the others."""
    volume = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 251).astype(np.uint8)
    volume[0, 0, 0] = row
    return volume


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    paths = []
    for number, rows in enumerate(SHARDS):
        paths.append(folder / f"shard-{number}.tfrecord")
        with tf.io.TFRecordWriter(str(paths[-1])) as writer:
            for row in rows:
                writer.write(encode_record(row, contents(row).tobytes()))
    return VolumeCache(
        folder, "key", SHAPE, tuple(paths), pd.DataFrame({"scan_id": [f"s{n}" for n in range(NUM_ROWS)]})
    )


ROWS = np.array([22, 1, 3, 4, 7, 8, 9, 12, 13, 15, 17, 18, 20])  # 13 of them, from all shards, unsorted


def batches(cache, rows=ROWS, batch_size=4, seed=0, epochs=3, **keys):
    return list(training_dataset(cache, rows, batch_size, seed, epochs, **keys).as_numpy_iterator())


def rows_of(batch):
    return np.rint(batch[:, 0, 0, 0, 0] * 255).astype(int).tolist()


def order(*args, **keys):
    return [row for batch in batches(*args, **keys) for row in rows_of(batch)]


# ---- training


@pytest.mark.parametrize(("subjects", "batch", "steps"), [(13, 4, 3), (12, 4, 3), (3, 4, 1), (1, 1, 1), (89, 8, 11)])
def test_steps_are_full_batches(subjects, batch, steps):
    assert steps_per_epoch(subjects, batch) == steps


def test_every_epoch_has_full_batches_of_different_people(cache):
    seen = batches(cache)
    assert [batch.shape for batch in seen] == [(4, *SHAPE, 1)] * 9
    assert all(batch.dtype == np.float32 for batch in seen)
    for epoch in range(3):
        people = [row for batch in seen[3 * epoch : 3 * epoch + 3] for row in rows_of(batch)]
        assert len(set(people)) == 12
        assert set(people) <= set(ROWS)


def test_over_the_epochs_nobody_is_left_out(cache):
    assert set(order(cache, epochs=8)) == set(ROWS)


def test_volumes_are_scaled_and_keep_their_axes(cache):
    batch = batches(cache, epochs=1)[0]
    for row, volume in zip(rows_of(batch), batch, strict=True):
        np.testing.assert_allclose(volume[..., 0], contents(row) / np.float32(255), atol=1e-6)


def test_order_differs_between_epochs_and_seeds(cache):
    epochs = np.reshape(order(cache), (3, 12)).tolist()
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert order(cache, seed=1) != order(cache, seed=0)


def test_order_mixes_the_shards(cache):
    firsts = set(order(cache, epochs=12)[::12])
    assert len({next(n for n, rows in enumerate(SHARDS) if first in rows) for first in firsts}) == 3


@pytest.mark.parametrize("augment", [None, AugmentRecipe()])
def test_training_resumed_at_an_epoch_gets_the_same_batches(cache, augment):
    whole = batches(cache, epochs=4, augment=augment)
    for first in (1, 3):
        resumed = batches(cache, epochs=4, first_epoch=first, augment=augment)
        np.testing.assert_array_equal(resumed, whole[3 * first :])
    within = batches(cache, epochs=4, first_epoch=1, first_step=2, augment=augment)
    np.testing.assert_array_equal(within, whole[5:])


@pytest.mark.parametrize("global_seed", [0, 7])
def test_order_does_not_hang_on_the_global_seed(cache, global_seed):
    expected = order(cache)
    tf.random.set_seed(global_seed)
    assert order(cache) == expected


def test_the_largest_seed_is_taken(cache):
    assert len(order(cache, seed=2**31 - 1, epochs=1)) == 12


def test_a_small_cohort_gives_a_small_batch(cache):
    assert [batch.shape[0] for batch in batches(cache, rows=[2, 11], epochs=3)] == [2, 2, 2]


def test_a_cohort_larger_than_the_shuffle_buffer_is_still_seen_once_an_epoch(cache, monkeypatch):
    monkeypatch.setattr("mrigen.data.pipeline.SHUFFLE_BYTES", 3 * int(np.prod(SHAPE)))
    people = order(cache, rows=np.arange(NUM_ROWS), batch_size=1, epochs=2)
    assert sorted(people[:NUM_ROWS]) == sorted(people[NUM_ROWS:]) == list(range(NUM_ROWS))
    assert people[:NUM_ROWS] != people[NUM_ROWS:]


# ---- changes


GAIN = AugmentRecipe(shift=0, rotation=0, scaling=0, intensity=0.4, bias_field=0, noise=0)


def gains(cache, rows, **keys):
    """row -> the gain that its volume got, epoch by epoch."""
    found = {}
    for volume in np.concatenate(batches(cache, rows=rows, augment=GAIN, **keys)):
        # The voxel that tells the row is changed too: take the gain from a known voxel.
        gain = float(volume[0, 0, 1, 0]) * 255 / 1
        found.setdefault(round(float(volume[0, 0, 0, 0]) * 255 / gain), []).append(gain)
    return found


def test_changes_are_keyed_by_row_not_by_place_in_the_batch(cache):
    many = gains(cache, rows=[1, 3, 8, 20, 22], batch_size=5, epochs=2)
    few = gains(cache, rows=[3, 20], batch_size=1, epochs=2)
    for row in (3, 20):
        np.testing.assert_allclose(few[row], many[row], rtol=1e-5)
    firsts = [found[0] for found in many.values()]
    assert len({round(gain, 4) for gain in firsts}) == 5  # everybody has another
    assert all(abs(first - second) > 1e-4 for first, second in many.values())  # and another in the next epoch
    assert gains(cache, rows=[3], batch_size=1, epochs=1, seed=5)[3] != pytest.approx(few[3][:1])


def test_zooms_reach_the_changes(cache, monkeypatch):
    seen = []
    init = Augmenter.__init__
    monkeypatch.setattr(Augmenter, "__init__", lambda self, *args: (seen.append(args), init(self, *args))[1])
    batches(cache, epochs=1, augment=GAIN, zooms=(4.0, 3.0, 2.0))
    assert seen == [(GAIN, SHAPE, (4.0, 3.0, 2.0))]


# ---- inference


def test_nothing_is_tuned_while_it_runs(cache):
    """The end of an iterator waits for TensorFlow's tuner, now and then for a minute."""
    rows = np.arange(2)
    for dataset in (inference_dataset(cache, rows, 2), training_dataset(cache, rows, 2, seed=0, epochs=1)):
        assert dataset.map(lambda *values: values).options().autotune.enabled is False


@pytest.mark.parametrize("batch_size", [1, 5, 13, 100])
def test_inference_gives_each_row_once_in_the_order_of_the_table(cache, batch_size):
    seen = list(inference_dataset(cache, ROWS, batch_size).as_numpy_iterator())
    numbers = np.concatenate([rows for rows, _ in seen])
    assert numbers.dtype == np.int64
    assert numbers.tolist() == sorted(ROWS.tolist())
    assert [len(rows) for rows, _ in seen[:-1]] == [batch_size] * (len(seen) - 1)
    for rows, volumes in seen:
        assert volumes.shape == (len(rows), *SHAPE, 1)
        assert rows_of(volumes) == rows.tolist()


def test_inference_of_all_shards_is_complete_and_repeatable(cache):
    dataset = inference_dataset(cache, np.arange(NUM_ROWS), 4)
    first, second = (np.concatenate([volumes for _, volumes in dataset.as_numpy_iterator()]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first[..., 0] * 255, [contents(row) for row in range(NUM_ROWS)], atol=1e-4)


def test_read_volumes_come_in_the_order_asked_for(cache):
    for rows in (ROWS, ROWS[::-1], [19, 0, 19]):
        volumes = read_volumes(cache, rows)
        assert volumes.dtype == np.float32
        np.testing.assert_allclose(volumes * 255, [contents(row) for row in rows], atol=1e-4)


def test_read_volumes_of_nobody_is_empty(cache):
    assert read_volumes(cache, np.array([], dtype=int)).shape == (0, *SHAPE)
