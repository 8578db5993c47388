"""Posteriors, priors and likelihoods as float32 Keras layers around TensorFlow Probability (its only import)."""

from mrigen.distributions.detail import DetailFlow
from mrigen.distributions.likelihoods import (
    LIKELIHOODS,
    GaussianLikelihood,
    LaplaceLikelihood,
    StudentLikelihood,
)
from mrigen.distributions.posteriors import (
    POSTERIORS,
    DiagonalGaussianPosterior,
    LowRankGaussianPosterior,
    diagonal_gaussian,
    pairwise_log_density,
)
from mrigen.distributions.priors import (
    PRIORS,
    FlowPrior,
    MixturePrior,
    NormalPrior,
    Prior,
    VampPrior,
    has_closed_form,
    kl_nats,
)

__all__ = [
    "LIKELIHOODS",
    "POSTERIORS",
    "PRIORS",
    "DetailFlow",
    "DiagonalGaussianPosterior",
    "FlowPrior",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "LowRankGaussianPosterior",
    "MixturePrior",
    "NormalPrior",
    "Prior",
    "StudentLikelihood",
    "VampPrior",
    "diagonal_gaussian",
    "has_closed_form",
    "kl_nats",
    "pairwise_log_density",
]
