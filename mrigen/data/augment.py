"""Random changes of a training volume that leave the person who they are, in TensorFlow, stateless."""

import math

import tensorflow as tf

from mrigen.recipe import AugmentRecipe


class Augmenter:
    """Changes volumes at random; the same seed gives the same change.

    Args:
        settings: the largest change of each kind. Shifts, rotations, scaling and flip move the head (one
            interpolation, by Bessel's formula); intensity, bias field and noise change its brightness.
        volume_shape: (x, y, z) in voxels.
        zooms: voxel size in mm.
    """

    def __init__(self, settings: AugmentRecipe, volume_shape, zooms):
        self.settings = settings
        self.volume_shape = tuple(volume_shape)
        self.zooms = tuple(float(zoom) for zoom in zooms)
        self.middle = [(side - 1) / 2.0 for side in self.volume_shape]

    def __call__(self, volume, seed):
        """Returns a changed copy of `volume`, (x, y, z) float32 in [0, 1]; `seed` is two integers."""
        seeds = tf.unstack(tf.random.split(seed, 4))
        volume = self._move(volume, seeds[0])
        volume = volume * tf.exp(self._log_gain(seeds[1]))
        if self.settings.noise:
            deviation = tf.random.stateless_uniform([], seeds[2], 0.0, self.settings.noise)
            volume += deviation * tf.random.stateless_normal(self.volume_shape, seeds[3])
        return tf.clip_by_value(volume, 0.0, 1.0)

    def _move(self, volume, seed):
        settings = self.settings
        draws = tf.random.stateless_uniform([8], seed, -1.0, 1.0)
        moves = settings.shift or settings.rotation or settings.scaling
        if moves:
            matrix = _rotation(draws[:3] * (settings.rotation * math.pi / 180.0))
            matrix *= tf.exp(-draws[3] * math.log1p(settings.scaling))
            volume = self._sample(volume, matrix, draws[4:7] * settings.shift)
        if settings.flip:
            volume = tf.where(draws[7] > 0.0, tf.reverse(volume, [0]), volume)
        return volume

    def _sample(self, volume, matrix, shift):
        """Returns `volume` with its content moved by `shift`, then turned by the inverse of `matrix`; 0 outside.

        In mm from the middle: what is at `matrix @ point - shift` comes to lie at `point`.
        """
        zooms = tf.constant(self.zooms)
        # From voxels of the result to voxels of the input.
        matrix = matrix * zooms[None, :] / zooms[:, None]
        offset = tf.constant(self.middle) - tf.linalg.matvec(matrix, tf.constant(self.middle)) - shift / zooms
        axes = [tf.range(side, dtype=tf.float32) for side in self.volume_shape]
        lower, weight = [], []
        for row in range(3):
            # Sums of three vectors, broadcast over the grid, instead of a matrix product over all its points.
            point = (
                (matrix[row, 0] * axes[0] + offset[row])[:, None, None]
                + (matrix[row, 1] * axes[1])[None, :, None]
                + (matrix[row, 2] * axes[2])[None, None, :]
            )
            # The volume is padded by one voxel of zeros, into which all points outside fall.
            point = tf.clip_by_value(point + 1.0, 0.0, self.volume_shape[row] + 1.0)
            floor = tf.minimum(tf.floor(point), self.volume_shape[row])
            lower.append(tf.cast(floor, tf.int32))
            weight.append(point - floor)
        padded = tf.pad(volume, [[1, 1]] * 3)
        _, stride_x, stride_y = (side + 2 for side in self.volume_shape)
        strides = (stride_x * stride_y, stride_y, 1)
        flat = tf.reshape(tf.stack([padded, *_second_differences(padded)], axis=-1), [-1, 4])
        base = lower[0] * strides[0] + lower[1] * strides[1] + lower[2]
        weight = [values[..., None] for values in weight]

        def corner(x, y, z):
            return tf.gather(flat, base + (x * strides[0] + y * strides[1] + z))

        along_z = [[corner(x, y, 0) + weight[2] * (corner(x, y, 1) - corner(x, y, 0)) for y in (0, 1)] for x in (0, 1)]
        along_y = [row[0] + weight[1] * (row[1] - row[0]) for row in along_z]
        linear = along_y[0] + weight[0] * (along_y[1] - along_y[0])
        # Bessel's formula: linear interpolation, less what it flattens along each axis.
        bent = tf.concat([values * (1.0 - values) * 0.5 for values in weight], axis=-1)
        return linear[..., 0] - tf.reduce_sum(bent * linear[..., 1:], axis=-1)

    def _log_gain(self, seed):
        """Returns the log of a smooth gain field: a constant and the lowest cosines along each axis."""
        settings = self.settings
        draws = tf.random.stateless_uniform([7], seed, -1.0, 1.0)
        field = tf.reshape(draws[0] * math.log1p(settings.intensity), [1, 1, 1])
        if settings.bias_field:
            for axis, side in enumerate(self.volume_shape):
                phase = math.pi * (tf.range(side, dtype=tf.float32) + 0.5) / side
                wave = draws[1 + 2 * axis] * tf.cos(phase) + draws[2 + 2 * axis] * tf.cos(2.0 * phase)
                shape = [side if other == axis else 1 for other in range(3)]
                # Six waves of a third each: two fields in three stay below the largest change, none passes its square.
                field += tf.reshape(wave * math.log1p(settings.bias_field) / 3.0, shape)
        return field


def _second_differences(volume):
    """Returns the three second differences of `volume` (x, y, z), one for each axis; its border counts as repeated."""
    differences = []
    for axis in range(3):
        before, after = [[0, 0]] * 3, [[0, 0]] * 3
        before[axis], after[axis] = [1, 0], [0, 1]
        step = tf.experimental.numpy.diff(volume, axis=axis)
        differences.append(tf.pad(step, after) - tf.pad(step, before))
    return differences


def _rotation(angles):
    """Returns the (3, 3) rotation by `angles` (radians) about x, then y, then z."""
    cos, sin = tf.cos(angles), tf.sin(angles)
    one, zero = tf.ones([]), tf.zeros([])
    about_x = tf.stack([one, zero, zero, zero, cos[0], -sin[0], zero, sin[0], cos[0]])
    about_y = tf.stack([cos[1], zero, sin[1], zero, one, zero, -sin[1], zero, cos[1]])
    about_z = tf.stack([cos[2], -sin[2], zero, sin[2], cos[2], zero, zero, zero, one])
    x, y, z = (tf.reshape(matrix, [3, 3]) for matrix in (about_x, about_y, about_z))
    return z @ y @ x
