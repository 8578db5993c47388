"""One device, two devices of one process, two processes: python -m benchmarks.devices [--kills] (3 min; 10 with kills)

The same small VAE (batch norm, changed images, optimal sigma) is fitted on one CPU device, on two logical ones and
by two processes on loopback; loss curves and their largest relative difference from the first are printed. With
--kills, two processes lose one to SIGKILL, or have one asked to stop by SIGTERM, and are started again.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

PROGRAM = "from mrigen_cli.main import main; main()"
EAGER = "from mrigen.training import epochs; epochs.CHECKPOINT_SECONDS = 0.0; " + PROGRAM
PORTS = (19400, 19401)
CURVES = ("loss", "val_loss", "decoder_sigma", "val_decoder_sigma")


@click.command()
@click.option("--epochs", default=5, show_default=True, type=click.IntRange(3), help="Of each fit.")
@click.option("--kills", is_flag=True, help="Also kill a worker and the chief, and stop one.")
def main(epochs: int, kills: bool) -> None:
    """Prints the curves and their differences; exits with 1 where they differ by more than 1e-4."""
    fit = ["fit", "smoke", "-q", "--set", f"training.epochs={epochs}", "--set", "training.batch_size=4"]
    fit += ["--set", "training.precision=float32"]
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: Path(folder) / name for name in ("one", "devices", "workers")}
        _finish([_start([*fit, "--resume", str(runs["one"])])])
        _finish([_start([*fit, "--resume", str(runs["devices"]), "--set", "training.devices=2"])])
        _finish(_start_workers([*fit, "--resume", str(runs["workers"])]))
        curves = {name: _curves(run) for name, run in runs.items()}
        print("| epoch | one device | two devices | two processes |\n|--:|--:|--:|--:|")
        for epoch in range(epochs):
            print(f"| {epoch + 1} | " + " | ".join(f"{rows[epoch]['loss']:.2f}" for rows in curves.values()) + " |")
        worst = max(_difference(curves[name], curves["one"]) for name in ("devices", "workers"))
        print(f"\nLargest relative difference of {', '.join(CURVES)}: {worst:.1e}\n")
        same = not kills or all(_disturb(fit, runs["workers"], Path(folder), *how) for how in DISTURBANCES)
    sys.exit(not (worst <= 1e-4 and same))


DISTURBANCES = (
    ("worker killed", 1, signal.SIGKILL),
    ("chief killed", 0, signal.SIGKILL),
    ("stopped", 1, signal.SIGTERM),
)


def _disturb(fit: list[str], whole: Path, folder: Path, name: str, who: int, number: int) -> bool:
    run = folder / name.replace(" ", "-")
    arguments = [*fit, "--resume", str(run)]
    processes = _start_workers(arguments)
    progress = run / "checkpoint" / "progress.json"
    while processes[who].poll() is None and not (progress.exists() and json.loads(progress.read_text())["epoch"] >= 1):
        time.sleep(0.01)
    processes[who].send_signal(number)
    started = time.monotonic()
    ended = _finish(processes, check=False)
    seconds = time.monotonic() - started
    _finish(_start_workers(arguments))
    same = (run / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    print(f"{name}: exit {ended} after {seconds:.0f} s; started again, history.csv is equal: {same}", flush=True)
    return same


def _start(arguments: list[str], config: dict | None = None) -> subprocess.Popen:
    environment = os.environ | ({} if config is None else {"TF_CONFIG": json.dumps(config)})
    program = PROGRAM if config is None else EAGER
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _start_workers(arguments: list[str]) -> list[subprocess.Popen]:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in PORTS]}
    tasks = [{"type": "worker", "index": index} for index in range(len(PORTS))]
    return [_start(arguments, {"cluster": cluster, "task": task}) for task in tasks]


def _finish(processes: list[subprocess.Popen], check: bool = True) -> list[int]:
    ended = [process.wait(timeout=300) for process in processes]
    if check and any(ended):
        raise SystemExit(f"The fit ended with {ended}.")
    return ended


def _curves(run: Path) -> list[dict[str, float]]:
    with open(run / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _difference(rows: list[dict], expected: list[dict]) -> float:
    pairs = [(row[name], other[name]) for row, other in zip(rows, expected, strict=True) for name in CURVES]
    return max(abs(value - other) / abs(other) for value, other in pairs)


if __name__ == "__main__":
    main()
