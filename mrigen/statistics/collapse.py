"""Posterior collapse in numbers: how many latent variables can say something, how many do, and what to do about it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

# A latent variable is active when its posterior mean varies between people by more than this.
ACTIVE_VARIANCE = 0.01
# A model with a smaller share of active latent variables has collapsed.
COLLAPSED_SHARE = 0.05
# Variance of rounding an intensity in [0, 1] to a byte: no decoder can be surer than this.
ROUNDING_VARIANCE = 1.0 / 12.0 / 255.0**2
# Training steps before which latents that say nothing may only not have begun to, and nats that are no capacity.
FEW_STEPS = 500
LEAST_CAPACITY = 10.0


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


def least_active(latent_size: int, num_people: int | None = None) -> float:
    """Returns how many latent variables have to be active, or else the model has collapsed.

    Args:
        latent_size: latent variables.
        num_people: training people, who differ in one direction fewer than they are; None where that is not known.
    """
    return COLLAPSED_SHARE * (latent_size if num_people is None else min(latent_size, max(num_people - 1, 1)))


def has_collapsed(num_active: int, latent_size: int, num_people: int | None = None) -> bool:
    """Whether so few latent variables are active that the latents say next to nothing; see `least_active`.

    Example:
        >>> has_collapsed(3, 64), has_collapsed(4, 64)
        (True, False)
        >>> has_collapsed(104, 3360), has_collapsed(104, 3360, num_people=90)
        (True, False)
    """
    return num_active < least_active(latent_size, num_people)


def describe_collapse(num_active: int, latent_size: int, advice: str = "") -> str:
    """Returns a collapse in words, with what to do about it."""
    return (
        f"The posterior collapsed: {num_active} of {latent_size} latent variables are active. The latents say next to "
        f"nothing about the people. {advice}"
    ).rstrip()


def collapse_of_figures(metrics: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns active and all latent variables of the figures of a run (metrics.json) where it has collapsed, or None;
    None for an autoencoder, too, which has no posterior."""
    active, size = metrics.get("active_units"), metrics.get("latent_dim")
    if metrics.get("kl_nats") is None or active is None or not size:
        return None
    num_people = metrics.get("num_subjects", {}).get("train")
    return (int(active), int(size)) if has_collapsed(int(active), int(size), num_people) else None


@dataclasses.dataclass(frozen=True)
class Course:
    """How far the training of a model came.

    Attributes:
        epochs: that were done. best_epoch: from 1, that whose weights were kept.
        steps: of one epoch; None where that is not known.
        num_active: latent variables that were active in the end.
    """

    epochs: int
    best_epoch: int
    steps: int | None = None
    num_active: int = 0

    @classmethod
    def of(cls, recipe: Any, metrics: Mapping[str, Any]) -> "Course":
        """Returns that of a finished run: its recipe and metrics.json."""
        people, epochs = metrics.get("num_subjects", {}).get("train"), metrics.get("epochs", recipe.training.epochs)
        steps = None if not people else max(1, people // recipe.training.batch_size)
        return cls(epochs, metrics.get("best_epoch", epochs), steps, metrics.get("active_units") or 0)

    @property
    def is_short(self) -> bool:
        """Whether it had so few steps that latents may only not have begun to speak."""
        return self.steps is not None and self.epochs * self.steps < FEW_STEPS

    def is_rising(self, planned: int) -> bool:
        """Whether it was still getting better when its epochs were over."""
        return self.epochs >= planned and self.best_epoch > 0.9 * planned


def advise(recipe: Any, course: Course | None = None, forecast: Forecast | None = None) -> str:
    """Returns what to do about latents that say next to nothing, in this situation: one or two sentences.

    What the recipe has already is not advised, nor what cannot help there. First comes what in the objective makes
    latents cost more than they can pay for, then how far training came, then what makes it easier to begin.

    Args:
        recipe: of the model.
        course: how far the training came; None before it.
        forecast: of the recipe; where it leaves room for more than is active, the objective is not at fault.
    """
    num_active = 0 if course is None else course.num_active
    has_room = course is not None and forecast is not None and forecast.num_directions > num_active + 1
    settings = advise_on_settings(recipe.model, has_room)
    if settings:
        return settings
    if forecast is not None and not has_room:
        return _advise_on_data(forecast)
    if course is None:
        return "Take more people, or a finer grid."
    training, planned = recipe.training, recipe.training.epochs
    said = ""
    if course.epochs < planned:
        said = f"The fit ended after {course.epochs} of {planned} epochs"
        if training.on_collapse == "stop":
            said += ": use `training.on_collapse=warn` to let it go on"
        said += ". "
        if course.is_short:
            return said.rstrip()
    elif course.is_short:
        return f"It was trained for {planned * course.steps} steps only: raise `training.epochs` (now {planned})."
    if not training.kl_warmup_epochs and planned >= 10:
        return f"{said}Use `training.kl_warmup_epochs={planned // 10}`, so that latents cost nothing to begin with."
    if getattr(recipe.model, "objective", "elbo") in ("elbo", "mmd") and not getattr(recipe.model, "free_bits", 1.0):
        return f"{said}Use `model.free_bits=0.1`, so that each latent variable has something that costs nothing."
    return f"{said}Take more people or fewer latent variables, or lower `training.learning_rate`."


def advise_on_settings(model: Any, has_room: bool = False) -> str:
    """Returns which keys of a model to set, of those by which latents cost more than in an ELBO with a fitted noise;
    "" where none does.

    Args:
        model: of a recipe.
        has_room: whether the forecast leaves room for more, so that neither noise nor beta is at fault.
    """
    settings = _costly_settings(model, has_room)
    if not settings:
        return ""
    return f"Use {' and '.join(f'`{name}={value}`' for name, value in settings.items())}."


def _costly_settings(model: Any, has_room: bool) -> dict[str, Any]:
    objective, sigma = getattr(model, "objective", "elbo"), getattr(model, "decoder_sigma", "optimal")
    settings: dict[str, Any] = {}
    if objective == "paper":
        settings["model.objective"] = "elbo"
    if objective == "capacity" and model.capacity_nats < LEAST_CAPACITY:
        settings["model.capacity_nats"] = 100
    if objective == "tc" and model.tc_weight > 1.0:
        settings["model.tc_weight"] = 1
    if has_room and objective != "paper":
        return settings
    if not isinstance(sigma, str):
        settings["model.decoder_sigma"] = "learned" if getattr(model, "likelihood", "") == "student" else "optimal"
    if getattr(model, "beta", 1.0) > 1.0:
        settings["model.beta"] = 1
    return settings


def _advise_on_data(forecast: Forecast) -> str:
    count = forecast.num_directions
    if forecast.is_limited_by_people:
        return (
            f"{forecast.num_people} people differ in {count} directions at most: take more, or fewer latent variables."
        )
    if count:
        return (
            f"The people differ in {count} directions by more than the noise of a voxel: take more people or a finer "
            f"grid, or use `model.latent_dim={count}`."
        )
    return (
        "The people differ in no direction by more than the noise of a voxel: look at the images, or take more people."
    )
