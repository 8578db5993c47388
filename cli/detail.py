"""`mrigen detail`."""

import click
from mrigen_cli.common import announce, common_options, find_run, load_tensorflow, run_option, set_option
from mrigen_cli.fit import stoppable


@click.command()
@run_option
@set_option
@click.option("--force", is_flag=True, help="Learn anew, and replace what is there.")
@common_options
def detail(run_directory, overrides, force):
    """Train the network that draws the fine structure of a finished run's samples, and print the run folder.

    Its settings are the block `detail` of the run's recipe, changed by --set detail.KEY=VALUE. On SIGTERM and SIGUSR1
    it saves after the current step and exits with status 75; the same command goes on. mrigen sample and mrigen
    evaluate then draw detail, unless they are told --no-detail.
    """
    from mrigen.recipe import load_recipe
    from mrigen.training.refusals import detail_settings, refuse_detail

    run = find_run(run_directory)
    strange = [change for change in overrides if not change.startswith("detail.")]
    if strange:
        raise click.UsageError(f"--set {strange[0]}: got a key of the fit, expected one of detail, as detail.steps.")
    settings = detail_settings(load_recipe(run.directory / "recipe.yaml", overrides))
    refuse_detail(run, settings, force)
    load_tensorflow()
    from mrigen.training import learn_detail

    with stoppable() as stop:
        learn_detail(run, settings, force, stop)
    announce("Samples of the run have detail now: mrigen sample")
    click.echo(run.directory)
