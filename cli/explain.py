"""`mrigen explain`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option("--confounds", default="", help="Taken out of the latents first: head_size, age, site, with commas.")
@click.option("--participant", "participants", multiple=True, help="Show this person as the other sex; repeatable.")
@click.option("--steps", "num_steps", type=int, default=7, show_default=True, help="Heads from women to men.")
@click.option(
    "--bootstrap",
    "num_bootstrap",
    type=int,
    default=100,
    show_default=True,
    help="Refits of the probe, for the z maps.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the refits.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/explanation]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def explain(run_directory, confounds, participants, num_steps, num_bootstrap, seed, out, force):
    """Write what changes from women to men, voxel by voxel on the whole image, and print the paths.

    Heads along the direction of the probe of sex, their difference with a z map over refits, where tissue is larger
    (morphing models), and the saliency of the encoder.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.probing import Explanation
    from mrigen.probing import explain as compute

    options = {
        "confounds": [name.strip() for name in confounds.split(",") if name.strip()],
        "participants": participants,
        "num_steps": num_steps,
        "num_bootstrap": num_bootstrap,
    }
    Explanation.check_target(run, out, force, **options)
    for path in compute(run, **options, seed=seed).write(out, force):
        click.echo(path)
