"""`mrigen phantom`."""

import click
from mrigen_cli.common import common_options


@click.command()
@click.option("-n", "--num", "num_subjects", type=int, default=100, show_default=True, help="How many people.")
@click.option("-o", "--out", type=click.Path(), required=True, help="Folder to make.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything.")
@click.option("--zooms", type=float, default=4.0, show_default=True, help="Voxel size in mm.")
@click.option(
    "--sex-effect",
    type=click.Choice(["none", "size", "shape", "both"]),
    default="both",
    show_default=True,
    help="What differs between the sexes.",
)
@click.option("--sex-effect-strength", type=float, default=1.0, show_default=True, help="1 is life-like.")
@click.option("--num-sites", type=int, default=2, show_default=True, help="Number of scanners.")
@click.option("--site-effect-strength", type=float, default=1.0, show_default=True, help="1 is life-like.")
@click.option("--age-effect-strength", type=float, default=1.0, show_default=True, help="1 is life-like.")
@click.option(
    "--anatomy",
    type=click.Choice(["warped", "grown"]),
    default="warped",
    show_default=True,
    help="warped: one template, deformed smoothly. grown: made by procedure, with own folds.",
)
@click.option(
    "--scanners",
    "num_scanners",
    type=int,
    default=1,
    show_default=True,
    help="Scan everyone as often, each time by another scanner and in another pose.",
)
@common_options
def phantom(num_subjects, out, **settings):
    """Write the built-in synthetic cohort (with its truth) as a BIDS folder, and print the folder."""
    from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
    from mrigen.system.progress import progress_bar

    settings = PhantomSettings(num_subjects=num_subjects, **settings)
    with progress_bar("Making people", num_subjects, "people") as advance:
        click.echo(write_phantom_cohort(out, settings, progress=advance))
