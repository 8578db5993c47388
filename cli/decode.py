"""`mrigen decode`."""

import click
from mrigen_cli.common import announce, common_options, find_run, given_option, load_tensorflow, run_option


@click.command()
@click.argument("latents", metavar="LATENTS", type=click.Path())
@run_option
@given_option
@click.option("--native-units", is_flag=True, help="Intensities in units of the training images instead of 0 to 1.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/decoded]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def decode(latents, run_directory, given, native_units, out, force):
    """Write the heads that a table of latents stands for, and print their paths.

    LATENTS is a .tsv or .npz as mrigen encode writes it: participant_id (or scan_id) and loc_001, loc_002, ...
    """
    from mrigen.data.covariates import parse_given

    given = parse_given(given)
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.decoding import DecodedLatents

    images = DecodedLatents(run, latents, given=given, native_units=native_units)
    paths = images.write(out, force)
    announce(f"Picture: {images.picture_path(out)}")
    for path in paths:
        click.echo(path)
