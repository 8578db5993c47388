"""Gaussians and mixtures of them for the aggregate posterior of the training people."""

import numpy as np
from scipy import special, stats

from mrigen.generation.densities.base import Density

# Mixtures of up to this many Gaussians are tried.
MOST_COMPONENTS = 8
# A Gaussian of more latents than this is not fitted: its covariance would take gigabytes.
MOST_LATENTS = 4096


class GaussianDensity(Density):
    """One Gaussian.

    Args:
        loc: (latent,). covariance: (latent, latent).

    References:
        Ghosh et al. 2020, From variational to deterministic autoencoders, section 4 (densities fitted afterwards).
    """

    name = "gaussian"

    def __init__(self, loc: np.ndarray, covariance: np.ndarray):
        self.loc = loc
        self.covariance = covariance
        self.factor = np.linalg.cholesky(covariance)

    @classmethod
    def fit(cls, loc: np.ndarray, scale: np.ndarray | None = None) -> "GaussianDensity":
        """Returns the Gaussian of people's posteriors, all together.

        Its covariance is that of the posterior means, shrunk where people are few, plus the mean posterior variance.

        Args:
            loc: posterior means (people, latent). scale: their standard deviations, of a VAE.

        References:
            Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices.
        """
        from sklearn.covariance import LedoitWolf

        fitted = LedoitWolf().fit(loc.astype(np.float64))
        within = 0.0 if scale is None else (scale.astype(np.float64) ** 2).mean(axis=0)
        within = np.broadcast_to(within + 1e-9, fitted.location_.shape)
        return cls(fitted.location_, fitted.covariance_ + np.diag(within))

    def draw_base(self, generator, temperature):
        return self.loc + temperature * (self.factor @ generator.standard_normal(len(self.loc)))

    def base_log_density(self, latents):
        return np.atleast_1d(stats.multivariate_normal.logpdf(latents, self.loc, self.covariance))


class Whitening:
    """The linear map from people's latents to variables that are uncorrelated and have variance 1.

    Of more than `MOST_LATENTS` variables only the principal components are kept, half as many as there are people; what
    is left out varies least, and then there is no density.

    Args:
        loc: (latent,). factor: (latent, k), from the white variables to deviations of the latents.
    """

    def __init__(self, loc: np.ndarray, factor: np.ndarray):
        self.loc = loc
        self.factor = factor
        self.inverse = factor / (factor**2).sum(axis=0)  # The columns are orthogonal.

    @classmethod
    def fit(cls, loc: np.ndarray, scale: np.ndarray | None = None) -> "Whitening":
        """Returns the map for the Gaussian of `GaussianDensity.fit`."""
        if loc.shape[1] <= MOST_LATENTS:
            gaussian = GaussianDensity.fit(loc, scale)
            values, vectors = np.linalg.eigh(gaussian.covariance)
            return cls(gaussian.loc, vectors[:, ::-1] * np.sqrt(values[::-1]))
        middle = loc.mean(axis=0, dtype=np.float64)
        _, values, vectors = np.linalg.svd(loc - middle, full_matrices=False)
        count = max(1, len(loc) // 2)
        return cls(middle, vectors[:count].T * values[:count] / np.sqrt(len(loc) - 1.0))

    @property
    def is_invertible(self) -> bool:
        """Whether nothing is left out."""
        return self.factor.shape[0] == self.factor.shape[1]

    @property
    def log_volume(self) -> float:
        """log |det factor|."""
        return float(0.5 * np.log((self.factor**2).sum(axis=0)).sum())

    def to_white(self, latents: np.ndarray) -> np.ndarray:
        """Returns the white variables (n, k) of `latents` (n, latent)."""
        return (latents - self.loc) @ self.inverse

    def to_latents(self, white: np.ndarray) -> np.ndarray:
        """Returns the latents (n, latent) of `white` variables (n, k)."""
        return self.loc + white @ self.factor.T


class WhitenedDensity(Density):
    """A density over white variables. Subclasses give `draw_white` and `white_log_density`."""

    def __init__(self, whitening: Whitening):
        self.whitening = whitening

    def draw_base(self, generator, temperature):
        return self.whitening.to_latents(self.draw_white(generator, temperature)[None])[0]

    def base_log_density(self, latents):
        if not self.whitening.is_invertible:
            raise ValueError(f"latents: got {latents.shape[1]} variables, expected at most {MOST_LATENTS}.")
        return self.white_log_density(self.whitening.to_white(latents)) - self.whitening.log_volume


class MixtureDensity(WhitenedDensity):
    """A mixture of Gaussians with diagonal covariances, over the whitened latents.

    Args:
        whitening: of the latents.
        weights: (n,). means, deviations: (n, k), of the Gaussians.
    """

    name = "gmm"

    def __init__(self, whitening: Whitening, weights: np.ndarray, means: np.ndarray, deviations: np.ndarray):
        super().__init__(whitening)
        self.weights = weights
        self.means = means
        self.deviations = deviations

    @classmethod
    def fit(
        cls, loc: np.ndarray, scale: np.ndarray | None, draws: np.ndarray, validation: np.ndarray, seed: int = 0
    ) -> "MixtureDensity":
        """Returns the mixture, of as many Gaussians as make the validation people likeliest (without any: as the
        Bayesian information criterion finds best).

        Args:
            loc, scale: of the training people's posteriors, scale None for an autoencoder.
            draws: from them, (n, latent).
            validation: draws from those of validation people, (n, latent).
            seed: of the starts.
        """
        from sklearn.mixture import GaussianMixture

        whitening = Whitening.fit(loc, scale)
        white, others = whitening.to_white(draws), whitening.to_white(validation)
        candidates = [
            GaussianMixture(count, covariance_type="diag", reg_covar=1e-3, random_state=seed).fit(white)
            for count in range(1, min(MOST_COMPONENTS, len(loc) // 10 or 1) + 1)
        ]
        best = max(candidates, key=lambda one: one.score(others) if len(others) else -one.bic(white))
        return cls(whitening, best.weights_, best.means_, np.sqrt(best.covariances_))

    def draw_white(self, generator, temperature):
        component = generator.choice(len(self.weights), p=self.weights)
        noise = generator.standard_normal(self.means.shape[1])
        return self.means[component] + temperature * self.deviations[component] * noise

    def white_log_density(self, white):
        log_density = stats.norm.logpdf(white[:, None], self.means, self.deviations).sum(axis=-1)
        return special.logsumexp(log_density + np.log(self.weights), axis=1)
