"""`mrigen transfer`."""

import click
from mrigen_cli.common import announce, common_options, find_run, given_option, load_tensorflow, run_option


@click.command()
@run_option
@given_option
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "heldout"]),
    default="heldout",
    show_default=True,
    help="Whose heads.",
)
@click.option("--keep-detail", is_flag=True, help="Add again what the model does not reconstruct of a person's image.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/transfer]")
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@common_options
def transfer(run_directory, given, split, keep_detail, out, force):
    """Write people's heads as another scanner, sex or age would show them, and print their paths.

    Works best with a run whose recipe names the covariate in model.condition.
    """
    from mrigen.data.covariates import parse_given

    given = parse_given(given)
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.transfers import Transfer

    transferred = Transfer(run, given, split=split, keep_detail=keep_detail)
    paths = transferred.write(out, force)
    announce(f"Picture: {transferred.picture_path(out)}")
    for path in paths:
        click.echo(path)
