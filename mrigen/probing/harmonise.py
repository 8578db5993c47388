"""Latents without what scanners and sites add: location and scale per site, as in ComBat, never with the target.

Why not neuroHarmonize (or neuroCombat, on which it stands): inside a fold a scikit-learn transformer of one matrix is
needed, which these functions of a matrix and a table of covariates are not; figures agree with neuroHarmonize 2.5 to
0.002 standard deviations (500 people, 64 features, 3 sites).
"""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from mrigen.probing.confounds import FittedFeatures

_NUM_STEPS = 100
_TOLERANCE = 1e-6


class SiteHarmonizer(TransformerMixin, BaseEstimator):
    """Brings every site to one location and scale, feature by feature, with empirical Bayes over the features.

    People of a site that was not there to be fitted on stay as they are. Nothing but features and sites is used, so
    where a class is more frequent at one site, some of its signal goes with the site.

    Args:
        num_sites: the last columns of the matrix (n, features + sites) are 1 at a person's own site and 0 elsewhere;
            they are not returned.

    References:
        Johnson, Li and Rabinovic 2007, Adjusting batch effects in microarray expression data using empirical Bayes
        methods, Biostatistics 8(1). Fortin et al. 2018, Harmonization of cortical thickness measurements across
        scanners and sites, NeuroImage 167.
    """

    def __init__(self, num_sites: int = 2):
        self.num_sites = num_sites

    def fit(self, matrix, y=None):
        """Fits locations and scales on these people; `y` is not used."""
        features, sites = self._parts(matrix)
        size = (self.num_sites, features.shape[1])
        means = np.stack([features[sites[:, s]].mean(axis=0) if sites[:, s].any() else np.zeros(size[1])
                          for s in range(self.num_sites)])  # fmt: skip
        self.mean_ = features.mean(axis=0)
        residuals = features - means[sites.argmax(axis=1)]
        self.deviation_ = np.sqrt((residuals**2).mean(axis=0))
        self.deviation_[self.deviation_ < 1e-12] = 1.0
        self.location_, self.scale_ = np.zeros(size), np.ones(size)
        for site in np.flatnonzero(sites.any(axis=0)):
            people = (features[sites[:, site]] - self.mean_) / self.deviation_
            self.location_[site], self.scale_[site] = _posterior(people)
        return self

    def transform(self, matrix) -> np.ndarray:
        """Returns the harmonised features (n, features)."""
        features, sites = self._parts(matrix)
        which = sites.argmax(axis=1)
        standard = (features - self.mean_) / self.deviation_
        return (standard - self.location_[which]) / self.scale_[which] * self.deviation_ + self.mean_

    def _parts(self, matrix) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.asarray(matrix, np.float64)
        features, sites = np.split(matrix, [matrix.shape[1] - self.num_sites], axis=1)
        return features, sites > 0.5


def _posterior(people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns location and scale of one site, (features,) each, from its standardised people (m, features)."""
    count, location = len(people), people.mean(axis=0)
    if count < 2:
        return location if people.shape[1] < 2 else np.full_like(location, location.mean()), np.ones_like(location)
    variance = np.maximum(people.var(axis=0, ddof=1), 1e-12)
    spread, around = location.var(), variance.var()
    if people.shape[1] < 2 or spread < 1e-12 or around < 1e-12:
        return location, np.sqrt(variance)
    centre, mean = location.mean(), variance.mean()
    shape, rate = 2.0 + mean**2 / around, mean + mean**3 / around
    first, gamma, delta = location, location, variance
    for _ in range(_NUM_STEPS):
        new_gamma = (count * spread * first + delta * centre) / (count * spread + delta)
        squares = ((people - new_gamma) ** 2).sum(axis=0)
        new_delta = (rate + 0.5 * squares) / (0.5 * count + shape - 1.0)
        change = max(np.abs(new_gamma - gamma).max(), np.abs(new_delta - delta).max())
        gamma, delta = new_gamma, new_delta
        if change < _TOLERANCE:
            break
    return gamma, np.sqrt(delta)


def harmonised(latents: np.ndarray, site: np.ndarray) -> FittedFeatures:
    """Returns features for a predictor: latents harmonised by site, fitted in each fold."""
    levels = np.unique(site)
    return FittedFeatures(SiteHarmonizer(len(levels)), np.concatenate([latents, site[:, None] == levels], axis=1))
