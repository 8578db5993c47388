"""Where the latents of samples are drawn from: the prior of a VAE, or a density fitted on the training people's."""

from mrigen.generation.densities.base import Density, PriorDensity
from mrigen.generation.densities.choice import DENSITIES, MOST_LATENTS, choose_density, posterior_draws
from mrigen.generation.densities.fitted import GaussianDensity, MixtureDensity, Whitening
from mrigen.generation.densities.trained import FlowDensity, TwoStageDensity

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
