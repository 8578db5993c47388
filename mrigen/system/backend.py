"""TensorFlow, loaded without its chatter."""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mrigen.errors import UsageError

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# What the layers are written for; Keras takes it from the environment or from its settings file.
KERAS_SETTINGS = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}


def load_tensorflow(quiet: bool | None = None) -> None:
    """Imports TensorFlow and finds the devices; does nothing where somebody has imported it already.

    Args:
        quiet: whether its greeting and its log stay hidden; None for yes, unless the environment variable
            TF_CPP_MIN_LOG_LEVEL asks for more than nothing.

    Raises:
        UsageError: Keras is set up for something else.
    """
    faults = keras_faults()
    if faults:
        raise UsageError(faults)
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


def keras_faults() -> list[str]:
    """Returns what is set of Keras that no model of mrigen can do with, one line each; Keras is not loaded for it."""
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    if "keras" in sys.modules:
        place, config = "Keras, in this process", sys.modules["keras"].config
        found = {name: getattr(config, name)() for name in KERAS_SETTINGS}
    else:
        place, found = str(path), _keras_file(path)
        if os.environ.get("KERAS_BACKEND"):
            place, found = f"{path} or KERAS_BACKEND", {**found, "backend": os.environ["KERAS_BACKEND"]}
    return [
        f"{place}: {name}: got {found[name]!r}, expected {value!r}. Correct it, and begin a new process."
        for name, value in KERAS_SETTINGS.items()
        if found.get(name, value) != value
    ]


def _keras_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Keras, too, goes on without it.
        return {}
    return content if isinstance(content, dict) else {}


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
