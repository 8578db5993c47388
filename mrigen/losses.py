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


def predictability(z, targets, ridge: float = 1.0):
    """Returns the share of the targets' variance that ridge regression on latents explains, from 0 to 1, a scalar.

    Args:
        z: (n, latent). targets: (n, columns); rows of zeros are unknown, and do not count.
        ridge: penalty, as a multiple of the number of people: for standardised, uncorrelated latents it halves the
            effects, so that chance agreement of many latents with few people counts for little.

    Example: latents that are independent of the targets give about 0, one latent that equals them about 1/2.
    """
    known = tf.cast(tf.reduce_any(targets != 0.0, axis=-1, keepdims=True), tf.float32)
    count = tf.maximum(tf.reduce_sum(known), 1.0)
    z, targets = ((values - tf.reduce_sum(known * values, axis=0) / count) * known for values in (z, targets))
    # Held still: latents shall not hide by growing. Those that vary less than under the prior stay as they are: latents
    # that hardly vary yet are not to be kept from beginning to, and in units of their own the gradient is the larger
    # the smaller they are.
    variances = tf.reduce_sum(tf.square(z), axis=0) / count
    z *= tf.stop_gradient(tf.math.rsqrt(tf.maximum(variances, 1.0)))
    gram = tf.matmul(z, z, transpose_b=True)
    # The residuals of ridge regression, in its dual form: as large as there are people, not latents.
    inner = tf.linalg.solve(gram + ridge * count * tf.eye(tf.shape(z)[0]), tf.matmul(gram, targets))
    return tf.reduce_sum(targets * inner) / tf.maximum(tf.reduce_sum(tf.square(targets)), 1e-6)


def mean_discrepancy(one, other, weights=None):
    """Returns the unbiased squared maximum mean discrepancy of two samples, with inverse multiquadratic kernels.

    Seven kernels of widths around that of a standard normal are summed, so the value depends little on the scale.

    Args:
        one, other: (n, latent) and (n, latent), n >= 2; of a single row each the discrepancy is 0.
        weights: (n,), 0 for rows of both that do not count, else 1; None where all count.

    References:
        Tolstikhin et al. 2018, Wasserstein auto-encoders, section 4.
    """
    weights = tf.ones([tf.shape(one)[0]]) if weights is None else tf.cast(weights, tf.float32)
    # What a point has in common with itself is the same in both, and no estimate of anything.
    pairs = tf.linalg.set_diag(weights[:, None] * weights[None], tf.zeros_like(weights))
    distances = [_squared_distances(*points) for points in ((one, one), (other, other), (one, other))]
    total = 0.0
    for width in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        constant = 2.0 * one.shape[-1] * width
        within, within_other, between = (tf.reduce_sum(pairs * constant / (constant + part)) for part in distances)
        total += within + within_other - 2.0 * between
    return total / tf.maximum(tf.reduce_sum(pairs), 1.0)


def _squared_distances(one, other):
    squares = tf.reduce_sum(tf.square(one), axis=-1)[:, None] + tf.reduce_sum(tf.square(other), axis=-1)[None]
    return tf.nn.relu(squares - 2.0 * tf.matmul(one, other, transpose_b=True))
