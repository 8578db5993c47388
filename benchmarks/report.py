"""What a part hands back, and how it becomes Markdown."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Section:
    """One table of the report.

    Attributes:
        title: its heading.
        text: what was measured, in a sentence or two.
        columns: headings.
        rows: a cell each column: str, int, float or None.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """Returns the heading, the text and the table."""
        return f"## {self.title}\n\n{self.text}\n\n{markdown_table(self.columns, self.rows)}"


def markdown_report(machine: Mapping[str, str], sections: Sequence[Section], quick: bool) -> str:
    """Returns the whole report: the machine, then every section."""
    title = "# Benchmarks"
    if quick:
        title += " (quick: shows that every part runs; the figures mean nothing)"
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return "\n\n".join([title, facts, *(section.markdown().rstrip() for section in sections)]) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns an aligned Markdown table: the first column to the left, the others to the right.

    Example:
        >>> print(markdown_table(["", "seconds"], [["mrigen", 0.50412], ["monai", None]]))
        |        | seconds |
        |:-------|--------:|
        | mrigen |   0.504 |
        | monai  |       – |
        <BLANKLINE>
    """
    lines = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(columns))]
    ruler = [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]

    def aligned(line):
        cells = [
            line[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(cells) + " |"

    return "\n".join([aligned(lines[0]), "|" + "|".join(ruler) + "|", *map(aligned, lines[1:])]) + "\n"


def cell(value: Any) -> str:
    """Returns the text of a cell: numbers with three significant digits, whole ones in full.

    Example:
        >>> [cell(value) for value in (None, 2250273, 1234.5, 0.50412, "not installed")]
        ['–', '2 250 273', '1234', '0.504', 'not installed']
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return str(value)
