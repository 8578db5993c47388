"""Volumes of fluid, grey and white matter by a mixture of three Gaussians in a T1's brain."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# From dark to bright, as a T1 shows them.
TISSUES = ("fluid", "grey matter", "white matter")
# Voxels of a head that its mixture is fitted on, at most; and the fewest.
MOST_VOXELS, FEWEST_VOXELS = 20000, 100


class TissueMixture:
    """A mixture of three Gaussians of one width, which begins where that of real people ended.

    Args:
        volumes: (n, x, y, z) of real people.
        brains: (n, x, y, z) bool.

    References:
        Ashburner and Friston 2005, Unified segmentation, NeuroImage 26(3): intensities of tissues as such a mixture.
    """

    def __init__(self, volumes: np.ndarray, brains: np.ndarray):
        some = [_thinned(volume[brain], MOST_VOXELS // 10) for volume, brain in zip(volumes, brains, strict=True)]
        pooled = np.concatenate(some) if some else np.zeros(0)
        self._start = None
        if len(pooled) >= FEWEST_VOXELS and np.ptp(pooled) > 1e-3:
            means = np.quantile(pooled, (0.1, 0.5, 0.9))
            self._start = _fit(pooled, GaussianMixture(3, covariance_type="tied", means_init=means[:, None]))

    def shares(self, volume: np.ndarray, brain: np.ndarray) -> np.ndarray:
        """Returns the share (3,) of the brain that each of `TISSUES` takes; nan where nothing can be told.

        Args:
            volume: (x, y, z).
            brain: (x, y, z) bool.
        """
        values = _thinned(volume[brain], MOST_VOXELS)
        if self._start is None or len(values) < FEWEST_VOXELS or np.ptp(values) < 1e-3:
            return np.full(3, np.nan)
        start = self._start
        mixture = GaussianMixture(
            3,
            covariance_type="tied",
            means_init=start.means_,
            weights_init=start.weights_,
            precisions_init=np.linalg.inv(start.covariances_),
            max_iter=50,
        )
        mixture = _fit(values, mixture)
        return mixture.weights_[np.argsort(mixture.means_.ravel())]


def _thinned(values, most):
    return values[:: max(1, len(values) // most)]


def _fit(values, mixture):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(values[:, None].astype(float))
