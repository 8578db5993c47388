"""Voxels that become channels, and back: nothing is lost, and convolutions see an eighth of the places."""

import tensorflow as tf

FOLD = 2


def fold(volumes, multiple: int = FOLD):
    """Returns (batch, x, y, z, c) volumes as (batch, x/2, y/2, z/2, 8 c); sides are padded with zeros, at their ends,
    to the next multiple of `multiple` voxels."""
    sides, channels = volumes.shape[1:4], volumes.shape[-1]
    volumes = tf.pad(volumes, [[0, 0], *([0, -side % multiple] for side in sides), [0, 0]])
    x, y, z = (-(-side // multiple) * multiple // FOLD for side in sides)
    volumes = tf.reshape(volumes, [-1, x, FOLD, y, FOLD, z, FOLD * channels])
    return tf.reshape(tf.transpose(volumes, [0, 1, 3, 5, 2, 4, 6]), [-1, x, y, z, FOLD**3 * channels])


def unfold(volumes, sides=None):
    """Returns what `fold` was given: (batch, x, y, z, c) of (batch, x/2, y/2, z/2, 8 c), cropped to `sides`."""
    x, y, z, channels = volumes.shape[1:]
    volumes = tf.reshape(volumes, [-1, x, y, z, FOLD, FOLD, channels // FOLD**2])
    volumes = tf.transpose(volumes, [0, 1, 4, 2, 5, 3, 6])
    volumes = tf.reshape(volumes, [-1, FOLD * x, FOLD * y, FOLD * z, channels // FOLD**3])
    return volumes if sides is None else volumes[:, : sides[0], : sides[1], : sides[2]]
