"""Posterior collapse in numbers: how many latent variables can say something, how many do, and what to do about it."""

import dataclasses

import numpy as np

# A latent variable is active when its posterior mean varies between people by more than this.
ACTIVE_VARIANCE = 0.01
# A model with a smaller share of active latent variables has collapsed.
COLLAPSED_SHARE = 0.05
# Variance of rounding an intensity in [0, 1] to a byte: no decoder can be surer than this.
ROUNDING_VARIANCE = 1.0 / 12.0 / 255.0**2
REMEDY = "Use model.objective=elbo with decoder_sigma=optimal and beta=1."


@dataclasses.dataclass(frozen=True)
class Forecast:
    """How many latent variables can stay active.

    Attributes:
        num_directions: of the principal directions of the data, those that pay for their KL; at most `latent_size`.
        latent_size: latent variables of the model.
        num_people: people whose spectrum it is; they span one direction less.
        decoder_variance: of one voxel, that the objective amounts to.
        critical_variance: the decoder variance from which on nothing survives: the largest variance of the data along
            one direction, over beta.
    """

    num_directions: int
    latent_size: int
    num_people: int
    decoder_variance: float
    critical_variance: float

    @property
    def is_limited_by_people(self) -> bool:
        """Whether more people could show more directions."""
        return self.num_directions == self.num_people - 1 < self.latent_size

    def in_words(self) -> str:
        """Returns the forecast as one sentence."""
        at_least = "at least " if self.is_limited_by_people else ""
        share = self.decoder_variance / self.critical_variance
        return (
            f"about {at_least}{self.num_directions} of {self.latent_size} latent variables can stay active "
            f"(decoder variance {self.decoder_variance:.3g}, {share:.2g} times the largest at which one does; "
            f"spectrum of {self.num_people} people)"
        )


def forecast_active(
    variances: np.ndarray,
    num_people: int,
    num_voxels: int,
    latent_size: int,
    objective: str = "elbo",
    decoder_sigma: float | str = "optimal",
    beta: float = 1.0,
) -> Forecast:
    """Returns how many latent variables a VAE can keep active, by the theory of the linear one.

    There a latent variable survives along a principal direction if, and only if, the variance of the data along it is
    larger than beta times the decoder's variance. That variance is what the objective says: a fixed number; for the
    paper's objective half the number of voxels; where it is fitted to the residual, what the other directions leave,
    found by going round until it stays. A deep network does a little more, augmentation adds directions.

    Args:
        variances: of the data along its principal directions, largest first; sums over voxels (eigenvalues of the
            covariance of volumes in [0, 1]).
        num_people: on whom they were found.
        num_voxels: of a volume.
        latent_size: latent variables.
        objective, decoder_sigma, beta: as in the recipe.

    Example:
        >>> forecast_active(np.array([9.0, 4.0, 1.0, 0.1]), 5, 1000, 8, decoder_sigma=1.5).num_directions
        2

    References:
        Lucas et al. 2019, Don't blame the ELBO! A linear VAE perspective on posterior collapse, section 4.
        Dai et al. 2018, Connections with robust PCA and the role of emergent sparsity in variational autoencoders.
    """
    variances = np.asarray(variances, dtype=np.float64)
    if objective == "paper":
        decoder_variance, beta = num_voxels / 2.0, 1.0
        count = int((variances > decoder_variance).sum())
    elif isinstance(decoder_sigma, str):
        count = min(latent_size, len(variances))
        while True:
            # Along a direction that survives, beta times the decoder's variance is left over as well.
            free = max(num_voxels - beta * count, 1.0)
            decoder_variance = max(variances[count:].sum() / free, ROUNDING_VARIANCE)
            survivors = int((variances[:count] > beta * decoder_variance).sum())
            if survivors == count:
                break
            count = survivors
    else:
        decoder_variance = float(decoder_sigma) ** 2
        count = int((variances > beta * decoder_variance).sum())
    return Forecast(
        num_directions=min(count, latent_size),
        latent_size=latent_size,
        num_people=num_people,
        decoder_variance=float(decoder_variance),
        critical_variance=float(variances[0] / max(beta, np.finfo(float).tiny)),
    )


def count_active(locations: np.ndarray) -> int:
    """Returns how many latent variables tell people apart; `locations` (people, latent) are the posterior means."""
    return int((np.asarray(locations).var(axis=0) > ACTIVE_VARIANCE).sum())


def has_collapsed(num_active: int, latent_size: int) -> bool:
    """Whether so few latent variables are active that the latents say next to nothing.

    Example:
        >>> has_collapsed(3, 64), has_collapsed(4, 64)
        (True, False)
    """
    return num_active < COLLAPSED_SHARE * latent_size


def describe_collapse(num_active: int, latent_size: int) -> str:
    """Returns a collapse in words, with the remedy."""
    return (
        f"The posterior collapsed: {num_active} of {latent_size} latent variables are active. The latents say next to "
        f"nothing about the people. {REMEDY}"
    )
