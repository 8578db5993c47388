"""The spatial transformer: a volume read at displaced places, by linear interpolation."""

import tensorflow as tf


def warp(volumes, displacement):
    """Returns `volumes` moved by `displacement`: output(p) = volumes(p + displacement(p)), float32.

    Between voxels the interpolation is linear; beyond the edge the nearest voxel counts. One gather fetches each place
    with its eight corners, and the gradient in closed form comes from the same eight, so that a training step takes
    about half the time of eight gathers that are differentiated one by one.

    Args:
        volumes: (batch, x, y, z, channels), or a template for the whole batch: (1, x, y, z, channels) or
            (x, y, z, channels). Sides must be known when the graph is made.
        displacement: (batch, x, y, z, 3) in voxels of `volumes`, along x, y and z. In mm it is the displacement times
            the zooms, turned by the rotation of the affine.

    Returns:
        (batch, x, y, z, channels) float32; differentiable in both. The derivative by the displacement is that of the
        cell above the place, and 0 where the edge counts.

    References:
        Jaderberg et al. 2015, Spatial transformer networks, equation 5.
    """
    volumes = tf.cast(volumes, tf.float32)
    displacement = tf.cast(displacement, tf.float32)
    if volumes.shape.rank == 4:
        volumes = volumes[None]
    sides, channels = volumes.shape[1:4].as_list(), volumes.shape[-1]
    index, weights = 0, []
    for axis, (side, shift) in enumerate(zip(sides, tf.unstack(displacement, axis=-1), strict=True)):
        grid = tf.range(side, dtype=tf.float32)[(..., *[None] * (2 - axis))]
        place = tf.clip_by_value(shift + grid, 0.0, side - 1.0)
        lower = tf.floor(place)
        index = index * side + tf.cast(lower, tf.int32)
        weights.append(tf.reshape(place - lower, [-1]))
    num_voxels = sides[0] * sides[1] * sides[2]
    index = tf.clip_by_value(index, 0, num_voxels - 1)  # Where the displacement is no number, any place will do.
    if volumes.shape[0] != 1:
        index += num_voxels * tf.range(tf.shape(volumes)[0])[:, None, None, None]
    corners = tf.reshape(_stack_corners(volumes), [-1, 8 * channels])
    values = _interpolate(corners, tf.reshape(index, [-1]), *weights)
    moved = tf.reshape(tf.transpose(values), [-1, *sides, channels])
    moved.set_shape([displacement.shape[0], *sides, channels])
    return moved


def _stack_corners(volumes):
    """Returns each voxel with its upper neighbours, (batch, x, y, z, 8, channels); the edge is its own neighbour."""
    corners = [volumes]
    for axis, side in enumerate(volumes.shape[1:4], start=1):
        above = [min(place + 1, side - 1) for place in range(side)]
        corners = [shifted for corner in corners for shifted in (corner, tf.gather(corner, above, axis=axis))]
    return tf.stack(corners, axis=-2)


@tf.custom_gradient
def _interpolate(corners, index, *weights):
    """Returns what lies between the eight corners of each point, (channels, points).

    Args:
        corners: (voxels, 8 * channels), the eight corners of a voxel with x changing slowest.
        index: (points,) int32, the voxel below each point.
        weights: of x, y and z: (points,) each, from 0 at the voxel to 1 at its upper neighbour.
    """
    # A transposition of the rows is far faster than to take them apart with strided slices.
    points = tf.shape(index)[0]
    planes = tf.reshape(tf.transpose(tf.gather(corners, index)), [8, -1, points])
    slopes = []
    for weight in weights:
        lower, upper = tf.split(planes, 2)
        slopes = [*(_between(*tf.split(slope, 2), weight) for slope in slopes), upper - lower]
        planes = _between(lower, upper, weight)

    def gradient(upstream):
        shares = [upstream]
        for weight in reversed(weights):
            above = [weight * share for share in shares]
            shares = [share - part for share, part in zip(shares, above, strict=True)] + above
        # Sums of numbers are several times faster than sums of rows, and the same at each repetition.
        planes = [plane for share in shares for plane in tf.unstack(share, corners.shape[1] // 8)]
        num_voxels = tf.shape(corners)[0]
        to_corners = tf.stack([tf.math.unsorted_segment_sum(plane, index, num_voxels) for plane in planes], axis=-1)
        return to_corners, None, *(tf.reduce_sum(upstream * slope[0], axis=0) for slope in slopes)

    return planes[0], gradient


def _between(lower, upper, weight):
    return lower + weight * (upper - lower)
