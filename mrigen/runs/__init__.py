"""Run folders: what a fit leaves, opened, listed and compared."""

from mrigen.runs.run import (
    RUN_FORMAT,
    WEIGHTS,
    Run,
    complete_runs,
    describe_versions,
    newest_run,
    open_run,
    write_facts,
)

__all__ = [
    "RUN_FORMAT",
    "WEIGHTS",
    "Run",
    "complete_runs",
    "describe_versions",
    "newest_run",
    "open_run",
    "write_facts",
]
