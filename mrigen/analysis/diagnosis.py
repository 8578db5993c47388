"""What a finished VAE came to: which latent variables speak, whether the decoder listens, what the people's likelihood
is, and what to do about it."""

import dataclasses
import html
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from scipy import special

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import choose_rows, inference_dataset, read_volumes
from mrigen.distributions import DiagonalGaussianPosterior
from mrigen.errors import UsageError
from mrigen.generation.densities import MOST_LATENTS, choose_density
from mrigen.imaging.figures import plot_diagnosis, save_figure
from mrigen.models import LatentModel
from mrigen.models.batches import BATCH_SIZE
from mrigen.recipe import ModelRecipe
from mrigen.runs import Run
from mrigen.runs.contents import check_figures
from mrigen.runs.listing import read_history
from mrigen.statistics.collapse import Course, Forecast, advise, collapse_of_figures, forecast_active
from mrigen.statistics.pca import spectrum
from mrigen.system.files import write_json
from mrigen.system.progress import progress_bar

# What the volumes for a spectrum may take in memory.
SPECTRUM_BYTES = 2**30
# Draws from the posterior in the importance-weighted likelihood, unless told otherwise.
NUM_DRAWS = 64


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """What was found.

    Attributes:
        metrics: metrics.json of the run.
        kl_per_dimension: (latent,) nats, mean over training people, largest first; where the prior is no normal
            distribution, of the Gaussian with the mean and variance that the variable has over all these people.
        forecast: how many latent variables could have stayed active.
        log_likelihood: importance-weighted, mean over held-out people, nats; None without any.
        num_draws: draws from the posterior of each in it.
        density: the one that samples are drawn from unless told otherwise; None without held-out people or with too
            many latents.
        density_gain: mean log-density of posterior draws of held-out people under it, minus that under the model's
            prior, nats; None likewise.
        findings: up to ten lines for the eye, a verdict last.
        variances: of the data along its principal directions, largest first; sums over voxels.
        threshold: the variance below which a direction does not pay for its KL.
        history: "ELBO" and "KL" -> nats of each epoch, as far as the run has them.
        directory: where `write` puts the files unless told otherwise.
    """

    metrics: dict[str, Any]
    kl_per_dimension: np.ndarray
    forecast: Forecast
    log_likelihood: float | None
    num_draws: int
    density: str | None
    density_gain: float | None
    findings: tuple[str, ...]
    variances: np.ndarray
    threshold: float
    history: dict[str, np.ndarray]
    directory: Path

    def __repr__(self) -> str:
        return "\n".join(self.findings)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.findings)

    def plot(self) -> Figure:
        """Returns a figure: the KL of each latent variable, the spectrum of the data, and the course of the fit."""
        return plot_diagnosis(self.kl_per_dimension, self.variances, self.threshold, self.history)

    def write(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Writes diagnosis.json and diagnosis.png, in place of earlier ones, and returns the paths.

        Args:
            directory: the folder; that of the run by default.
        """
        directory = self.directory if directory is None else Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / "diagnosis.json", directory / "diagnosis.png"]
        write_json(
            paths[0],
            {
                "metrics": self.metrics,
                "kl_per_dimension": [round(float(value), 6) for value in self.kl_per_dimension],
                "forecast": dataclasses.asdict(self.forecast),
                "log_likelihood": self.log_likelihood,
                "num_draws": self.num_draws,
                "density": self.density,
                "density_gain": self.density_gain,
                "findings": list(self.findings),
            },
        )
        save_figure(self.plot(), paths[1])
        return paths


def diagnose(run: Run, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> Diagnosis:
    """Explains a finished run; nothing is written.

    Args:
        run: a finished run of a VAE.
        num_draws: draws from each held-out person's posterior in the importance-weighted likelihood.
        seed: of the draws.

    Raises:
        UsageError: the run has no likelihood, as that of an autoencoder, or `num_draws` < 1.
        CohortError: the cohort is not that of the run. RunError: its figures are those of another run.

    References:
        Burda et al. 2016, Importance weighted autoencoders, equation 8.
    """
    if not run.recipe.model.has_likelihood:
        raise UsageError(
            f"{run.directory}: got a run of kind {run.recipe.model.kind}, expected a VAE: an autoencoder has neither "
            "KL nor likelihood. Name another run with `run`."
        )
    if num_draws < 1:
        raise UsageError(f"got {num_draws}, expected an integer >= 1. Set 64 for a start.", parameter="num_draws")
    check_figures(run.metrics, "kl_nats", "active_units", "decoder_sigma", "residual_rmse")
    dataset, model, latents = run.open_dataset(), run.load_model(), run.load_latents()
    train, heldout = dataset.rows("train"), dataset.rows("heldout")
    kl = _kl_per_dimension(
        model, {name: latents[name][train] for name in model.posterior_names}, dataset.conditions(train)
    )
    recipe, people = run.recipe.model, choose_rows(train, dataset.cache.volume_shape, SPECTRUM_BYTES)
    counted = np.asarray(model.apply_mask(np.ones((*model.volume_shape, 1), np.float32)))[..., 0] > 0
    volumes = read_volumes(dataset.cache, people)
    forecast, variances = forecast_of(recipe, volumes, model.latent_size, counted, dataset.conditions(people))
    log_likelihood = None
    if len(heldout):
        log_likelihood = float(importance_weighted(model, dataset, heldout, num_draws, seed).mean())
    density, gain = _density_gain(run, model, latents, dataset, seed)
    diagnosis = Diagnosis(
        metrics=run.metrics,
        kl_per_dimension=np.sort(kl)[::-1],
        forecast=forecast,
        log_likelihood=log_likelihood,
        num_draws=num_draws,
        density=density,
        density_gain=gain,
        findings=(),
        variances=variances,
        threshold=recipe.beta * forecast.decoder_variance,
        history=_history(run),
        directory=run.directory,
    )
    return dataclasses.replace(diagnosis, findings=tuple(_findings(run, diagnosis)))


def forecast_of(
    recipe: ModelRecipe,
    volumes: np.ndarray,
    latent_size: int,
    counted: np.ndarray | None = None,
    conditions: np.ndarray | None = None,
) -> tuple[Forecast, np.ndarray]:
    """Returns how many latent variables of a VAE can stay active, and the variances of the data that say so.

    Args:
        recipe: of the model.
        volumes: (people, x, y, z), some of the training people.
        latent_size: latent variables.
        counted: (x, y, z) bool, the voxels that the likelihood counts; all by default.
        conditions: (people, condition), what the model is conditioned on: what follows from it, linearly, takes no
            latents.
    """
    matrix = volumes.reshape(len(volumes), -1)
    if counted is not None and not counted.all():
        matrix = matrix[:, counted.ravel()]
    if conditions is not None:
        design = conditions - conditions.mean(axis=0)
        matrix = matrix - design @ (np.linalg.pinv(design) @ matrix).astype(np.float32)
    variances = spectrum(matrix)
    options = (recipe.objective, recipe.decoder_sigma, 1.0 if recipe.objective == "capacity" else recipe.beta)
    return forecast_active(variances, *matrix.shape, latent_size, *options), variances


def importance_weighted(
    model: LatentModel, dataset: Dataset, rows: np.ndarray, num_draws: int, seed: int = 0
) -> np.ndarray:
    """Returns log p(x) of each person of `rows`, estimated from below with draws of the posterior, (rows,) nats.

    With one draw it is the ELBO in the mean; more draws come closer to the likelihood, so models with different
    posteriors, and probabilistic PCA, can be compared.
    """

    @tf.function(autograph=False)
    def log_weights(volume, posterior, condition, draw_seed):
        volume, posterior = tf.nest.map_structure(
            lambda values: tf.repeat(values, BATCH_SIZE, axis=0), (volume, posterior)
        )
        condition = None if condition is None else tf.repeat(condition, BATCH_SIZE, axis=0)
        z = model.to_posterior.draw(posterior, draw_seed)
        log_likelihood = -model.likelihood(volume, model.decode(z, condition=condition))["nll"]
        prior, own = model.prior.distribution(condition), model.to_posterior.distribution(**posterior)
        return log_likelihood + prior.log_prob(z) - own.log_prob(z)

    posterior = tf.function(model.posterior, autograph=False)
    num_batches = math.ceil(num_draws / BATCH_SIZE)
    estimates = []
    with progress_bar("Weighing draws", len(rows) * num_batches, "batches") as advance:
        for person, (number, volume) in enumerate(inference_dataset(dataset.cache, rows, 1)):
            parameters, condition = posterior(volume), dataset.conditions(number)
            seeds = np.random.default_rng([seed, person]).integers(2**31, size=(num_batches, 2), dtype=np.int32)
            weights = []
            for draw_seed in seeds:
                weights.append(log_weights(volume, parameters, condition, tf.constant(draw_seed)).numpy())
                advance(1)
            weights = np.concatenate(weights)[:num_draws].astype(np.float64)
            estimates.append(special.logsumexp(weights) - math.log(num_draws))
    return np.array(estimates)


def _kl_per_dimension(model: LatentModel, posterior: dict, condition) -> np.ndarray:
    kl = model.kl_per_dimension(posterior, condition)
    if kl is None:
        loc, scale = posterior["loc"], posterior["scale"]
        spread = np.sqrt(loc.var(axis=0) + (scale**2).mean(axis=0))
        kl = DiagonalGaussianPosterior.kl_per_dimension(loc, scale, loc.mean(axis=0), spread)
    return kl.numpy().mean(axis=0)


def _density_gain(
    run: Run, model: LatentModel, latents: dict, dataset: Dataset, seed: int
) -> tuple[str | None, float | None]:
    """Returns `Diagnosis.density` and `density_gain`."""
    heldout = dataset.rows("heldout")
    if not len(heldout) or model.latent_size > MOST_LATENTS:
        return None, None
    posterior = {name: tf.constant(latents[name][heldout]) for name in model.posterior_names}
    draws = model.to_posterior.draw(posterior, tf.constant([seed, 0]))
    condition = dataset.conditions(heldout)
    prior = model.prior(draws, condition).numpy()
    chosen = choose_density(run, model, covariates=run.covariates)
    return chosen.name, float((chosen.log_density(draws.numpy(), condition) - prior).mean())


def _history(run: Run) -> dict[str, np.ndarray]:
    """Returns the validation (or else training) ELBO and the KL of each epoch, as far as the run has them."""
    path = run.directory / "history.csv"
    if not path.is_file():
        return {}
    table = pd.DataFrame(read_history(run.directory))
    elbo = "val_elbo_nats" if "val_elbo_nats" in table else "elbo_nats"
    return {name: table[column].to_numpy() for name, column in (("ELBO", elbo), ("KL", "kl_nats")) if column in table}


def _findings(run: Run, diagnosis: Diagnosis) -> list[str]:
    metrics, kl = diagnosis.metrics, diagnosis.kl_per_dimension
    recipe, heldout = run.recipe.model, diagnosis.metrics["heldout"]
    active, size = metrics["active_units"], metrics["latent_dim"]
    lines = [
        f"Run: {run.directory}, {recipe.kind}, objective {recipe.objective}, best epoch {metrics['best_epoch']} of "
        f"{metrics['epochs']}, {metrics['num_subjects']['train']} training people",
        f"Latents: {active} of {size} active; forecast: {diagnosis.forecast.in_words()}",
        f"KL: {kl.sum():.4g} nats a person; largest {kl[0]:.3g}, median {np.median(kl):.3g}, smallest {kl[-1]:.3g}",
        f"Decoder: sigma {metrics['decoder_sigma']:.3g}; residual of training people {metrics['residual_rmse']:.3g}",
    ]
    gap = heldout.get("shuffled_gap_nats")
    if gap is not None:
        lines.append(f"Another person's latents cost {gap:.4g} nats on held-out people (0: the decoder ignores them)")
    if diagnosis.log_likelihood is not None:
        pca = metrics["pca"]["loglik_calibrated_nats"]
        beside = "" if pca is None else f"; probabilistic PCA of the same size {pca:,.0f}"
        lines.append(
            f"Held-out log-likelihood: {diagnosis.log_likelihood:,.0f} nats with {diagnosis.num_draws} draws, "
            f"ELBO {heldout['elbo_nats']:,.0f}{beside}"
        )
    if heldout["explained_variance"] is not None:
        lines.append(f"Reconstruction: {100 * heldout['explained_variance']:.1f} % of held-out variance explained")
    if diagnosis.density_gain is not None:
        lines.append(_say_density(diagnosis.density, diagnosis.density_gain))
    return [*lines, f"Verdict: {_verdict(run, diagnosis)}"]


def _say_density(density: str, gain: float) -> str:
    line = f"Sampling: samples are drawn from the density {density}, unless told otherwise"
    if density == "prior":
        return line
    line += f"; held-out latents are {abs(gain):.4g} nats {'likelier' if gain > 0 else 'less likely'} under it than "
    return line + "under the prior" + (": `mrigen.sample(density='prior')`" if gain <= 0 else "")


def _verdict(run: Run, diagnosis: Diagnosis) -> str:
    """Returns the last line: what became of the latents, and what to do, as far as it is not done already."""
    metrics, recipe, forecast = diagnosis.metrics, run.recipe, diagnosis.forecast
    active, size = metrics["active_units"], metrics["latent_dim"]
    course, pca = Course.of(recipe, metrics), metrics["pca"]["loglik_calibrated_nats"]
    if collapse_of_figures(metrics) is not None:
        why = "collapsed"
        if recipe.model.objective_name == "paper":
            why = (
                "collapsed, as it must: the mean squared error over voxels is a decoder variance of half the number of "
                "voxels, and nothing in the data pays for a KL against that"
            )
        elif forecast.num_directions > active + 1:
            why = "collapsed, though the data would carry more"
        elif forecast.num_directions <= active:
            why = "collapsed, as forecast"
        return f"{why}. {advise(recipe, course, forecast)}"
    longer = "raise training.epochs: it was still getting better when they were over"
    is_rising = course.is_rising(recipe.training.epochs)
    if active < 0.5 * min(size, forecast.num_directions):
        advice = longer if is_rising else f"lower model.latent_dim (now {size}): {active} would do"
        return f"healthy in part: under half of what could be active is. {advice[0].upper()}{advice[1:]}."
    if diagnosis.log_likelihood is not None and pca is not None and diagnosis.log_likelihood < pca:
        options = [longer] if is_rising else []
        if recipe.training.augment is None:
            options.append("let volumes be changed at random (training.augment)")
        if not recipe.model.warps_template:
            options.append("set model.kind=morph")
        options.append("take more people")
        advice = ", or ".join(options)
        return f"no collapse, but probabilistic PCA gives held-out people more likelihood: {advice}."
    return "healthy: the latents speak and the decoder listens."
