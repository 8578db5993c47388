"""`mrigen traverse`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option(
    "--directions", "num_directions", type=int, default=5, show_default=True, help="How many principal components."
)
@click.option("--steps", "num_steps", type=int, default=7, show_default=True, help="Heads in each sequence.")
@click.option("--extent", type=float, default=2.5, show_default=True, help="Standard deviations on either side.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/traversals]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def traverse(run_directory, num_directions, num_steps, extent, out, force):
    """Write sequences of heads along the principal directions of the latents, and print their paths.

    Each is a NIfTI of four axes, which viewers play as a film, with a picture beside it.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.traversals import traverse as walk

    for path in walk(run, num_directions=num_directions, num_steps=num_steps, extent=extent).write(out, force):
        click.echo(path)
