"""Loss terms as pure functions: sums over voxels, in nats per subject, float32."""

import math

import tensorflow as tf

LOG_TWO_PI = math.log(2.0 * math.pi)


def squared_error(volumes, reconstruction):
    """Returns the squared error of each volume, summed over its voxels; (batch,) float32."""
    difference = tf.cast(volumes, tf.float32) - tf.cast(reconstruction, tf.float32)
    return tf.reduce_sum(tf.square(difference), axis=list(range(1, difference.shape.rank)))


def gaussian_nll(squared_error, num_voxels: int, sigma):
    """Returns -log N(x; reconstruction, sigma^2 I) in nats per subject.

    Args:
        squared_error: (batch,) sums over voxels.
        num_voxels: voxels of a volume.
        sigma: standard deviation of the decoder, intensity on the [0, 1] scale.

    Example: one voxel, no error and sigma = 1 give 0.5 log(2 pi) = 0.919 nats.
    """
    return 0.5 * squared_error / tf.square(sigma) + num_voxels * (tf.math.log(sigma) + 0.5 * LOG_TWO_PI)
