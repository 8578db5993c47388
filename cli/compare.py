"""`mrigen compare`."""

import click
from mrigen_cli.common import announce, common_options

ENDINGS = {".md": "markdown", ".csv": "csv"}


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(), metavar="[RUN]...")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "markdown", "csv"]),
    help="How to write the table.  [default: by the ending of FILE (.md, .csv), else text]",
)
@click.option("--sort", "column", metavar="COLUMN", help="A column of the CSV, such as auc; -auc: the largest first.")
@click.option(
    "--evaluation",
    is_flag=True,
    help="Instead: the figures of mrigen evaluate, runs (or folders of evaluations) side by side.",
)
@click.option(
    "--against",
    type=click.Choice(["validation", "heldout"]),
    default="validation",
    show_default=True,
    help="Which evaluation of a run.",
)
@click.option("-o", "--out", type=click.Path(), metavar="FILE", help="Write the table to FILE, and print its path.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@common_options
def compare(runs, style, column, evaluation, against, out, force):
    """Print one table of finished runs: model, compression, figures on held-out people, sex, KL, size and time.

    Without RUN, of all complete runs under runs/, oldest first. Sex is told from the latents by cross-validation over
    all people (transductive), where mrigen probe has looked. Compression is voxels a latent variable; parameters are
    all weights. CSV holds every digit. Beside networks of the term paper stands what it found itself, on other people
    (HCP) and another scale of intensities.
    """
    from pathlib import Path

    from mrigen.runs import Run, complete_runs
    from mrigen.runs.comparison import compare as gather
    from mrigen.runs.comparison import describe_differences, render_table, sort_table, unprobed
    from mrigen.system.targets import refuse_taken

    if out is not None:
        refuse_taken([Path(out)], force)
    if evaluation:
        table = _compare_evaluations(runs, against, column)
        _give(render_table(table, style or ENDINGS.get(Path(out or "").suffix, "text"), *_shown(table)), out)
        return
    chosen = [Run(Path(run)) for run in runs] or complete_runs()
    table = gather(chosen)
    if column is not None:
        table = sort_table(table, column)
    text = render_table(table, style or ENDINGS.get(Path(out or "").suffix, "text"))
    difference = describe_differences(chosen)
    if difference is not None:
        click.echo(f"Warning: {difference}", err=True)
    missing = [str(run.directory) for run in unprobed(chosen)]
    if missing:
        commands = "; ".join(f"mrigen probe --run {directory}" for directory in missing)
        announce(f"Not probed, so without accuracy and AUC: {', '.join(missing)}. To do so: {commands}")
    _give(text, out)


def _give(text: str, out: str | None) -> None:
    from mrigen.system.files import write_text

    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(out)


def _compare_evaluations(runs, against: str, column: str | None):
    from mrigen.evaluation.comparing import compare_evaluations, describe_other_settings, evaluated, open_evaluations
    from mrigen.runs import complete_runs

    if column is not None:
        raise click.UsageError("--sort is of the table of runs; figures of evaluations keep their order. Leave it out.")
    chosen = list(runs) or [run.directory for run in evaluated(complete_runs(), against)]
    if not chosen:
        raise click.UsageError("no run under runs/ was evaluated. Do so with mrigen evaluate, or name folders.")
    evaluations = open_evaluations(chosen, against)
    unlike = describe_other_settings(evaluations)
    if unlike is not None:
        click.echo(f"Warning: {unlike}", err=True)
    return compare_evaluations(evaluations)


def _shown(table):
    """Returns what shows each column of a table of evaluations, and which of them are words."""
    from mrigen.runs.comparison import show_figure

    words = ("part", "figure", "better")
    return {name: show_figure(name, "" if name in words else ".3g") for name in table.columns}, words
