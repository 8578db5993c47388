"""Vector fields on a grid: integrated, composed, measured and brought to a finer grid.

Inside, all displacements and velocities are in voxels of the grid they live on, along its axes x, y and z; a field u
stands for the map p -> p + u(p). Outside, in the world, a displacement in mm is u times the zooms, turned by the
rotation of the affine.
"""

import functools

import numpy as np
import tensorflow as tf

from mrigen.layers.warping import warp


def compose_displacements(outer, inner):
    """Returns the displacement of p -> outer map of (inner map of p), (batch, x, y, z, 3) in voxels.

    `warp(warp(volume, outer), inner)` is `warp(volume, compose_displacements(outer, inner))`, to interpolation.
    """
    return inner + warp(outer, inner)


def integrate_velocity(velocity, steps: int = 6):
    """Returns the displacement after one unit of time in a velocity field that does not change, by scaling and
    squaring: a map that is smooth and, where the field is, without folds.

    Args:
        velocity: (batch, x, y, z, 3) in voxels for a unit of time.
        steps: squarings; the first step is 2^-steps units of time.

    References:
        Arsigny et al. 2006, A log-Euclidean framework for statistics on diffeomorphisms, section 3.2.
        Dalca et al. 2019, Unsupervised learning of probabilistic diffeomorphic registration, section 3.1.
    """
    displacement = tf.cast(velocity, tf.float32) / 2.0**steps
    for _ in range(steps):
        displacement = compose_displacements(displacement, displacement)
    return displacement


def jacobian_determinant(displacement):
    """Returns the factor by which p -> p + u(p) changes the volume around each voxel, (batch, x, y, z) float32.

    Central differences inside, one-sided ones at the edges. The factor has no unit and is the same in voxels as in mm;
    0 or less is a fold.

    Args:
        displacement: (batch, x, y, z, 3) in voxels.
    """
    displacement = tf.cast(displacement, tf.float32)
    columns = [tf.unstack(_slope(displacement, axis), axis=-1) for axis in (1, 2, 3)]
    (xx, yx, zx), (xy, yy, zy), (xz, yz, zz) = columns
    xx, yy, zz = 1.0 + xx, 1.0 + yy, 1.0 + zz
    return xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)


def bending(field):
    """Returns the sum of the squared second derivatives of each field, over voxels and components; (batch,) float32.

    What an affine map does costs nothing.

    Args:
        field: (batch, x, y, z, channels) in voxels.

    References:
        Rueckert et al. 1999, Nonrigid registration using free-form deformations, equation 6.
    """
    field = tf.cast(field, tf.float32)
    total = 0.0
    for first in (1, 2, 3):
        for second in range(first, 4):
            squares = tf.square(_step(_step(field, first), second))
            total += (1.0 if first == second else 2.0) * tf.reduce_sum(squares, axis=[1, 2, 3, 4])
    return total


def upsample(values, sides):
    """Returns `values` on a grid of other sides over the same extent, (batch, *sides, channels) float32: a cubic
    B-spline whose control points they are, smooth up to its curvature.

    Constants and linear functions come back exactly, also at the edges, where the control points go on in a straight
    line; whatever bends is smoothed a little. Voxel p of a side of n lies at (p + 1/2) m / n - 1/2 of a side of m.

    Args:
        values: (batch, x, y, z, channels), coarse.
        sides: (x, y, z) of the output in voxels, any.
    """
    values = tf.cast(values, tf.float32)
    x, y, z, channels = values.shape[1:].as_list()
    along_x, along_y, along_z = (spline_matrix(m, n) for m, n in zip((x, y, z), sides, strict=True))
    # Three matrix products without a transposition; the last one has a small identity in place of each number.
    values = tf.constant(along_x) @ tf.reshape(values, [-1, x, y * z * channels])
    values = tf.constant(along_y) @ tf.reshape(values, [-1, y, z * channels])
    values = tf.reshape(values, [-1, z * channels]) @ tf.constant(np.kron(along_z, np.eye(channels, dtype="f4")).T)
    return tf.reshape(values, [-1, *sides, channels])


def coarsen(values, sides):
    """Returns the control points (batch, *sides, channels) float32 of the spline that is nearest, by least squares, to
    that of `values` on a finer grid over the same extent; see `upsample`. Linear functions come back exactly.

    Args:
        values: (batch, x, y, z, channels). sides: (x, y, z) of the output, at most those of `values`.
    """
    values = tf.cast(values, tf.float32)
    along = (tf.constant(_nearest_spline(n, m)) for n, m in zip(values.shape[1:4], sides, strict=True))
    return tf.einsum("ax,by,cz,nxyzk->nabck", *along, values, optimize="optimal")


def upsample_displacement(displacement, sides):
    """Returns a displacement (batch, x, y, z, 3) on a grid of other sides, in voxels of that grid; see `upsample`."""
    factors = [fine / coarse for coarse, fine in zip(displacement.shape[1:4], sides, strict=True)]
    return upsample(displacement, sides) * tf.constant(factors)


@functools.cache
def spline_matrix(num_coarse: int, num_fine: int) -> np.ndarray:
    """Returns the matrix (num_fine, num_coarse) float32 from control points to a cubic B-spline; see `upsample`.

    Example: every row sums to one, so a constant stays what it is.
        >>> spline_matrix(3, 12).sum(axis=1).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    points = np.eye(num_coarse)
    # Two more control points at each end, in a straight line with the last two.
    start, end = -np.diff(points[:2], axis=0).sum(axis=0), np.diff(points[-2:], axis=0).sum(axis=0)
    points = np.stack([points[0] + 2 * start, points[0] + start, *points, points[-1] + end, points[-1] + 2 * end])
    places = (np.arange(num_fine) + 0.5) * num_coarse / num_fine - 0.5
    distances = np.abs(places[:, None] - np.arange(-2, num_coarse + 2))
    return (_cubic_spline(distances) @ points).astype(np.float32)


@functools.cache
def _nearest_spline(num_fine: int, num_coarse: int) -> np.ndarray:
    """Returns the matrix (num_coarse, num_fine) float32 from control points to fewer; see `coarsen`."""
    num_between = 8 * num_fine
    shown = spline_matrix(num_coarse, num_between).astype(np.float64)
    return (np.linalg.pinv(shown) @ spline_matrix(num_fine, num_between)).astype(np.float32)


def _cubic_spline(distances: np.ndarray) -> np.ndarray:
    near = 2 / 3 - distances**2 + distances**3 / 2
    return np.where(distances < 1, near, np.maximum(2 - distances, 0) ** 3 / 6)


def _step(values, axis: int):
    """Returns the differences of neighbours along an axis, one fewer than there are voxels."""
    before = (slice(None),) * axis
    return values[(*before, slice(1, None))] - values[(*before, slice(None, -1))]


def _slope(values, axis: int):
    """Returns the derivative along an axis for each voxel: central differences, one-sided at the edges."""
    steps = _step(values, axis)
    if steps.shape[axis] == 0:
        return tf.zeros_like(values)
    first, last = tf.gather(steps, [0], axis=axis), tf.gather(steps, [steps.shape[axis] - 1], axis=axis)
    return 0.5 * (tf.concat([first, steps], axis) + tf.concat([steps, last], axis))
