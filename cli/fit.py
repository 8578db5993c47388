"""`mrigen fit`."""

from pathlib import Path

import click
from mrigen_cli.common import announce, common_options, load_tensorflow, set_option


@click.command()
@click.argument("recipe", required=False)
@set_option
@click.option("--run", "run_directory", type=click.Path(), help="Folder to make.  [default: runs/<recipe>-<time>]")
@click.option("--resume", type=click.Path(), metavar="RUN", help="Go on with an unfinished run instead.")
@click.option("--force", is_flag=True, help="Replace the run that is in the folder.")
@common_options
def fit(recipe, overrides, run_directory, resume, force):
    """Train the model of RECIPE (a file, or the name of a shipped one) and print the run folder."""
    if (recipe is None) == (resume is None):
        raise click.UsageError("give a RECIPE, or --resume RUN, and not both. Example: mrigen fit vae")
    if resume is not None:
        if overrides or run_directory or force:
            raise click.UsageError("--resume takes the run's own recipe and folder: drop --set, --run and --force.")
        load_tensorflow()
        from mrigen.training import resume as go_on

        run = go_on(resume)
    else:
        from mrigen.recipe import load_recipe, recipe_name

        resolved = load_recipe(recipe, overrides)  # Faults of the recipe are told before TensorFlow is loaded.
        name = recipe_name(recipe)
        directory = Path(run_directory) if run_directory else new_run_directory(name)
        load_tensorflow()
        from mrigen.training import fit as train

        run = train(resolved, directory, name, force)
    announce(describe_metrics(run.metrics))
    click.echo(run.directory)


def new_run_directory(name: str) -> Path:
    """Returns runs/<name>-<time>, a folder that does not exist."""
    import datetime

    stem = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path


def describe_metrics(metrics: dict) -> str:
    """Returns the figures of a fit in a few lines."""
    heldout, pca = metrics["heldout"], metrics["pca"]
    lines = []
    if heldout["mse"] is not None:
        lines.append(
            f"Held-out: MSE {heldout['mse']:.5f} (PCA of {pca['num_components']} components {pca['mse']:.5f}), "
            f"explained variance {heldout['explained_variance']:.3f}, PSNR {heldout['psnr']:.1f} dB"
        )
    if heldout["elbo_nats"] is not None:
        likelihood = pca["loglik_calibrated_nats"]
        beside = "" if likelihood is None else f" (probabilistic PCA, calibrated: {likelihood:.0f})"
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
