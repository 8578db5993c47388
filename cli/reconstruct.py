"""`mrigen reconstruct`."""

import click
from mrigen_cli.common import common_options, find_run, given_option, load_tensorflow, run_option


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@run_option
@given_option
@click.option("--detail", is_flag=True, help="Also draw fine structure into a second image: plausible, not theirs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the drawn detail.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/reconstructions]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def reconstruct(images, run_directory, given, detail, seed, out, force):
    """Write what the model makes of images, and the images minus that, and print their paths.

    Both lie on the grid of their image, in its units; a picture stands beside them.
    """
    from mrigen.data.covariates import parse_given

    given = parse_given(given)
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.reconstruction import Reconstructions

    for path in Reconstructions(run, images, given=given, detail=detail, seed=seed).write(out, force):
        click.echo(path)
