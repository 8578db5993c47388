"""What the callbacks of a fit measure and keep."""

import logging
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import disturb

from mrigen.errors import RunError
from mrigen.models import VariationalAutoencoder
from mrigen.recipe import TrainingRecipe
from mrigen.training import epochs
from mrigen.training.callbacks import (
    Checkpoint,
    DataWait,
    KLWarmup,
    LatentWatch,
    Progress,
    load_progress,
    watched_figure,
)


class Steps(keras.Model):
    """A model whose training step takes `seconds`."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.dense = keras.layers.Dense(1)

    def call(self, volumes):
        return self.dense(volumes)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        slept = tf.numpy_function(self._sleep, [y_pred], tf.float32)
        return tf.reduce_mean(y_pred) + tf.stop_gradient(tf.ensure_shape(slept, []))

    def _sleep(self, values):
        time.sleep(self.seconds)
        return np.float32(0)


def batches(seconds):
    def make(number):
        time.sleep(seconds)
        return np.ones((2, 3), np.float32)

    made = tf.data.Dataset.range(100).map(lambda n: tf.numpy_function(make, [n], tf.float32))
    return made.map(lambda volumes: tf.ensure_shape(volumes, (2, 3))).prefetch(2)


@pytest.mark.parametrize(("data", "step", "low", "high"), [(0.2, 0.0, 0.7, 1.0), (0.0, 0.2, 0.0, 0.3)])
def test_waiting_for_data_is_told_from_training(data, step, low, high):
    wait = DataWait()
    model = Steps(step)
    model.compile("sgd")
    model.fit(wait.watch(batches(data)), epochs=2, steps_per_epoch=4, callbacks=[wait], verbose=0)
    assert low <= wait.share <= high


def test_without_a_step_there_is_no_share():
    assert DataWait().share is None


def watched(active, patience, on_collapse, progress=None):
    """Returns the figures of each epoch, and whether the fit was stopped.

    In the course of the epochs, so many of 40 latent variables differ between people as `active` says.
    """
    model = VariationalAutoencoder((9, 8, 7), latent_dim=40, channels=(2,), decoder_sigma=0.5)
    model.build((None, 9, 8, 7, 1))
    disturb(model)
    generator = np.random.default_rng(0)
    volumes = generator.uniform(size=(5, 9, 8, 7, 1)).astype("float32")
    drawn, locations = generator.normal(size=(5, 40)), tf.Variable(tf.zeros((5, 40)))
    model.posterior = lambda volumes: {"loc": locations.value()}
    model.stop_training = False
    watch = LatentWatch(volumes, None, patience, on_collapse, logging.getLogger("mrigen.test"), progress)
    watch.set_model(model)
    logs = [{} for _ in active]
    for epoch, (count, figures) in enumerate(zip(active, logs, strict=True)):
        locations.assign(drawn * (np.arange(40) < count))
        watch.on_epoch_end(epoch, figures)
    return logs, model.stop_training


@pytest.mark.parametrize(
    ("epochs", "period", "expected"),
    [(0, 6, [1, 1, 1, 1, 1, 1]), (2, 6, [1 / 3, 2 / 3, 1, 1, 1, 1]), (1, 3, [1 / 2, 1, 1, 1 / 2, 1, 1])],
)
def test_the_kl_weight_rises_once_or_in_cycles(epochs, period, expected):
    model = VariationalAutoencoder((4, 4, 4), latent_dim=2, channels=(2,))
    warmup, weights = KLWarmup(epochs, period), []
    warmup.set_model(model)
    for epoch in range(6):
        warmup.on_epoch_begin(epoch)
        weights.append(float(model.kl_weight))
    assert weights == pytest.approx(expected)


def warnings_of(caplog):
    """What we said: TensorFlow has warnings of its own, about what other tests did."""
    return [record for record in caplog.records if record.name != "tensorflow"]


def test_latents_that_speak_are_counted_and_left_alone(caplog):
    logs, stopped = watched([7] * 4, 2, "stop")
    assert [figures["active_units"] for figures in logs] == [7] * 4
    assert abs(logs[0]["shuffled_gap_nats"]) > 1e-3
    assert not stopped and not warnings_of(caplog)


def test_a_collapse_is_told_once_after_the_patience(caplog):
    logs, stopped = watched([0] * 4, 3, "warn")
    assert logs[0] == {"active_units": 0, "shuffled_gap_nats": 0.0}
    assert not stopped
    (record,) = warnings_of(caplog)
    assert record.getMessage().startswith("Epoch 3: The posterior collapsed: 0 of 40 latent variables are active.")
    assert record.getMessage().endswith("Going on; training.on_collapse=stop would end here.")


def test_a_collapse_that_comes_late_is_told_when_it_comes(caplog):
    logs, _ = watched([7, 7, 7, 1, 1], 2, "warn")
    assert [figures["active_units"] for figures in logs] == [7, 7, 7, 1, 1]
    (record,) = warnings_of(caplog)
    assert record.getMessage().startswith("Epoch 4: ")


def test_a_collapse_ends_the_fit_where_that_was_asked_for(caplog):
    assert not watched([1] * 2, 3, "stop")[1]
    assert watched([1] * 3, 3, "stop")[1]
    assert caplog.records[-1].getMessage().endswith("Stopping here.")


def test_a_collapse_that_was_told_before_the_break_is_not_told_again(caplog):
    progress = Progress(collapsed=True)
    watched([1] * 2, 1, "warn", progress)
    assert progress.collapsed and not caplog.records
    watched([7], 1, "warn", progress)
    assert not progress.collapsed


def test_the_learning_rate_falls_to_a_hundredth_by_the_last_step():
    rate = epochs.make_optimizer(TrainingRecipe(epochs=6, learning_rate=0.02), steps=10)._learning_rate
    assert [float(rate(step)) for step in (0, 30, 60, 99)] == pytest.approx([0.02, 0.0101, 0.0002, 0.0002], rel=1e-4)
    constant = epochs.make_optimizer(TrainingRecipe(schedule="constant", clip_norm=3.0), steps=10, num_replicas=2)
    assert float(constant.learning_rate) == pytest.approx(1e-3)
    assert constant.global_clipnorm == 1.5


@pytest.mark.parametrize("content", [b"{", b'{"epoch": \xff}', b'{"epochs": 3}', b"3"])
def test_a_checkpoint_whose_progress_is_none_is_told(tmp_path, content):
    (tmp_path / "progress.json").write_bytes(content)
    with pytest.raises(RunError, match=r"progress.json: not the progress of a fit \(.*Restore the file, or fit again"):
        load_progress(tmp_path)


def test_epochs_are_judged_by_the_best_figure_that_there_is():
    logs = {"loss": 1.0, "elbo_nats": -2.0, "val_loss": 3.0, "val_elbo_nats": -4.0}
    for name, expected in (("val_elbo_nats", -4.0), ("val_loss", -3.0), ("elbo_nats", -2.0), ("loss", -1.0)):
        assert watched_figure(logs, "elbo_nats") == expected
        del logs[name]
    assert watched_figure({}, "elbo_nats") == -np.inf


@pytest.mark.parametrize(("num_validation", "expected"), [(5, "validation"), (30, "validation"), (1, "train")])
def test_latents_of_validation_people_are_watched(monkeypatch, num_validation, expected):
    """Of one person alone nothing differs: then it is training people."""
    people = {"train": np.arange(100, 140), "validation": np.arange(num_validation)}
    monkeypatch.setattr(epochs, "read_volumes", lambda cache, rows: rows)
    monkeypatch.setattr(epochs, "LatentWatch", lambda volumes, *others, **options: volumes[..., 0])
    monkeypatch.setattr(epochs, "advise_on_settings", lambda recipe: "")
    fit = SimpleNamespace(
        dataset=SimpleNamespace(rows=people.get, cache=None, conditions=lambda rows: None),
        settings=TrainingRecipe(),
        progress=Progress(),
        recipe=SimpleNamespace(model=None),
    )
    np.testing.assert_array_equal(epochs._latent_watch(fit), people[expected][: epochs.WATCHED_PEOPLE])


def test_running_figures_of_another_model_are_not_taken_over(tmp_path):
    progress = Progress(step=1, metrics=[2.5, 1.0])
    checkpoint = Checkpoint(tmp_path, progress, None, "loss", epochs=2, steps=4)
    loss, error = keras.Variable(0.0), keras.Variable(0.0)
    checkpoint.set_model(SimpleNamespace(metrics_variables=[loss, error]))
    checkpoint.on_epoch_begin(0)
    assert (float(loss), float(error)) == (2.5, 1.0)
    progress.metrics = [2.5]
    with pytest.raises(RunError, match="got 1 running figures, expected 2"):
        checkpoint.on_epoch_begin(0)
