"""`mrigen template`."""

import click
from mrigen_cli.common import common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option("--by", metavar="COLUMN", help="One mean head for each value of a column of subjects.tsv, such as sex.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/templates]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def template(run_directory, by, out, force):
    """Write the mean head of a run, or one for each group, as NIfTI, and print the paths."""
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.templates import Templates

    for path in Templates(run, by=by).write(out, force):
        click.echo(path)
