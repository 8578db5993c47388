"""`mrigen diagnose`."""

import dataclasses

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option
from mrigen_cli.words import translate


@click.command()
@run_option
@click.option("--iw", "num_draws", default=64, show_default=True, help="Draws a person in the held-out likelihood.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN]")
@common_options
def diagnose(run_directory, num_draws, seed, out):
    """Explain a finished VAE in ten lines and a figure: what collapsed or not, why, and what to do.

    Writes diagnosis.json and diagnosis.png.
    """
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.analysis import diagnose as explain

    diagnosis = explain(run, num_draws=num_draws, seed=seed)
    diagnosis = dataclasses.replace(diagnosis, findings=tuple(map(translate, diagnosis.findings)))
    diagnosis.write(out)
    for line in diagnosis.findings:
        click.echo(line)
