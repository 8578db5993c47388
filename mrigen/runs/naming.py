"""Where a new run goes when nobody says."""

import datetime
from pathlib import Path


def new_run_directory(name: str) -> Path:
    """Returns runs/<name>-<time>, a folder that does not exist."""
    stem = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path
