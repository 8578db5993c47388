"""`mrigen encode`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option("--data", metavar="ROOT", help="New people: BIDS folder, table or folder of NIfTI.  [default: the run's]")
@click.option("--mask", metavar="NAME", help="Masks of the new people, as data.mask of a recipe.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a data key of the run's recipe for the new people; may be repeated.",
)
@click.option("-o", "--out", type=click.Path(), required=True, help="File to write, .tsv or .npz.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@common_options
def encode(run_directory, data, mask, overrides, out, force):
    """Write the latents of people (posterior means; for a VAE scales, too) as a table, and print its path.

    New images are prepared as those of the run were; nothing is fitted on them.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.encoding import encode as encode_people
    from mrigen.runs.latents import LatentTable

    LatentTable.check_target(out, force)
    for path in encode_people(run, data=data, mask=mask, overrides=overrides).write(out, force):
        click.echo(path)
