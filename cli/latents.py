"""`mrigen latents`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of UMAP.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/latents]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def latents(run_directory, seed, out, force):
    """Draw maps of the latents by sex, age, head size and site, test what they go with, and print the paths.

    The maps are of principal components and, where umap-learn is installed, of UMAP; the table holds the correlation of
    each latent variable with each covariate, and its p-value before and after the correction for all tests.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.analysis.latent_maps import LatentMaps

    for path in LatentMaps(run, seed=seed).write(out, force):
        click.echo(path)
