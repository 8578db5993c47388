"""`mrigen runs`."""

import click
from mrigen_cli.common import announce, common_options


@click.command()
@click.argument("folder", type=click.Path(), default="runs", metavar="[FOLDER]")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "markdown", "csv"]),
    default="text",
    show_default=True,
    help="How to write the table.",
)
@click.option(
    "--sort", "column", metavar="COLUMN", help="A column of the CSV, such as minutes; -minutes: largest first."
)
@common_options
def runs(folder, style, column):
    """List the runs in FOLDER (default: runs), finished or not, with their figures on validation people.

    A run "waiting to resume" has a checkpoint: mrigen fit --resume RUN goes on from it, unless a fit is still at it.
    For figures on held-out people of finished runs: mrigen compare.
    """
    from mrigen.runs.comparison import sort_table
    from mrigen.runs.listing import list_runs, render_runs

    table = list_runs(folder)
    if column is not None:
        table = sort_table(table, column)
    for fault in table["fault"].dropna():
        announce(f"Warning: {fault}")
    click.echo(render_runs(table, style), nl=False)
