"""`mrigen fit`."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import click
from mrigen_cli.common import announce, common_options, load_tensorflow, set_option

from mrigen.errors import Interrupted
from mrigen.system.stopping import StopNow, StopRequest

# A batch system's "your time is nearly over": SLURM sends what --signal names, and SIGTERM before it kills.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@click.command()
@click.argument("recipe", required=False)
@set_option
@click.option("--run", "run_directory", type=click.Path(), help="Folder to make.  [default: runs/<recipe>-<time>]")
@click.option(
    "--resume",
    type=click.Path(),
    metavar="RUN",
    help="Go on with an unfinished run. With RECIPE: begin it if it is not there.",
)
@click.option("--force", is_flag=True, help="Replace the run that is in the folder.")
@common_options
def fit(recipe, overrides, run_directory, resume, force):
    """Train the model of RECIPE (a file, or the name of a shipped one) and print the run folder.

    On SIGTERM and SIGUSR1 the fit saves after the current step and exits with status 75; --resume goes on to the same
    weights as without the break.
    """
    if recipe is None and resume is None:
        raise click.UsageError("give a RECIPE, or --resume RUN. Example: mrigen fit vae")
    if resume is not None and (run_directory or force):
        raise click.UsageError("--resume takes the run's own folder: drop --run and --force.")
    with stoppable() as stop:
        if resume is not None and (recipe is None or Path(resume, "recipe.yaml").is_file()):
            run = _go_on(resume, recipe, overrides, stop)
        else:
            run = _begin(recipe, overrides, resume or run_directory, force, stop)
    if run is None:  # Worker 0 tells.
        return
    announce(describe_metrics(run.metrics))
    click.echo(run.directory)


def _begin(recipe: str, overrides, directory: str | None, force: bool, stop: StopRequest):
    from mrigen.recipe import load_recipe, recipe_name
    from mrigen.runs.naming import new_run_directory
    from mrigen.training.refusals import refuse_fit

    # What can be said before TensorFlow is loaded is said before.
    resolved, name = load_recipe(recipe, overrides), recipe_name(recipe)
    run = Path(directory) if directory else new_run_directory(name)
    refuse_fit(resolved, run, force)
    load_tensorflow()
    from mrigen.training import fit as train

    return train(resolved, run, name, force, stop)


def _go_on(directory: str, recipe: str | None, overrides, stop: StopRequest):
    from mrigen.recipe import load_recipe
    from mrigen.training.refusals import refuse_resume

    own = Path(directory, "recipe.yaml")
    asked_for = load_recipe(recipe or own, overrides) if recipe or (overrides and own.is_file()) else None
    refuse_resume(directory, asked_for)
    load_tensorflow()
    from mrigen.training import resume

    return resume(directory, asked_for, stop)


@contextlib.contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Yields what the signals that ask a fit to stop are turned into."""
    stop = StopRequest()
    before = {number: signal.signal(number, lambda *_: stop.ask()) for number in STOP_SIGNALS}
    try:
        yield stop
    except StopNow:
        raise Interrupted(
            "stopped as asked, before or after training; what was finished is kept. Run the same command again, or go "
            "on with mrigen fit --resume RUN if the run is there."
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_metrics(metrics: dict) -> str:
    """Returns the figures of a fit in a few lines."""
    heldout, pca = metrics["heldout"], metrics["pca"]
    moved = metrics.get("appearance_model", {})
    has_moved = moved.get("mse") is not None
    lines = []
    if heldout["mse"] is not None:
        lines.append(
            f"Held-out: MSE {heldout['mse']:.5f} (PCA of {pca['num_components']} components {pca['mse']:.5f}"
            f"{', active appearance model {:.5f}'.format(moved['mse']) if has_moved else ''}), "
            f"explained variance {heldout['explained_variance']:.3f}, PSNR {heldout['psnr']:.1f} dB"
        )
    if heldout["elbo_nats"] is not None:
        likelihood = pca["loglik_calibrated_nats"]
        told = [] if likelihood is None else [f"probabilistic PCA, calibrated: {likelihood:.0f}"]
        told += [f"active appearance model: {moved['elbo_nats']:.0f}"] if has_moved else []
        beside = f" ({'; '.join(told)})" if told else ""
        lines.append(f"Held-out ELBO: {heldout['elbo_nats']:.0f} nats{beside}")
    if metrics["kl_nats"] is not None:
        lines.append(
            f"Latents: {metrics['active_units']} of {metrics['latent_dim']} active, KL {metrics['kl_nats']:.4g} nats, "
            f"decoder sigma {metrics['decoder_sigma']:.4f} (residual {metrics['residual_rmse']:.4f})"
        )
    told = [
        f"{name} R2 {figures['r2']:.2f}"
        if "r2" in figures
        else f"{name} {figures['balanced_accuracy']:.2f} balanced accuracy (chance {figures['chance']:.2f})"
        for name, figures in metrics.get("told_by_latents", {}).items()
    ]
    if told:
        lines.append(f"Latents still tell: {', '.join(told)}")
    performance = metrics["performance"]
    share = performance.get("data_wait_share")
    waiting = "" if share is None else f" ({100 * share:.1f} % of it waiting for data)"
    lines.append(
        f"{performance['seconds']:.0f} s in all, {performance['volumes_per_second'] or 0:.1f} volumes/s in "
        f"training{waiting}, peak memory {performance['peak_rss_mb'] / 1024:.1f} GB"
    )
    return "\n".join(lines)
