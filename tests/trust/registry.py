"""Kinds of bad input, each with the call that meets it; docs/errors.md holds what is said.

tests/trust/test_errors.py runs them all and holds the page to be what is said; with --write-errors it writes the page.
"""

import re
import shlex
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Build = Callable[[Path], object]
Hidden = tuple[tuple[str, str], ...]
# What other libraries say of what they cannot read, and their versions say differently.
FOREIGN = (
    (r"(not valid YAML|as JSON|not valid JSON|not a table|cannot be loaded) \(.*\)(?=[.,] )", r"\1 (<why>)"),
    (r"(cannot be read) \([A-Z\[].*\)(?=[.,] )", r"\1 (<why>)"),
)


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        what: is wrong, in words.
        call: the command line, as one types it in the folder that `build` filled.
        build: makes what the call meets, in a folder.
        status: it ends with.
        run: whether the folder holds a finished run, `run`, before `build` is called.
        tensorflow: whether the call goes on where TensorFlow is loaded.
        hidden: patterns of what differs from machine to machine, and words for it.
    """

    what: str
    call: str
    build: Build = field(default=lambda folder: None, repr=False)
    status: int = 2
    run: bool = False
    tensorflow: bool = False
    hidden: Hidden = ()

    @property
    def arguments(self) -> list[str]:
        """The call as a shell hands it on, without the name of the program."""
        return shlex.split(self.call)[1:]

    def __str__(self) -> str:
        return re.sub(r"\W+", "-", self.what)


def plain(line: str, folder: Path, hidden: Hidden = ()) -> str:
    """Returns a line as it would be said in another folder and on another machine."""
    for name in (folder, folder.resolve()):
        line = line.replace(f"{name}/", "").replace(str(name), ".")
    for pattern, words in (*FOREIGN, *hidden):
        line = re.sub(pattern, words, line)
    return line


def wrapped(lines: list[str]) -> list[str]:
    """Returns lines as they stand on the page: what is long goes on below itself."""
    fold = textwrap.TextWrapper(116, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in fold.wrap(line)]


def write(name: str, content: str | bytes) -> Build:
    """Returns what makes one file, and the folders above it."""

    def build(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return build


def together(*builders: Build) -> Build:
    """Returns what does several things, one after the other."""

    def build(folder: Path) -> None:
        for builder in builders:
            builder(folder)

    return build
