"""`mrigen evaluate`."""

import click
from mrigen_cli.common import announce, common_options, find_run, given_option, load_tensorflow, set_option
from mrigen_cli.words import translate

# Contenders that have a column of their own.
COLUMNS = ("training", "pca", "mean", "copies")
# What stands in place of the figure of a classifier that tells nothing.
NO_POWER = "no power"


@click.command()
@click.option("--run", "run_directory", type=click.Path(), help="Whose samples are judged.  [default: the newest run]")
@click.option("--samples", type=click.Path(), metavar="DIR", help="Judge the images of this folder instead.")
@click.option(
    "--real",
    metavar="DATA",
    help="Whose people the samples are compared with: a run, or a recipe (a file, or a shipped one with --set).",
)
@set_option
@click.option("--only", metavar="PART,...", help="Judge these parts; the others stay as they are. See --parts.")
@click.option("--parts", "list_parts", is_flag=True, help="List the parts and their figures, and do nothing.")
@click.option(
    "--against",
    type=click.Choice(["validation", "heldout"]),
    default="validation",
    show_default=True,
    help="People whom nothing was learned from. Choose settings by validation people.",
)
@click.option("-n", "--num", type=int, help="How many people, and as many samples.  [default: all, at most 100]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all draws.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the samples; as of mrigen sample.")
@click.option("--density", default="auto", show_default=True, help="Of the samples; as of mrigen sample.")
@given_option
@click.option("--detail/--no-detail", default=None, help="Of the samples; as of mrigen sample.")
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(),
    metavar="RUN",
    help="A run of another seed or split, whose latents are compared; may be repeated.",
)
@click.option(
    "--normative",
    type=click.Path(),
    metavar="TABLE",
    help="Volumes by region, age and sex, to compare those of samples with.",
)
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/evaluation/validation]")
@click.option("--force", is_flag=True, help="Judge everything anew, whatever is there.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json.")
@common_options
def evaluate(
    run_directory, samples, real, overrides, only, list_parts, against, num, seed, temperature, density, given,
    detail, beside, normative, out, force, as_json,
):  # fmt: skip
    """Say whether synthetic heads are any good: detail, anatomy, copying and more, each figure beside that of real
    people and of ways of making heads that are known to be bad.

    Of a run, or, with --samples and --real, of images that anything else has made. Each part is written as soon as it
    is judged; the same call again goes on where it broke off.
    """
    from mrigen.data.covariates import parse_given

    if list_parts:
        load_tensorflow()
        _list_parts()
        return
    given, names = (
        parse_given(given),
        None if only is None else [name.strip() for name in only.split(",") if name.strip()],
    )
    if overrides and real is None:
        raise click.UsageError("--set changes the recipe of --real: name one, or leave --set out.")
    run = find_run(run_directory) if samples is None else None
    people = None if real is None else _open_real(real, overrides)
    load_tensorflow()
    from mrigen.evaluation import PARTS, Evaluation
    from mrigen.runs import open_run

    evaluation = Evaluation(
        run, samples=samples, real=people, against=against, num=num, seed=seed, density=density,
        temperature=temperature, given=given, detail=detail, beside=[open_run(other) for other in beside],
        normative=normative,
    )  # fmt: skip
    names = evaluation.check_parts(names)
    kept = evaluation.take_over(out, force)
    again = [name for name in names if name not in kept or force]
    skipped = [name for name in names if name not in again]
    if skipped:
        announce(f"Judged before: {', '.join(skipped)}. To judge them anew: --force")
    for number, name in enumerate(again):
        announce(f"{number + 1}/{len(again)} {name}: {PARTS[name].words}")
        evaluation.judge(name)
        written = evaluation.write(out)
    if as_json:
        import json

        click.echo(json.dumps(evaluation.as_dict(), indent=2))
    else:
        print_tables(evaluation)
    announce(f"Written: {written[0] if again else evaluation.target(out)}")


def _open_real(real: str, overrides):
    """Returns the run or the recipe that --real names."""
    from pathlib import Path

    from mrigen.recipe import load_recipe
    from mrigen.runs import open_run

    if Path(real).is_dir():
        if overrides:
            raise click.UsageError("--set changes a recipe, and --real names a run. Leave --set out.")
        return open_run(real)
    return load_recipe(real, overrides)


def _list_parts() -> None:
    from mrigen.evaluation import PARTS

    for name, part in PARTS.items():
        click.echo(f"{name}: {part.words}{' (of a run)' if part.needs_run else ''}")
        for key, figure in part.figures.items():
            click.echo(f"  {key}: {figure.words}{_good(figure.better)}")


def _good(better: str) -> str:
    return "" if not better else f" ({better} is better)" if better in ("lower", "higher") else f" (should be {better})"


def print_tables(evaluation) -> None:
    """Prints one table a part: figures down, contenders across."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 100)
    for name, result in evaluation.results.items():
        console.print(_title(name, result), style="italic", highlight=False, markup=False)
        table, said = _table(name, result)
        if table is not None:
            console.print(table)
        for line in said:
            console.print(line, highlight=False, markup=False)
    for note in evaluation.notes():
        console.print(f"Note: {translate(note, evaluate)}", highlight=False, markup=False)


def _title(name, result) -> str:
    from mrigen.evaluation import PARTS

    sizes = {row.n for row in result.rows if row.n}
    return f"{name}: {PARTS[name].words}" + (f" (n = {sizes.pop()})" if len(sizes) == 1 else "")


def _table(name, result):
    """Returns the table of a part, and why some of its figures have no row."""
    from rich.table import Table

    from mrigen.evaluation import PARTS

    part, rows, without = PARTS[name], {}, {}
    for row in result.rows:
        rows.setdefault(row.figure, {})[row.of] = row
    for figure, found in list(rows.items()):
        row = found.get("samples")
        if row is not None and row.value is None and row.note != NO_POWER:
            without.setdefault(row.note or "no value", []).append(figure)
            del rows[figure]
    across = [of for of in COLUMNS if any(of in found for found in rows.values())]
    table = Table()
    table.add_column("figure", overflow="fold")
    table.add_column("good", justify="center", overflow="fold")
    for of in ("samples", *across):
        table.add_column(of, justify="right", overflow="fold")
    for figure, found in rows.items():
        cells = [_cell(found.get("samples"), True), *(_cell(found.get(of), False) for of in across)]
        better = part.figures[figure].better if figure in part.figures else ""
        if any(cells):
            table.add_row(figure, better, *cells)
        for of, row in found.items():
            if of not in ("samples", *across):
                table.add_row(f"  {of}" if any(cells) else f"{figure}, {of}", "", _cell(row, True), *[""] * len(across))
    said = [f"No value: {', '.join(figures)} ({note})." for note, figures in without.items()]
    return table if rows else None, said


def _cell(row, whole: bool) -> str:
    """Returns a figure as a cell: with its interval and p where it is to be whole."""
    if row is None:
        return ""
    if row.value is None:
        return NO_POWER if row.note == NO_POWER else "-"
    text = f"{row.value:.3g}"
    if whole and row.low is not None and row.high is not None:
        text += f" [{row.low:.3g}, {row.high:.3g}]"
    if whole and row.p is not None:
        text += f", p {row.p:.2g}"
    return f"{text} ({row.note})" if whole and row.note else text
