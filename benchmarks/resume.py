"""Kills fits by SIGKILL and resumes them: python -m benchmarks.resume [--kills 20] (about 15 s a kill)

A small fit that saves after every step is killed again and again: at random moments of training, or as soon as a
temporary file of a checkpoint is seen. When it is complete, its weights, history and figures are compared with those of
a fit that nobody disturbed and that saves after every epoch only. A fit that completes before all kills are spent is
followed by another.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import h5py
import numpy as np

PROGRAM = "from mrigen_cli.main import main; main()"
EAGER = "from mrigen.training import epochs; epochs.CHECKPOINT_SECONDS = 0.0; " + PROGRAM
RECIPE = ("smoke", "--set", "training.batch_size=4", "--set", "training.kl_warmup_epochs=3", "-q")


@click.command()
@click.option("--kills", default=20, show_default=True, type=click.IntRange(1), help="Kills in all.")
@click.option(
    "--epochs", default=40, show_default=True, type=click.IntRange(1), help="Of each fit, of four steps each."
)
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def main(kills: int, epochs: int, seed: int) -> None:
    """Prints one row a kill and one line a completed fit; exits with 1 if any differs."""
    moments = random.Random(seed)
    recipe = [*RECIPE, "--set", f"training.epochs={epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        subprocess.run(
            [sys.executable, "-c", PROGRAM, "fit", *recipe, "--run", str(whole)], check=True, stdout=subprocess.DEVNULL
        )
        print("| kill | wanted | epochs | steps | half-written | epochs in history.csv |\n|--:|:--|--:|--:|:--|--:|")
        done, same, fits = 0, True, 0
        while done < kills:
            fits += 1
            run = Path(folder) / f"killed-{fits}"
            while True:
                wanted = ("in a checkpoint's write", "at random")[done % 2] if done < kills else None
                if not _run_until(wanted, [*recipe, "--resume", str(run)], run, moments):
                    break
                done += 1
                print(f"| {done} | {wanted} | {_describe(run)} |", flush=True)
            differing = _compare(run, whole)
            same = same and not differing
            print(f"\nFit {fits}, after {done} kills in all: {differing or 'weights, history and figures are equal'}\n")
    sys.exit(not same)


def _run_until(wanted: str | None, arguments: list[str], run: Path, moments: random.Random) -> bool:
    """Returns whether the fit was killed; else it is complete."""
    checkpoint = run / "checkpoint"
    stamp = checkpoint / "progress.json"
    before = stamp.stat().st_mtime_ns if stamp.exists() else None
    log = run.with_suffix(".txt")
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, "-c", EAGER, "fit", *arguments], stdout=file, stderr=file)
    delay = moments.uniform(0.0, 1.0)

    def alive() -> bool:
        return process.poll() is None

    while alive() and wanted:  # Until this process saved something.
        if stamp.exists() and stamp.stat().st_mtime_ns != before:
            break
        time.sleep(0.005)
    started = time.monotonic()
    while alive() and wanted and time.monotonic() - started < delay:
        time.sleep(0.001)
    while alive() and wanted == "in a checkpoint's write":
        if any(path.stat().st_size for path in checkpoint.glob(".tmp-*weights.h5") if path.exists()):
            break
    if wanted and alive():
        process.kill()
    process.wait()
    if process.returncode not in (0, -9):
        raise SystemExit(f"The fit ended with status {process.returncode}: {log.read_text()}")
    return process.returncode != 0


def _describe(run: Path) -> str:
    path = run / "checkpoint" / "progress.json"
    progress = json.loads(path.read_text()) if path.exists() else {"epoch": 0, "step": 0}
    halves = " ".join(sorted(path.name.split("-", 2)[2] for path in run.rglob(".tmp-*"))) or "–"
    history = run / "history.csv"
    lines = len(history.read_text().splitlines()) - 1 if history.exists() else 0
    return f"{progress['epoch']} | {progress['step']} | {halves} | {max(0, lines)}"


def _compare(run: Path, whole: Path) -> str:
    """Returns what differs, "" where nothing does."""
    weights, expected = _weights(run), _weights(whole)
    differing = [name for name in expected if not np.array_equal(weights.get(name), expected[name])]
    histories = ("history.csv", "history.jsonl")
    differing += [name for name in histories if (run / name).read_bytes() != (whole / name).read_bytes()]
    metrics, others = (json.loads((folder / "metrics.json").read_text()) for folder in (run, whole))
    differing += [name for name in others if name != "performance" and metrics[name] != others[name]]
    return "DIFFERENT: " + ", ".join(differing) if differing else ""


def _weights(run: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(run / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


if __name__ == "__main__":
    main()
