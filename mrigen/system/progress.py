"""Progress bars: rate and time left in a terminal (on stderr) and in a notebook, silence elsewhere."""

import contextlib
import html
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from mrigen.system.notebook import find_kernel

# Seconds between two pictures of a bar in a notebook.
_REDRAW = 0.2


@contextlib.contextmanager
def progress_bar(description: str, total: int, unit: str = "subjects") -> Iterator[Callable[..., None]]:
    """Yields a function that advances the bar by a number of steps; it may be called from any thread.

    The function also takes `completed=` and `total=` (absolute). Lines written to stderr meanwhile appear above the
    bar. Nothing is drawn where there is neither a terminal nor a notebook, or when MRIGEN_QUIET is set.
    """
    if os.environ.get("MRIGEN_QUIET"):
        bar = _silence()
    elif find_kernel() is not None:
        bar = _notebook_bar(description, total, unit)
    elif sys.stderr is not None and sys.stderr.isatty():
        bar = _terminal_bar(description, total, unit)
    else:
        bar = _silence()
    with bar as advance:
        yield advance


@contextlib.contextmanager
def _silence():
    yield lambda steps=1, **changes: None


@contextlib.contextmanager
def _terminal_bar(description, total, unit):
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


@contextlib.contextmanager
def _notebook_bar(description, total, unit):
    """Draws with nothing but HTML: rich would need ipywidgets, which few have installed."""
    from IPython.display import HTML, display

    lock, began = threading.Lock(), time.monotonic()
    state = {"completed": 0, "total": total, "drawn": began}
    handle = display(HTML(_picture(description, 0, total, unit, 0.0)), display_id=True)

    def advance(steps: int = 1, **changes) -> None:
        with lock:
            state["completed"] += steps if "completed" not in changes else 0
            state.update(changes)
            now = time.monotonic()
            if now - state["drawn"] < _REDRAW:
                return
            state["drawn"] = now
            picture = _picture(description, state["completed"], state["total"], unit, now - began)
        handle.update(HTML(picture))

    try:
        yield advance
    finally:
        handle.update(HTML(""))


def _picture(description: str, completed: int, total: int, unit: str, seconds: float) -> str:
    text = f"{completed}/{total}"
    if completed and seconds > 0:
        left = max(0, round((total - completed) * seconds / completed))
        clock = f"{left // 3600}:{left % 3600 // 60:02d}:{left % 60:02d}"
        text += f" &nbsp; {completed / seconds:.2g} {html.escape(unit)}/s &nbsp; {clock}"
    return f'{html.escape(description)} <progress value="{completed}" max="{max(total, 1)}"></progress> {text}'
