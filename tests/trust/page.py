"""docs/errors.md: what each case of the registry says, as it was heard."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.trust import bad_calls, bad_images, bad_recipes, bad_runs, bad_tables, faults
from tests.trust.registry import wrapped

PATH = Path(__file__).parents[2] / "docs" / "errors.md"
GROUPS = {
    "Command lines": bad_calls.CASES,
    "Recipes": bad_recipes.CASES,
    "Tables of people": bad_tables.CASES,
    "Images": bad_images.CASES,
    "Run folders": bad_runs.CASES,
}
FAULTS = "Faults of machines"
HEAD = """# What is refused, and how

Written by `python -m pytest tests/trust --write-errors`; do not edit by hand. A test calls each of these, and holds the
page to be what is said, with the exit status and, where it is 2, nothing changed in the folder.

{cases} kinds of bad input and {faults} faults. Every line names the place, what came, what was expected and what to do;
`--debug` shows the traceback. Exit status: 2 bad input, and nothing was run; 1 failed while running; 75 a fit was asked
to stop, has saved and can go on; 130 or 143 interrupted. <Words in angle brackets> stand for what differs between
machines, and for what other libraries say.
"""
ENTRY = re.compile(r"^- (.+?): .*?^  ```$\n", re.MULTILINE | re.DOTALL)


class Page:
    """The page, to be compared with or to be written anew.

    Args:
        writes: whether what is heard becomes what the page says.
    """

    def __init__(self, writes: bool = False):
        self.writes = writes
        text = PATH.read_text(encoding="utf-8") if PATH.is_file() else ""
        self.entries = {match[1]: match[0] for match in ENTRY.finditer(text)}

    def holds(self, what: str, done: str, status: int | str, lines: Sequence[str]) -> None:
        """Makes sure that the page says this of a case, or has it say so.

        Args:
            what: is wrong. done: to meet it. status: it ends with. lines: it says.

        Raises:
            AssertionError: the page says something else.
        """
        name = what[0].upper() + what[1:]
        said = "\n".join(f"  {line}" for line in wrapped(list(lines)))
        text = f"- {name}: {done}; ends with {status}\n\n  ```text\n{said}\n  ```\n"
        if self.writes:
            self.entries[name] = text
            PATH.write_text(self.render(), encoding="utf-8")
        assert self.entries.get(name) == text, f"docs/errors.md is of before: {text}"

    def render(self) -> str:
        """Returns the page with all cases that there are."""
        groups = GROUPS | {FAULTS: faults.FAULTS}
        number = sum(map(len, GROUPS.values()))
        parts = [HEAD.format(cases=number, faults=len(faults.FAULTS))]
        for title, cases in groups.items():
            parts.append(f"## {title}\n")
            names = [case.what[0].upper() + case.what[1:] for case in cases]
            parts += [self.entries[name] for name in names if name in self.entries]
        return "\n".join(parts)
