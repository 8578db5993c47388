"""`mrigen jobs`."""

import click
from mrigen_cli.common import common_options


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@common_options
def jobs(as_json):
    """List the jobs that mrigen submit has sent to SLURM from this folder: state, and the last line of the log."""
    from mrigen.cluster import list_jobs

    rows = list_jobs()
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
        return
    import pandas as pd

    from mrigen.runs.comparison import render_table, show_figure

    shown = {name: show_figure(name, "") for name in ("job", "name", "state", "reason", "last")}
    click.echo(render_table(pd.DataFrame(rows), "text", shown, tuple(shown)), nl=False)
