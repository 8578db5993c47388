"""TensorFlow, loaded without its chatter."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def load_tensorflow(quiet: bool | None = None) -> None:
    """Imports TensorFlow and finds the devices; does nothing where somebody has imported it already.

    Args:
        quiet: whether its greeting and its log stay hidden; None for yes, unless the environment variable
            TF_CPP_MIN_LOG_LEVEL asks for more than nothing.
    """
    if "tensorflow" in sys.modules:
        return
    if quiet is None:
        quiet = os.environ.get(_LEVEL, "3") == "3"
    if quiet:
        os.environ.setdefault(_LEVEL, "3")
    with _silent_stderr() if quiet else contextlib.nullcontext():
        # By name, because this floor is to load without it.
        tensorflow = importlib.import_module("tensorflow")
        tensorflow.config.list_physical_devices()
    if quiet:
        # It warns, for example, of several fits in one process: each traces its own graph.
        tensorflow.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discards what C++ writes to stderr: TensorFlow's greeting passes by every setting of its own."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # A process without stderr.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
