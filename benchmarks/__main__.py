"""`python -m benchmarks [PART ...]`, from the root of the repository."""

import importlib
from pathlib import Path

import click

from benchmarks.machine import describe_machine
from benchmarks.report import markdown_report
from mrigen.system.files import write_text

# In the order of the report; each is a module with `measure(quick) -> list[Section]`.
PARTS = ("step", "layers", "loader", "memory", "sample", "scaling")
# Not about speed, and with data that not everyone has: measured when they are named.
ASKED_FOR = ("preparing", "qc", "copies")
RESULTS = Path(__file__).parent / "results.md"


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice((*PARTS, *ASKED_FOR)))
@click.option("-o", "--out", type=click.Path(path_type=Path), help=f"Report to write.  [default: {RESULTS.name} here]")
@click.option("--quick", is_flag=True, help="A few tiny steps of each part; writes a report only with --out.")
def main(parts: tuple[str, ...], out: Path | None, quick: bool) -> None:
    """Measure mrigen beside its peers on this machine, and print the tables as Markdown.

    PARTS are any of step, layers, loader, memory, sample and scaling; all by default. Named alone, preparing,
    qc and copies (how stored images become grey levels; planted faults, and planted copies of heads, that are found;
    all on the real heads of MRIGEN_REAL_DATA) are printed and, with --out, written.
    """
    if out is None and not quick and not set(parts) & set(ASKED_FOR):
        out = RESULTS
    machine, sections = describe_machine(), []
    for part in dict.fromkeys(parts or PARTS):
        click.echo(f"{part}:", err=True)
        sections += importlib.import_module(f"benchmarks.{part}").measure(quick)
        if out is not None:  # After every part: what was measured is kept, whatever happens to the next.
            write_text(out, markdown_report(machine, sections, quick))
    click.echo(markdown_report(machine, sections, quick), nl=False)


if __name__ == "__main__":
    main()
