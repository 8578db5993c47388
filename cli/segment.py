"""`mrigen segment`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path())
@run_option
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/segmentations]")
@click.option("--regions", is_flag=True, help="Write the regions of the cohort's label maps as well (_dseg.nii.gz).")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def segment(images, run_directory, out, regions, force):
    """Write a brain mask for each of IMAGES (NIfTI heads), on its own grid, and print the paths.

    The run is one of kind morph whose cohort has masks: those of its training people are carried over.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.analysis.segmentation import Segmentations

    for path in Segmentations(run, images, regions=regions).write(out, force):
        click.echo(path)
