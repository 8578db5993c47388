"""What the callbacks of a fit measure and keep."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from mrigen.training.callbacks import DataWait


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
