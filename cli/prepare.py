"""`mrigen prepare`."""

import click
from mrigen_cli.common import announce, common_options
from mrigen_cli.words import translate


@click.command()
@click.argument("data", type=click.Path())
@click.argument("out", type=click.Path())
@click.option(
    "--steps",
    default="bias,rigid",
    show_default=True,
    metavar="STEP,...",
    help="Any of bias (N4), rigid or affine (alignment with MNI152), deface; or none. A brain mask is always made.",
)
@click.option("--deface", is_flag=True, help="Cut faces off, too: the same as the step deface.")
@click.option("--zooms", type=float, metavar="MM", help="Voxel size of aligned images.  [default: each scan's own]")
@click.option("--mask", metavar="NAME", help="Masks that are there, as data.mask names them.  [default: by deepbet]")
@click.option("--suffix", default="T1w", show_default=True, help="BIDS suffix of the scans.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Scans at a time; -1: one a core.")
@click.option("--force", is_flag=True, help="Make anew what is there, also where other settings made it.")
@common_options
def prepare(data, out, steps, **settings):
    """Make raw scans ready for a fit: even brightness, a common place, brain masks, no faces if asked for.

    DATA is a BIDS folder, a table of paths, or a folder of images. OUT becomes a BIDS derivative that mrigen fit takes,
    with prepare.tsv, one row a scan, and prepare.html, a page of pictures: look at it. The same command again makes
    what is missing. A scan that fails stops no other; the exit status is 1 then.

    Needs the extra: pip install 'mrigen[prepare]'.
    """
    from mrigen.derivatives import prepare as prepare_scans
    from mrigen.errors import MrigenError

    names = [name.strip() for name in steps.split(",") if name.strip() not in ("", "none")]
    try:
        made = prepare_scans(data, out, steps=names, **settings)
    except KeyboardInterrupt:
        click.echo("mrigen: interrupted. What was finished is kept; the same command again goes on.", err=True)
        raise SystemExit(130) from None
    for note in made.notes:
        announce(translate(note))
    for line in made.findings:
        click.echo(translate(line))
    for line in made.figures:
        announce(line)
    announce(f"Written: {made.directory / 'prepare.tsv'}")
    announce(f"Look at: {made.directory / 'prepare.html'}")
    if made.num_usable:
        announce(f"Go on:   mrigen fit vae --set data.root={made.directory} --set data.mask=.")
    if made.faults:
        raise MrigenError(list(made.faults))
