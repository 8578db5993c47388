"""Progress bars on stderr: rate and time left in a terminal, silence elsewhere."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(description: str, total: int, unit: str = "subjects") -> Iterator[Callable[..., None]]:
    """Yields a function that advances the bar by a number of steps; it may be called from any thread.

    The function also takes `completed=` and `total=` (absolute). Lines written to stderr meanwhile appear above the
    bar. Nothing is drawn when stderr is no terminal, or when MRIGEN_QUIET is set.
    """
    if not sys.stderr.isatty() or os.environ.get("MRIGEN_QUIET"):
        yield lambda steps=1, **changes: None
        return
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task):
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.2g} {unit}/s")

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int = 1, **changes) -> None:
            if "completed" not in changes:
                changes["advance"] = steps
            bar.update(task, **changes)

        yield advance
