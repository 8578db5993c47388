"""Which density samples are drawn from."""

import hashlib

import numpy as np
import tensorflow as tf

from mrigen.data.covariates import Covariates
from mrigen.errors import UsageError
from mrigen.generation.densities.base import Density, PriorDensity
from mrigen.generation.densities.fitted import MOST_LATENTS, GaussianDensity, MixtureDensity
from mrigen.generation.densities.trained import FlowDensity, TrainedDensity, TwoStageDensity
from mrigen.models.base import LatentModel
from mrigen.runs import Run

FITTED = {"gmm": MixtureDensity, "flow": FlowDensity, "two-stage": TwoStageDensity}
DENSITIES = ("auto", "prior", "gaussian", *FITTED)
# Draws from each person's posterior, where a density is fitted on draws or judged by them.
DRAWS_A_PERSON = 8


def choose_density(
    run: Run, model: LatentModel, name: str = "auto", seed: int = 0, covariates: Covariates | None = None
) -> Density:
    """Returns the density that latents are drawn from.

    "auto" takes, of prior (of a VAE), Gaussian and mixture, the one under which posterior draws of validation people
    are likeliest: the people of a trained VAE rarely lie where its prior does. Without validation people it takes the
    prior, or the mixture for an autoencoder.

    Args:
        run: a finished run. model: its model.
        name: "auto", "prior", "gaussian", "gmm" (a mixture of Gaussians), "flow" (RealNVP) or "two-stage" (a second
            VAE over the latents).
        seed: of fits and draws.
        covariates: what is going to be known of the people to draw: a fitted density is then that of people with them
            (what they add to the latents is found by ridge regression), and so is the prior of a conditional model.

    Raises:
        UsageError: no such density, or a prior of a model without one, or (with covariates) of one that is not
            conditional on them.
    """
    has_prior = model.prior is not None
    is_conditional = covariates is None or (has_prior and model.condition_size == covariates.size)
    known = [one for one in DENSITIES if one != "prior" or (has_prior and is_conditional)]
    if name not in known:
        whose = f"kind {run.recipe.model.kind}" + ("" if is_conditional else " that was not given these covariates")
        raise UsageError(f"got {name}, expected one of {', '.join(known)} for {whose}. Set auto.", "density")
    if name == "prior":
        return PriorDensity(model.prior)
    is_large = model.latent_size > MOST_LATENTS
    if is_large and name == "auto":
        return PriorDensity(model.prior) if "prior" in known else _fit(run, model, "gmm", seed, covariates)
    if is_large and name in ("gaussian", "two-stage"):
        raise UsageError(
            f"got {name} for {model.latent_size} latent variables, expected at most {MOST_LATENTS}. Set gmm.", "density"
        )
    if name != "auto":
        return _fit(run, model, name, seed, covariates)
    candidates = [_fit(run, model, one, seed, covariates) for one in ("gaussian", "gmm")]
    if "prior" in known:
        candidates.insert(0, PriorDensity(model.prior))
    validation, condition = posterior_draws(run, model, "validation", seed, covariates)
    if not len(validation):
        return candidates[0] if "prior" in known else candidates[-1]
    return max(candidates, key=lambda one: one.log_density(validation, condition).mean())


def posterior_draws(
    run: Run, model: LatentModel, split: str, seed: int = 0, covariates: Covariates | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns `DRAWS_A_PERSON` draws from the posterior of each person of a split, (n, latent), and the people's
    covariates beside them, (n, condition) or None. Of an autoencoder the latents themselves, once each."""
    latents = run.load_latents(split)
    loc = latents["loc"]
    if model.likelihood is None:
        return loc, _conditions(run, latents, covariates)
    posterior = {name: tf.repeat(latents[name], DRAWS_A_PERSON, axis=0) for name in model.posterior_names}
    draws = model.draw(posterior, tf.constant([seed, 3])).numpy() if len(loc) else loc
    condition = _conditions(run, latents, covariates)
    return draws, None if condition is None else np.repeat(condition, DRAWS_A_PERSON, axis=0)


def _fit(run: Run, model: LatentModel, name: str, seed: int, covariates: Covariates | None) -> Density:
    from sklearn.linear_model import Ridge

    latents = run.load_latents("train")
    loc, scale = latents["loc"].astype(np.float64), latents.get("scale")
    condition, effects = _conditions(run, latents, covariates), None
    if condition is not None:
        effects = Ridge().fit(condition, loc).coef_.T
        loc = loc - condition @ effects
    if name == "gaussian":
        density = GaussianDensity.fit(loc, scale)
    else:
        draws = [
            values if effects is None else values - condition @ effects
            for values, condition in (
                posterior_draws(run, model, one, seed, covariates) for one in ("train", "validation")
            )
        ]
        density = _fit_once(run, FITTED[name], loc, scale, *draws, seed)
    density.effects = effects
    return density


def _fit_once(run: Run, kind: type[Density], loc, scale, draws, validation, seed: int) -> Density:
    """Returns a density of these latents; one that takes training is kept in the run, and trained again for others."""
    if not issubclass(kind, TrainedDensity):
        return kind.fit(loc, scale, draws, validation, seed=seed)
    digest = hashlib.sha256(str((kind.name, seed)).encode())
    for values in (loc, scale, draws, validation):
        digest.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
    path = run.directory / "densities" / f"{kind.name}-{digest.hexdigest()[:16]}.npz"
    if path.is_file():
        return kind.read(path, seed)
    density = kind.fit(loc, scale, draws, validation, seed=seed)
    path.parent.mkdir(exist_ok=True)
    density.write(path)
    return density


def _conditions(run: Run, latents: dict, covariates: Covariates | None) -> np.ndarray | None:
    if covariates is None:
        return None
    return covariates.encode(run.subjects.set_index("scan_id").loc[list(latents["scan_id"])])
