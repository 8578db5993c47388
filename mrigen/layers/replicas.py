"""What the devices of a training step have to know of each other: positions in the global batch, means and rows of all.

Outside a `tf.distribute` replica, or in the only one, every function returns what it is given.
"""

import tensorflow as tf


def are_several() -> bool:
    """Whether this code runs in one of several replicas."""
    return tf.distribute.get_strategy().num_replicas_in_sync > 1 and tf.distribute.get_replica_context() is not None


def mean_of_replicas(value):
    """Returns the mean of a tensor over the replicas, whose batches are equally large."""
    if not are_several():
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)


def rows_of_all(values, repeats: int = 1):
    """Returns the rows of all replicas, in the order of the global batch; gradients flow back to their replicas.

    Args:
        values: tensors (repeats * batch, ...), nested.
        repeats: how often the batch is in the rows, all of it before all of it again.
    """
    if not are_several():
        return values
    context = tf.distribute.get_replica_context()
    number, index = context.num_replicas_in_sync, context.replica_id_in_sync_group

    def spread(rows):
        own = tf.reshape(tf.one_hot(index, number, dtype=rows.dtype), [number] + [1] * rows.shape.rank)
        return own * rows[None]

    def join(spread):
        shape = tf.shape(spread)
        split = tf.reshape(spread, tf.concat([[number, repeats, shape[1] // repeats], shape[2:]], axis=0))
        split = tf.transpose(split, [1, 0, *range(2, spread.shape.rank + 1)])
        joined = tf.reshape(split, tf.concat([[number * shape[1]], shape[2:]], axis=0))
        return tf.ensure_shape(joined, [None, *spread.shape[2:]])

    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, [spread(rows) for rows in tf.nest.flatten(values)])
    return tf.nest.pack_sequence_as(values, [join(rows) for rows in flat])


def draw_at_position(draw, values, repeats: int = 1):
    """Returns draw(values), (repeats * batch, ...), with the noise of each row's position in the global batch.

    Args:
        draw: from rows to draws, row by row, with noise that depends on the row's number and the seed.
        values, repeats: as in `rows_of_all`.
    """
    if not are_several():
        return draw(values)
    context = tf.distribute.get_replica_context()
    number, index = context.num_replicas_in_sync, context.replica_id_in_sync_group

    def widen(rows):  # Every replica's rows are its own: only the noise of its position is used.
        shape = tf.shape(rows)
        split = tf.reshape(rows, tf.concat([[repeats, 1, shape[0] // repeats], shape[1:]], axis=0))
        wide = tf.tile(split, [1, number] + [1] * rows.shape.rank)
        wide = tf.reshape(wide, tf.concat([[number * shape[0]], shape[1:]], axis=0))
        return tf.ensure_shape(wide, [None, *rows.shape[1:]])

    drawn = draw(tf.nest.map_structure(widen, values))
    shape = tf.shape(drawn)
    split = tf.reshape(drawn, tf.concat([[repeats, number, shape[0] // (repeats * number)], shape[1:]], axis=0))
    own = tf.reshape(split[:, index], tf.concat([[shape[0] // number], shape[1:]], axis=0))
    return tf.ensure_shape(own, [None, *drawn.shape[1:]])
