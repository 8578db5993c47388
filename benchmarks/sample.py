"""Seconds from the command `mrigen sample` to NIfTI files on disk."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.contenders import ENVIRONMENT, ROOT
from benchmarks.report import Section

SETTINGS = ("data.source=phantom", "data.num_subjects=24", "training.epochs=1")
COMMAND = "from mrigen_cli.main import main; main()"


def measure(quick: bool = False) -> list[Section]:
    """Returns the table of this part."""
    recipe, counts, num_rounds = ("smoke", (1, 4), 1) if quick else ("vae", (1, 10, 100), 3)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        overrides = [part for setting in SETTINGS for part in ("--set", setting)]
        click.echo("  making a run to sample from", err=True)
        _mrigen(folder, "fit", recipe, *overrides, "--run", run)
        seconds = {count: [] for count in counts}
        for number in range(num_rounds):
            for count in counts:
                started = time.perf_counter()
                _mrigen(folder, "sample", "-n", count, "--run", run, "-o", Path(folder) / f"{count}-{number}")
                seconds[count].append(time.perf_counter() - started)
                click.echo(f"  round {number + 1} of {num_rounds}: -n {count}: {seconds[count][-1]:.3g} s", err=True)
    section = Section(
        "sample: from the command to NIfTI files",
        f"`mrigen sample` of a run of the {recipe} recipe, start of Python and TensorFlow included. Median of "
        f"{num_rounds} rounds.",
        ["", "seconds", "fastest to slowest"],
        [
            [f"mrigen sample -n {count}", statistics.median(each), f"{min(each):.3g} to {max(each):.3g}"]
            for count, each in seconds.items()
        ],
    )
    return [section]


def _mrigen(folder, *arguments) -> None:
    """Runs a command of mrigen with a cache of its own, and shows what it says only where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, "MRIGEN_CACHE": str(Path(folder) / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"mrigen {' '.join(map(str, arguments))} failed:\n{done.stderr[-2000:]}")
