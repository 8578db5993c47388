"""Names of what a run is given: its folder when nobody says, and the cohort that it was handed in memory."""

import datetime
from pathlib import Path

# Folders inside a run that are there before it is: images and tables that a fit was given in memory.
COHORT_PREFIX = "cohort-"


def new_run_directory(name: str) -> Path:
    """Returns runs/<name>-<time>, a folder that does not exist."""
    stem = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path
