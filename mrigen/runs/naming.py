"""Names of what a run is given: its folder when nobody says, and the cohort that it was handed in memory."""

import contextlib
import datetime
from collections.abc import Callable
from pathlib import Path

# Folders inside a run that are there before it is: images and tables that a fit was given in memory.
COHORT_PREFIX = "cohort-"


def reserve_run_directory(name: str) -> Path:
    """Returns runs/<name>-<time>, a folder that was made for whoever asked, and for nobody else."""
    return reserve(lambda: new_run_directory(name))


def reserve(propose: Callable[[], Path]) -> Path:
    """Returns a folder that was made now: of those that `propose` thinks are free, the first that nobody else made."""
    while True:
        path = propose()
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


def new_run_directory(name: str) -> Path:
    """Returns runs/<name>-<time>, a folder that does not exist."""
    stem = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path
