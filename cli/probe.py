"""`mrigen probe`."""

import click
from mrigen_cli.common import announce, common_options, find_run, load_tensorflow, run_option
from mrigen_cli.words import translate

_FIGURES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "mae": "MAE",
    "r": "r",
    "r2": "R²",
}
_SHORT = {"roc_auc": "AUC"}


@click.command()
@run_option
@click.option(
    "--target",
    metavar="COLUMN",
    default="sex",
    show_default=True,
    help="Column of participants.tsv (or age, head_size, site): classes, or numbers by ridge regression.",
)
@click.option(
    "--confounds",
    metavar="COLUMN,...",
    help="Also: what these tell alone, latents without them and, with head_size, people of equal head size.",
)
@click.option(
    "--reliability",
    metavar="COLUMN=SHARE,...",
    help="How much of a confound's variance is true (head_size=0.8), or another column that measures the same, or "
    "'visits': rows without confounds are corrected for the rest.",
)
@click.option(
    "--harmonise",
    type=click.Choice(["site"]),
    help="Also: latents harmonised by site in each fold, and how well sites can be told.",
)
@click.option(
    "--classifiers",
    metavar="NAME,...",
    help="Also: other classifiers on latents: svm_linear, svm_rbf, forest, knn, lda.",
)
@click.option("--untrained", is_flag=True, help="Also: latents of the same architecture before training.")
@click.option("--cnn", is_flag=True, help="Also: a 3D network that is taught the target, in each fold. Takes minutes.")
@click.option(
    "--against", type=click.Path(), metavar="RUN", help="Also: latents of another run of the same people and split."
)
@click.option(
    "--registration",
    metavar="PATTERN",
    help="Paths of affine matrices, with {participant_id}; their log-determinant joins the confounds.",
)
@click.option(
    "--nested",
    "num_folds",
    type=click.IntRange(min=2),
    is_flag=False,
    flag_value=5,
    metavar="[FOLDS]",
    help="Also: the encoder fitted anew in each fold, under RUN/nested; goes on where it broke off.  [without a "
    "number: 5]",
)
@click.option("--learning-curve", is_flag=True, help="Also: figures by the number of people learned from.")
@click.option("--leave-site-out", is_flag=True, help="Also: a cross-validation whose folds are sites.")
@click.option(
    "--permutations",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Permute labels N times, by family, for a p-value of the latents.",
)
@click.option("--jobs", type=int, default=-1, show_default=True, help="Processes for permutations; -1: one a core.")
@click.option(
    "--cohort",
    "data",
    type=click.Path(),
    metavar="DATA",
    help="Score people of another dataset instead: a BIDS folder, a table, or a folder of NIfTI. Nothing is refitted.",
)
@click.option("--mask", metavar="NAME", help="Masks of the other dataset, as in the recipe's data.mask.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a data key for the other dataset; may be repeated.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of folds and intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@common_options
def probe(
    run_directory, seed, as_json, confounds, reliability, classifiers, num_folds, data, mask, overrides, **options
):
    """Predict sex, or another column, from the latents of a run, cross-validated, beside baselines in the same
    folds."""  # fmt: skip
    from mrigen.probing import ProbePlan

    if data is None and (mask or overrides):
        raise click.UsageError("--mask and --set are of the people of --cohort: name it, or leave them out.")
    if data is not None and num_folds:
        raise click.UsageError("--nested is of the run's own people. Leave out --nested or --cohort.")
    plan = ProbePlan(
        confounds=_listed(confounds), reliability=_pairs(reliability), classifiers=_listed(classifiers), **options
    )
    run = find_run(run_directory)
    load_tensorflow()
    import mrigen.probing

    if data is not None:
        result = mrigen.probing.probe_external(run, data, mask=mask, overrides=overrides, plan=plan, seed=seed)
    elif num_folds:
        from mrigen_cli.fit import stoppable

        with stoppable() as stop:
            result = mrigen.probing.probe_nested(run, num_folds, plan=plan, seed=seed, stop=stop)
    else:
        result = mrigen.probing.probe(run, plan=plan, seed=seed)
    written = result.write()
    if as_json:
        import json

        click.echo(json.dumps(result.rows(), indent=2))
    else:
        print_table(result)
    announce(f"Written: {', '.join(str(path) for path in written if path.suffix != '.tsv')}")


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _pairs(text: str | None) -> dict[str, float | str]:
    pairs = {}
    for part in _listed(text):
        name, _, value = part.partition("=")
        if not name or not value:
            raise click.UsageError(f"--reliability: got {part}, expected COLUMN=SHARE, such as head_size=0.8.")
        try:
            pairs[name] = float(value)
        except ValueError:
            pairs[name] = value
    return pairs


def print_table(result) -> None:
    """Prints the rows of a probe as a table, and how the latents compare."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 100)
    _print_rows(console, result, result.protocols)
    _print_comparisons(console, result)
    for name, text in result.row_notes.items():
        console.print(f"* {name}: {text}", highlight=False, markup=False)
    for note in result.notes:
        console.print(f"Note: {translate(note, probe)}", highlight=False, markup=False)
    for test in (result.permutation, result.deconfounded_permutation):
        if test is None:
            continue
        console.print(
            f"Permutation test of {test.predictor} ({_FIGURES[test.metric]}, transductive): p = {test.p_value:.3g} "
            f"({len(test.null)} permutations)",
            highlight=False,
        )
    if result.learning_curve is not None:
        _print_curve(console, result)
    if result.site_prediction is not None:
        _print_rows(console, result.site_prediction, {"transductive": "how well sites can be told from latents"})


def _print_rows(console, result, protocols) -> None:
    from rich.table import Table

    name, metrics = result.target.name, result.target.metrics
    if result.target.classes:
        metrics = ("balanced_accuracy", "accuracy", "roc_auc")
    for protocol, label in protocols.items():
        rows = [row for row in result.rows() if row["protocol"] == protocol]
        total = rows[0]["num_subjects"]
        title = f"{name[:1].upper()}{name[1:]}, {protocol} ({_rests_on(rows[0], protocol)})"
        table = Table(title=title, title_justify="left", caption=f"{label}; {_varies(rows)}")
        table.add_column("predictor", overflow="fold")
        for metric in metrics:
            table.add_column(f"{_FIGURES[metric]} [95 %]", justify="right")
        for row in rows:
            few = "" if row["num_subjects"] == total else f" (n = {row['num_subjects']})"
            digits = 3 if result.target.classes else 2
            figures = [_figure(row[metric], row[f"{metric}_ci"], digits) for metric in metrics]
            mark = " *" if row["predictor"] in result.row_notes else ""
            table.add_row(row["predictor"] + mark + few, *figures)
        console.print(table)


def _print_comparisons(console, result) -> None:
    from rich.table import Table

    metric = result.target.compared[0]
    rows = [row for row in result.comparisons() if row["metric"] == metric and "p_holm" in row]
    if not rows:
        return
    what = _SHORT.get(metric, metric)
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        title = f"{what} differences, {protocol}: the same people in the same folds"
        table = Table(title=title, title_justify="left")
        table.add_column("difference of", overflow="fold")
        table.add_column("[95 %]", justify="right")
        table.add_column("p", justify="right")
        table.add_column(f"p of all {len(rows)} (Holm)", justify="right")
        for row in rows:
            if row["protocol"] == protocol:
                low, high = row["ci"]
                table.add_row(
                    f"{row['predictor']} - {row['baseline']}",
                    f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
                    f"{row['p']:.2g}",
                    f"{row['p_holm']:.2g}",
                )
        console.print(table)


def _rests_on(row, protocol) -> str:
    """Returns what the intervals of a row rest on."""
    families = "" if row["num_families"] == row["num_subjects"] else f" of {row['num_families']} families"
    sites = f"{row['num_folds']} sites, " if protocol == "leave-site-out" else ""
    return f"{sites}n = {row['num_subjects']}{families}"


def _varies(rows) -> str:
    """Returns what the intervals of rows are made of, and of which rows of something else."""
    from mrigen.probing.summaries import INTERVALS

    makings = [row["interval_by"] for row in rows]
    most = max(makings, key=makings.count)
    said = f"intervals: {INTERVALS[most]}"
    for other in dict.fromkeys(making for making in makings if making != most):
        names = [row["predictor"] for row in rows if row["interval_by"] == other and row["predictor"] != "dummy"]
        said += f" ({', '.join(names)}: {INTERVALS[other]})" if names else ""
    return said


def _print_curve(console, result) -> None:
    from rich.table import Table

    rows, metric = result.learning_curve.rows, result.target.compared[0]
    names = list(dict.fromkeys(row["predictor"] for row in rows))
    table = Table(title="Learning curve", title_justify="left", caption=f"{_FIGURES[metric]} [95 %], transductive")
    table.add_column("people learned from", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for count in dict.fromkeys(row["num_training"] for row in rows):
        at = {row["predictor"]: row for row in rows if row["num_training"] == count}
        figures = [_figure(at[name][metric], at[name][f"{metric}_ci"], 3) for name in names]
        table.add_row(f"{count:.0f}", *figures)
    console.print(table)


def _figure(value, interval, digits) -> str:
    return "-" if value is None else f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
