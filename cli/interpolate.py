"""`mrigen interpolate`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@click.argument("first", metavar="A", type=click.Path())
@click.argument("second", metavar="B", type=click.Path())
@run_option
@click.option("--steps", "num_steps", type=int, default=7, show_default=True, help="Heads, with both ends.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/interpolations]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def interpolate(first, second, run_directory, num_steps, out, force):
    """Write the heads between two people, and print the path.

    A and B are participant ids of the run, or else image files. What is written is a NIfTI of four axes, which viewers
    play as a film, with a picture beside it.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.interpolation import Interpolation

    for path in Interpolation(run, first, second, num_steps=num_steps).write(out, force):
        click.echo(path)
