"""Fluid, grey and white matter of a brain image, by its intensities alone."""

import dataclasses
import warnings

import numpy as np

# From dark to bright, as a T1 shows them.
TISSUES = ("fluid", "grey matter", "white matter")
# So many quantiles of the intensities of a brain stand for all of its voxels.
NUM_QUANTILES = 2048
# Where the search for dark, grey and white begins: quantiles of the intensities.
STARTS = (0.05, 0.4, 0.8)
FEWEST_VOXELS = 100


@dataclasses.dataclass(frozen=True)
class Tissues:
    """Three Gaussians of a brain's intensities, one for each of `TISSUES`.

    Attributes:
        means, deviations, shares: (3,) each.

    References:
        Ashburner and Friston 2005, Unified segmentation, NeuroImage 26(3): intensities of tissues as such a mixture.
    """

    means: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray

    @property
    def separation(self) -> float:
        """How far grey and white lie from each other, in standard deviations (their root mean square).

        References:
            Ashman, Bird and Zepf 1994, Detecting bimodality in astronomical datasets, Astron. J. 108 (D).
        """
        spread = np.sqrt(np.square(self.deviations[1:]).mean())
        return float((self.means[2] - self.means[1]) / spread)

    @property
    def white_share(self) -> float:
        """White matter's share of grey and white."""
        return float(self.shares[2] / self.shares[1:].sum())

    @property
    def boundary(self) -> float:
        """The intensity halfway from grey to white."""
        return float(self.means[1:].mean())


def find_tissues(values: np.ndarray) -> Tissues | None:
    """Returns the tissues of a brain; None where there is none, or no contrast in it.

    Of 60 people of `ixi-hh` at 4 mm, shares of grey matter go with those of DLMUSE with a correlation of .48; those of
    Gaussians of one width, which begin where those of all people end, with .06.

    Args:
        values: (voxels,) its intensities.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(values) < FEWEST_VOXELS or not np.ptp(values) > 0.0:
        return None
    # Quantiles between those of the sample, so that steps of 1 / 255 make no cliffs.
    points = np.quantile(values, (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES)
    spread = points.std()
    if not spread > 0.0:
        return None
    scaled = ((points - points.mean()) / spread)[:, None]
    model = GaussianMixture(
        3,
        tol=1e-4,
        max_iter=300,
        reg_covar=1e-3,
        weights_init=[0.1, 0.5, 0.4],
        means_init=np.quantile(scaled, STARTS)[:, None],
        precisions_init=np.full((3, 1, 1), 4.0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled)
    order = np.argsort(model.means_[:, 0])
    return Tissues(
        points.mean() + spread * model.means_[order, 0],
        spread * np.sqrt(model.covariances_[order, 0, 0]),
        model.weights_[order],
    )
