"""Whether a notebook is looking, and how it shows a figure."""

import io
import sys


def find_kernel():
    """Returns the shell of IPython whose kernel draws for a notebook; None elsewhere, a terminal included."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell if getattr(shell, "kernel", None) is not None else None


def show_figures() -> None:
    """Has a notebook draw matplotlib figures that are the value of a cell, also where nobody imported pyplot."""
    shell = find_kernel()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["image/png"]
    if "matplotlib.figure.Figure" not in formatter:
        formatter.for_type_by_name("matplotlib.figure", "Figure", _draw)


def _draw(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", facecolor=figure.get_facecolor())
    return stream.getvalue()
