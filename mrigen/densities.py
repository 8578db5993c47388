"""Where samples are drawn from: the prior of a VAE, or a density fitted on the latents of the training people."""

import abc

import numpy as np
from scipy import stats

from mrigen.errors import UsageError
from mrigen.models import LatentModel, VariationalAutoencoder
from mrigen.runs import Run

DENSITIES = ("auto", "prior", "gaussian", "mixture")
# A Gaussian of more latents than this is only fitted where it is asked for: its covariance would take gigabytes.
MOST_LATENTS = 4096
# Mixtures up to this many components are tried; the Bayesian information criterion chooses.
MOST_COMPONENTS = 8


def choose_density(run: Run, model: LatentModel, name: str = "auto", seed: int = 0) -> "Density":
    """Returns the density that latents are drawn from.

    "auto" takes, for a VAE, whichever of prior and Gaussian gives the latents of validation people the higher
    likelihood: the people of a trained VAE rarely lie where its prior does. For an autoencoder it takes the mixture.

    Args:
        run: a finished run. model: its model.
        name: "auto", "prior", "gaussian" or "mixture".
        seed: of the fit of a mixture.

    Raises:
        UsageError: no such density, or a prior of a model without one.
    """
    has_prior = isinstance(model, VariationalAutoencoder)
    if name not in DENSITIES or (name == "prior" and not has_prior):
        known = ", ".join(known for known in DENSITIES if has_prior or known != "prior")
        raise UsageError(f"--density: got {name}, expected one of {known} for kind {run.recipe.model.kind}. Set auto.")
    if name == "mixture" or (name == "auto" and not has_prior):
        return MixtureDensity.fit(run, seed)
    if name == "prior" or (name == "auto" and model.latent_size > MOST_LATENTS):
        return PriorDensity(model.latent_size)
    gaussian = GaussianDensity.fit(run)
    if name == "gaussian":
        return gaussian
    prior, validation = PriorDensity(model.latent_size), run.load_latents("validation")["loc"]
    if not len(validation) or prior.log_density(validation).mean() >= gaussian.log_density(validation).mean():
        return prior
    return gaussian


class Density(abc.ABC):
    """Where the latents of samples are drawn from."""

    name: str

    @abc.abstractmethod
    def draw(self, generator: np.random.Generator, temperature: float) -> np.ndarray:
        """Returns one latent vector (latent,) float32; `temperature` multiplies its deviation from the middle."""


class PriorDensity(Density):
    """The prior of a VAE, N(0, I) over `latent_size` variables."""

    name = "prior"

    def __init__(self, latent_size: int):
        self.latent_size = latent_size

    def draw(self, generator, temperature):
        return (temperature * generator.standard_normal(self.latent_size)).astype(np.float32)

    def log_density(self, latents: np.ndarray) -> np.ndarray:
        """Returns the log-density of `latents` (n, latent), (n,) nats."""
        return stats.norm.logpdf(latents.astype(np.float64)).sum(axis=1)


class GaussianDensity(Density):
    """One Gaussian for the aggregate posterior of the training people.

    Its covariance is that of the posterior means, shrunk where people are few, plus the mean posterior variance.

    References:
        Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices.
        Ghosh et al. 2020, From variational to deterministic autoencoders, section 4 (densities fitted afterwards).
    """

    name = "gaussian"

    def __init__(self, loc: np.ndarray, covariance: np.ndarray):
        self.loc = loc
        self.covariance = covariance
        self.factor = np.linalg.cholesky(covariance)

    @classmethod
    def fit(cls, run: Run) -> "GaussianDensity":
        """Returns the Gaussian fitted on the run's training people."""
        from sklearn.covariance import LedoitWolf

        latents = run.load_latents("train")
        fitted = LedoitWolf().fit(latents["loc"].astype(np.float64))
        within = (latents["scale"].astype(np.float64) ** 2).mean(axis=0) if "scale" in latents else 0.0
        return cls(
            fitted.location_, fitted.covariance_ + np.diag(np.broadcast_to(within + 1e-9, fitted.location_.shape))
        )

    def draw(self, generator, temperature):
        deviation = self.factor @ generator.standard_normal(len(self.loc))
        return (self.loc + temperature * deviation).astype(np.float32)

    def log_density(self, latents: np.ndarray) -> np.ndarray:
        """Returns the log-density of `latents` (n, latent), (n,) nats."""
        return np.atleast_1d(stats.multivariate_normal.logpdf(latents.astype(np.float64), self.loc, self.covariance))


class MixtureDensity(Density):
    """A Gaussian mixture over the training latents, in the space of their principal components.

    The components of the latents are capped at half the number of people, so that covariances can be estimated; what
    is left out varies least. The number of Gaussians is chosen by the Bayesian information criterion.
    """

    name = "gaussian-mixture"

    def __init__(self, pca, mixture):
        self.pca = pca
        self.mixture = mixture

    @classmethod
    def fit(cls, run: Run, seed: int = 0) -> "MixtureDensity":
        """Returns the mixture fitted on the run's training people."""
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        loc = run.load_latents("train")["loc"].astype(np.float64)
        pca = PCA(min(loc.shape[1], max(1, len(loc) // 2)), whiten=True, svd_solver="full").fit(loc)
        scores = pca.transform(loc)
        candidates = [
            GaussianMixture(count, covariance_type="diag", reg_covar=1e-4, random_state=seed).fit(scores)
            for count in range(1, min(MOST_COMPONENTS, len(loc) // 10 or 1) + 1)
        ]
        return cls(pca, min(candidates, key=lambda mixture: mixture.bic(scores)))

    def draw(self, generator, temperature):
        component = generator.choice(len(self.mixture.weights_), p=self.mixture.weights_)
        spread = np.sqrt(self.mixture.covariances_[component])
        scores = self.mixture.means_[component] + temperature * spread * generator.standard_normal(len(spread))
        return self.pca.inverse_transform(scores[None])[0].astype(np.float32)
