"""Rows of the batches before, for losses that are of all people and not of the few of a step."""

from collections.abc import Mapping

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="mrigen")
class Memory(keras.layers.Layer):
    """The rows of the last batches, of several tables. Always float32.

    Args:
        widths: name -> columns of a table.
        rows: that are kept of each.

    Call arguments: tables name -> (batch, columns), and whether it is training. A gradient does not go through.
    Output: name -> (rows, columns) as they were kept before this batch, the newest first, and "is_kept": (rows,) bool,
        False where there is none yet. In training, the batch is kept from then on.
    """

    def __init__(self, widths: Mapping[str, int], rows: int = 512, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.widths = dict(widths)
        self.rows = rows

    def build(self, *_):
        self.kept = {
            name: self.add_weight(name=name, shape=(self.rows, width), initializer="zeros", trainable=False)
            for name, width in self.widths.items()
        }
        # A column, so that it moves down with the rows.
        self.is_kept = self.add_weight(name="is_kept", shape=(self.rows, 1), initializer="zeros", trainable=False)

    def call(self, tables, training=False):
        before = {name: tf.convert_to_tensor(variable) for name, variable in self.kept.items()}
        is_kept = tf.convert_to_tensor(self.is_kept)
        if training:
            for name, variable in self.kept.items():
                new = tf.stop_gradient(tf.cast(tables[name], tf.float32))
                variable.assign(tf.concat([new, before[name]], axis=0)[: self.rows])
            count = tf.shape(tables[next(iter(self.widths))])[0]
            self.is_kept.assign(tf.concat([tf.ones([count, 1]), is_kept], axis=0)[: self.rows])
        return {**before, "is_kept": is_kept[:, 0] > 0.5}

    def load_own_variables(self, store):
        if len(store.keys()):  # Runs that were fitted before there was a memory have none.
            super().load_own_variables(store)

    def get_config(self):
        return {**super().get_config(), "widths": self.widths, "rows": self.rows}
