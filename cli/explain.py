"""`mrigen explain`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option(
    "--confounds", default="", help="Taken out of the latents: head_size, age, site, brain_volume_ml, with commas."
)
@click.option("--participant", "participants", multiple=True, help="Show this person as the other sex; repeatable.")
@click.option("--steps", "num_steps", type=int, default=7, show_default=True, help="Heads from women to men.")
@click.option(
    "--permutations",
    "num_permutations",
    type=int,
    default=300,
    show_default=True,
    help="Of people, for the thresholds of the maps.",
)
@click.option(
    "--withhold/--no-withhold",
    default=True,
    show_default=True,
    help="Write no maps where the probe does not beat chance.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of folds and permutations.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/explanation]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def explain(run_directory, confounds, participants, num_steps, num_permutations, withhold, seed, out, force):
    """Write what changes from women to men, voxel by voxel on the whole image, and print the paths.

    Heads along the direction of the probe of sex, their difference with a threshold that permuted people set, where
    tissue is larger (morphing models), and the saliency of the encoder. Where the probe does not beat chance there is
    nothing to show, and explanation.json says so.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.probing import Explanation
    from mrigen.probing import explain as compute

    options = {
        "confounds": [name.strip() for name in confounds.split(",") if name.strip()],
        "participants": participants,
        "num_steps": num_steps,
        "num_permutations": num_permutations,
    }
    Explanation.check_target(run, out, force, **options)
    found = compute(run, **options, withhold=withhold, seed=seed)
    if found.withheld:
        click.echo(f"Withheld: {found.withheld} With --no-withhold they are written all the same.", err=True)
    for path in found.write(out, force):
        click.echo(path)
