"""`mrigen doctor`."""

import click
from mrigen_cli.common import common_options


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Print findings and facts as JSON, as a report of a fault has them."
)
@common_options
def doctor(as_json):
    """Say whether this machine can fit: versions, GPUs and why they are not used, precision, memory, disks, SLURM.

    A line a finding: well; note (slower, or less than it could be); fault (it would stop a fit). Below notes and faults
    stands what to do. Nothing is changed. Exit status: 0 if nothing would stop a fit, else 1.
    """
    from mrigen.checkup import doctor as look

    found = look()
    if as_json:
        import json

        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        click.echo(str(found))
    click.get_current_context().exit(0 if found.is_well else 1)
