"""A worker of a sweep: its claims on trials, its fits, and their shares of the machine."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrigen.system import claims


class Claim(claims.Claim):
    """A worker's right to a trial."""

    @classmethod
    def take(cls, folder: Path, number: int, owner: str) -> "Claim | None":  # type: ignore[override]
        """Returns the claim on a trial, or None where a living worker has it."""
        return super().take(folder, f"{number:04d}", owner, claims.is_dead)  # type: ignore[return-value]


def worker_name(folder: Path) -> str:
    """Returns who claims: the same again when SLURM begins a task anew, else this process, whose death is seen.

    Args:
        folder: of the claims.
    """
    job = os.environ.get("SLURM_JOB_ID")
    return f"slurm {job}" if job else claims.this_process(folder)


class TrialFit:
    """The process of one trial.

    Args:
        trial: Optuna's.
        claim: on it.
        command: that makes its run, or goes on with it.
        log: file that its words are appended to.
        environment: variables beside this process's own.
    """

    def __init__(self, trial, claim: Claim, command: Sequence[str], log: Path, environment: Mapping[str, str]):
        self.trial, self.claim, self.command, self.log = trial, claim, command, log
        self.attempts, self.pruned, self.seen_epoch = 0, False, max(trial.intermediate_values, default=-1)
        self.is_evaluating = False
        self.environment = {**os.environ, **environment}
        self.start()

    def start(self) -> None:
        self.attempts += 1
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip

    def evaluate(self, command: Sequence[str]) -> None:
        """Goes on with what judges the run that was made."""
        self.command, self.is_evaluating, self.attempts = command, True, 0
        self.start()

    def last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def _die_with_parent() -> None:
    # A worker that is killed takes its fits along: the trial may be another worker's by and by.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def share_machine(jobs: int) -> list[dict[str, str]]:
    """Returns, for each of so many fits at a time, the variables that give it its share of the cores and one GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // jobs))
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    shares = [dict.fromkeys(names, threads) if jobs > 1 else {} for _ in range(jobs)]
    gpus = _gpus() if jobs > 1 else []
    for index, share in enumerate(shares):
        if gpus:
            share["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    return shares


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu.strip()]
    try:
        # Found as a shell finds it: drivers put it in different places.
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)  # nosec B607
    except FileNotFoundError:
        return []
    return [str(index) for index, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU"))]
