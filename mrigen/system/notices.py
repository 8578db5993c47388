"""What the library has to say, where it is used from Python: warnings as Python warnings, notes in the log.

The library logs to `mrigen` and sets up no handler that prints. What matters (the level WARNING) becomes a
`MrigenWarning` at the caller's line; notes (INFO) are for whoever sets up logging, and for the log.txt of a run. The
command line puts a handler of its own in the place of this one.
"""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from mrigen.errors import MrigenWarning

_PACKAGE = str(Path(__file__).parent.parent)
_LOGGER = logging.getLogger("mrigen")


class _AsWarnings(logging.Handler):
    """Turns log lines into Python warnings."""

    def emit(self, record):
        frame = _frame_of_caller()
        warnings.warn_explicit(
            record.getMessage(),
            MrigenWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
            frame.f_globals.get("__name__", "unknown"),
            frame.f_globals.setdefault("__warningregistry__", {}),
        )


class _HandOn(logging.Handler):
    """Hands log lines on to the handlers above `mrigen`."""

    def emit(self, record):
        root = logging.getLogger()
        if root.handlers:  # Without any, logging would print warnings by itself.
            root.callHandlers(record)


def warn_of_warnings() -> None:
    """Has the library's log lines of the level WARNING become Python warnings."""
    if not _LOGGER.handlers:
        _LOGGER.addHandler(_AsWarnings(logging.WARNING))


@contextlib.contextmanager
def noting() -> Iterator[None]:
    """As long as the context lasts, handlers of `mrigen` itself (the log.txt of a run) get notes, too.

    Others hear what they would hear without it: a log that shows warnings does not fill up with notes.
    """
    level, propagate = _LOGGER.level, _LOGGER.propagate
    if _LOGGER.isEnabledFor(logging.INFO):
        yield
        return
    hand_on = _HandOn(_LOGGER.getEffectiveLevel())
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    _LOGGER.addHandler(hand_on)
    try:
        yield
    finally:
        _LOGGER.removeHandler(hand_on)
        _LOGGER.propagate = propagate
        _LOGGER.setLevel(level)


def _frame_of_caller() -> FrameType:
    """Returns the frame that called the library: the one beyond the outermost of the library's own."""
    found = sys._getframe(1)
    frame: FrameType | None = found
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
            found = frame.f_back
        frame = frame.f_back
    return found
