"""`mrigen qc`."""

from pathlib import Path

import click
from mrigen_cli.common import announce, common_options, find_run, set_option
from mrigen_cli.words import translate


@click.command()
@click.argument("source", required=False)
@click.option("--run", "run_directory", type=click.Path(), help="Look at the images of a run, as it prepares them.")
@set_option
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: qc, or RUN/qc]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
def qc(source, run_directory, overrides, out, force):
    """Find the wrong and strange images of a cohort: a table, a page of pictures, and a list of whom to leave out.

    SOURCE is a folder or table of images, or a recipe that names one; without it the images of a run are looked at.
    Writes qc.tsv, qc.html, qc.png and exclude.txt; prints the images that are wrong or to be looked at, with reasons.
    To leave those people out: --set data.exclude=qc/exclude.txt.
    """
    if source is not None and run_directory is not None:
        raise click.UsageError("got SOURCE and --run, expected one of them. Drop one.")
    from mrigen.api.quality import qc as look
    from mrigen.system.targets import refuse_taken

    if source is None:
        if overrides:
            raise click.UsageError("--set changes a recipe: give SOURCE, or drop it. A run keeps its own recipe.")
        run = find_run(run_directory)
        directory = Path(out or Path(run.directory, "qc"))
        refuse_taken(_paths(directory), force)
        found = look(run)
    else:
        from mrigen.recipe import load_recipe

        directory = Path(out or "qc")
        refuse_taken(_paths(directory), force)
        if _is_cohort(source):
            recipe = load_recipe("vae", [f"data.root={source}", *overrides])
        else:
            recipe = load_recipe(source, overrides)
        found = look(recipe=recipe)
    for note in found.notes:
        announce(note)
    for path in found.write(directory, force):
        announce(f"Written: {path}")
    for line in found.findings:
        click.echo(translate(line))


def _is_cohort(source: str) -> bool:
    path = Path(source)
    return path.is_dir() or path.suffix.lower() in (".tsv", ".csv")


def _paths(directory: Path) -> list[Path]:
    from mrigen.quality.result import paths_in

    return paths_in(directory)
