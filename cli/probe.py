"""`mrigen probe`."""

import click
from mrigen_cli.common import announce, common_options, find_run, load_tensorflow, run_option


@click.command()
@run_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of folds and intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@common_options
def probe(run_directory, seed, as_json):
    """Classify sex from the latents of a run, cross-validated, beside baselines in the same folds."""
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.probing import probe as classify

    result = classify(run, seed)
    if as_json:
        import json

        click.echo(json.dumps(result.rows(), indent=2))
    else:
        print_table(result)
    announce(f"Written: {run.directory / 'probe.json'}, {run.directory / 'probe_roc.png'}")


def print_table(result) -> None:
    """Prints the rows of a probe as a table, and how the latents compare."""
    from rich.console import Console
    from rich.table import Table

    from mrigen.probing.protocol import PROTOCOLS

    console = Console(width=None if Console().is_terminal else 100)
    for protocol, label in PROTOCOLS.items():
        rows = [row for row in result.rows() if row["protocol"] == protocol]
        table = Table(title=f"Sex, {protocol} (n = {rows[0]['num_subjects']})", title_justify="left", caption=label)
        table.add_column("predictor")
        for name in ("balanced accuracy", "accuracy", "ROC AUC"):
            table.add_column(f"{name} [95 %]", justify="right")
        for row in rows:
            figures = [_figure(row[name], row[f"{name}_ci"]) for name in ("balanced_accuracy", "accuracy", "roc_auc")]
            table.add_row(row["predictor"], *figures)
        console.print(table)
    for row in result.comparisons():
        if row["metric"] == "roc_auc" and row["difference"] is not None and row["baseline"] != "dummy":
            low, high = row["ci"]
            console.print(
                f"AUC of latents minus {row['baseline']} ({row['protocol']}): "
                f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
                highlight=False,
            )


def _figure(value, interval) -> str:
    return "-" if value is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
