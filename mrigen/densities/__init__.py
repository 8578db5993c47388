"""Where the latents of samples are drawn from: the prior of a VAE, or a density fitted on the training people's."""

from mrigen.densities.base import Density, PriorDensity
from mrigen.densities.choice import DENSITIES, MOST_LATENTS, choose_density, posterior_draws
from mrigen.densities.fitted import GaussianDensity, MixtureDensity, Whitening
from mrigen.densities.trained import FlowDensity, TwoStageDensity

__all__ = [
    "DENSITIES",
    "MOST_LATENTS",
    "Density",
    "FlowDensity",
    "GaussianDensity",
    "MixtureDensity",
    "PriorDensity",
    "TwoStageDensity",
    "Whitening",
    "choose_density",
    "posterior_draws",
]
