"""`mrigen demo`."""

from pathlib import Path

import click
from mrigen_cli.common import announce, common_options, load_tensorflow, set_option


@click.command()
@set_option
@click.option("--run", "run_directory", type=click.Path(), help="Folder to make.  [default: runs/demo-<time>]")
@common_options
def demo(overrides, run_directory):
    """Fit, sample and probe on the built-in synthetic cohort: no data, no network, a few minutes."""
    from mrigen.recipe import load_recipe

    recipe = load_recipe("demo", overrides)
    load_tensorflow()
    from mrigen_cli.fit import describe_metrics
    from mrigen_cli.probe import print_table

    from mrigen.generation.sampling import sample
    from mrigen.probing import probe
    from mrigen.runs.naming import new_run_directory
    from mrigen.training import fit

    announce(
        f"1 of 3: fitting a small morphing VAE to {recipe.data.num_subjects} synthetic people, and then the detail of "
        "their brains (mrigen fit demo)"
    )
    run = fit(recipe, Path(run_directory) if run_directory else new_run_directory("demo"), "demo")
    announce(describe_metrics(run.metrics))
    announce("2 of 3: ten synthetic heads (mrigen sample -n 10)")
    samples = sample(run, 10)
    samples.write()
    announce("3 of 3: sex from the latents, beside baselines (mrigen probe)")
    result = probe(run)
    result.write()
    print_table(result)
    announce("\nLook at:")
    for path in (
        run.directory / "metrics.json",
        samples.picture_path(),
        run.directory / "probe_roc.png",
    ):
        announce(f"  {path}")
    announce("Next: mrigen fit vae --set data.root=/path/to/your/bids")
    click.echo(run.directory)
