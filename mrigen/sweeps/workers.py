"""A worker of a sweep: its claims on trials, its fits, and their shares of the machine."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrigen.system.files import write_text

# A worker says this often, in seconds, that it is at its trials; one that was silent for so long is dead.
BEAT_SECONDS = 15.0
STALE_SECONDS = 180.0


class Claim:
    """A worker's right to a trial, on any file system that hosts share: a file that only one can make.

    The next worker makes the file of the next generation, which only one can, too; so a worker that was thought dead
    sees that it has lost the trial.
    """

    def __init__(self, folder: Path, number: int, generation: int):
        self.folder, self.number, self.generation = folder, number, generation
        self.path = folder / f"{number:04d}-{generation:03d}"
        self._beat_at = time.monotonic()

    @classmethod
    def take(cls, folder: Path, number: int, owner: str) -> "Claim | None":
        """Returns the claim on a trial, or None where a living worker has it."""
        paths = sorted(folder.glob(f"{number:04d}-*"))
        generation = 0
        if paths:
            last = paths[-1]
            generation = int(last.name.partition("-")[2]) + 1
            with contextlib.suppress(FileNotFoundError):
                held_by = last.read_text()
                is_own = owner.startswith("slurm") and held_by == owner  # SLURM began this very task again.
                if held_by != "released" and not is_own and _age(last) < STALE_SECONDS:
                    return None
        claim = cls(folder, number, generation)
        try:
            with open(claim.path, "x") as file:
                file.write(owner)
        except FileExistsError:
            return None
        return claim

    def beat(self) -> bool:
        """Says that the worker lives, and returns whether the claim still holds."""
        if time.monotonic() - self._beat_at < BEAT_SECONDS:
            return True
        self._beat_at = time.monotonic()
        os.utime(self.path)
        return sorted(self.folder.glob(f"{self.number:04d}-*"))[-1] == self.path

    def release(self) -> None:
        """Gives the trial to whoever comes next."""
        write_text(self.path, "released")


def _age(path: Path) -> float:
    """Returns the seconds since a file was touched, by the clock of its file system: hosts have clocks of their own."""
    probe = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def worker_name() -> str:
    """Returns who claims: the same again when SLURM begins a task anew, else another in every process."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"slurm {job}" if job else f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"


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
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except FileNotFoundError:
        return []
    return [str(index) for index, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU"))]
