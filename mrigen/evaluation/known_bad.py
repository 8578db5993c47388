"""Heads that are bad in a known way and look almost real: a classifier that cannot tell these says nothing."""

import numpy as np
from scipy import fft, ndimage

from mrigen.evaluation.contenders import quantised

# Standard deviation of the blur, voxels.
HALF_A_VOXEL = 0.5
# Standard deviation, voxels, of the blur of the map that says where noise is how strong.
ENVELOPE = 1.0


def softened(volumes: np.ndarray, sigma: float = HALF_A_VOXEL) -> np.ndarray:
    """Returns volumes (n, x, y, z) under a Gaussian of `sigma` voxels along each axis."""
    return quantised(np.stack([ndimage.gaussian_filter(volume, sigma, mode="nearest") for volume in volumes]))


def with_shaped_noise(drawn: np.ndarray, taught: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns drawn volumes with Gaussian noise that has the power which they lack.

    At each spatial frequency the noise has the power by which real heads differ more among themselves than the drawn
    ones do, and in the head it is as much stronger than in the air as real heads differ more there: a figure that
    looks at power spectra alone takes the result for real.

    Args:
        drawn: (n, x, y, z), two or more.
        taught: (m, x, y, z) of real heads, two or more.
        seed: of the noise.
    """
    shape, axes = drawn.shape[1:], (0, 1, 2)
    amplitude = np.sqrt(np.maximum(_power(taught) - _power(drawn), 0.0))
    envelope = ndimage.gaussian_filter(taught.std(axis=0), ENVELOPE, mode="nearest")
    envelope /= max(float(np.sqrt((envelope**2).mean())), 1e-9)
    generator, noisy = np.random.default_rng([seed, 4]), np.empty(drawn.shape, np.float32)
    for index, volume in enumerate(drawn):
        white = fft.rfftn(generator.standard_normal(shape, dtype=np.float32), axes=axes)
        noise = fft.irfftn(white * (amplitude / np.sqrt(np.prod(shape))), shape, axes=axes)
        noisy[index] = quantised(volume + envelope * noise)
    return noisy


def _power(volumes: np.ndarray) -> np.ndarray:
    """Returns the variance of each Fourier coefficient over volumes (n, x, y, z), real transform."""
    mean, total = volumes.mean(axis=0), 0.0
    for volume in volumes:
        total = total + np.abs(fft.rfftn(volume - mean)) ** 2
    return total / max(len(volumes) - 1, 1)
