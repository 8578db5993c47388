"""Jobs on a SLURM cluster: plain batch scripts, handed to SLURM's own commands, and what became of them.

Why not submitit, dask-jobqueue or Parsl: they pickle a function and start it anew, and what is to be kept here is a
command line in a script of some ten lines, which a person can read, change and hand to sbatch herself, and which puts
itself into the queue again from inside (`scontrol requeue`) when its time is up or a step was killed.
"""

import dataclasses
import datetime
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrigen.errors import Fault, MrigenError, UsageError
from mrigen.recipe import load_recipe, recipe_name
from mrigen.system.files import read_json, write_json, write_text
from mrigen.training.refusals import refuse_fit, refuse_resume

# Seconds before the time is up at which SLURM asks the steps of a job to save.
WARNING_SECONDS = 120
# A task that is killed goes back into the queue this often; what kills it again and again is no accident.
MOST_RESTARTS = 10
JOBS = "jobs"


class ClusterError(MrigenError):
    """SLURM is not there, or refused."""


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a job asks SLURM for; None leaves it to the cluster's defaults.

    Attributes:
        partition, time, mem: as SLURM writes them, such as "gpu", "04:00:00", "32G" (a node).
        nodes: of one job; each runs one task.
        gpus_per_node, cpus_per_task: numbers.
        others: further options of sbatch, such as "--constraint=a100".
    """

    partition: str | None = None
    time: str | None = None
    nodes: int = 1
    gpus_per_node: int | None = None
    mem: str | None = None
    cpus_per_task: int | None = None
    others: tuple[str, ...] = ()

    def options(self) -> list[str]:
        """Returns the options of sbatch.

        Raises:
            UsageError: one is malformed.
        """
        faults = [
            Fault(
                "expected an option of sbatch with two dashes, such as `others='--constraint=a100'`.",
                f"others[{other!r}]",
            )
            for other in self.others
            if not other.startswith("--") or not other.isprintable()
        ]
        faults += [
            Fault(f"got {value}, expected a number >= 1. Correct it, or leave it out.", name)
            for name, value in (("nodes", self.nodes), ("cpus_per_task", self.cpus_per_task))
            if value is not None and value < 1
        ]
        faults += [
            Fault(f"got {value!r}, expected one word as SLURM takes it. See man sbatch.", name)
            for name, value in (("partition", self.partition), ("time", self.time), ("mem", self.mem))
            if value is not None and (not value or value.split() != [value])
        ]
        if faults:
            raise UsageError(faults)
        named = {
            "partition": self.partition,
            "time": self.time,
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "gpus-per-node": self.gpus_per_node,
            "mem": self.mem,
            "cpus-per-task": self.cpus_per_task,
        }
        return [f"--{name}={value}" for name, value in named.items() if value is not None] + list(self.others)


def mrigen_command() -> list[str]:
    """Returns the command line of mrigen by its full path, so that a job needs no environment to be activated."""
    script = Path(sys.executable).with_name("mrigen")
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "from mrigen_cli.main import main; main()"]


def job_script(
    name: str, command: Sequence[str], resources: Resources, log: str, tasks: int | None = None, at_once: int = 1
) -> str:
    """Returns a batch script that runs a command and goes back into the queue until it is done.

    Args:
        name: of the job.
        command: what each node runs once; exit status 75 asks for the queue, as does a kill.
        resources: what to ask for.
        log: path of what the job says, with SLURM's placeholders.
        tasks: of a job array; None for a job of its own.
        at_once: tasks of the array at one time.

    Raises:
        UsageError: an option is malformed.
    """
    options = [f"--job-name={in_plain_letters(name)}", f"--output={log}", "--open-mode=append", "--requeue"]
    options += [f"--signal=USR1@{WARNING_SECONDS}", *resources.options()]
    if tasks is not None:
        options.append(f"--array=0-{tasks - 1}%{at_once}")
    lines = "".join(f"#SBATCH {option}\n" for option in options)
    kill = "--kill-on-bad-exit=1 " if resources.nodes > 1 else ""
    return f"""#!/bin/bash
{lines}
# One task a node. Steps get USR1 {WARNING_SECONDS} s before the time is up: mrigen saves, and exits with 75.
srun --ntasks={resources.nodes} --ntasks-per-node=1 {kill}{shlex.join(command)}
status=$?
# 75: saved, put it in the queue again. Above 128: killed; it goes on from its last checkpoint.
if [ $status -eq 75 ] || {{ [ $status -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MOST_RESTARTS} ]; }}; then
  scontrol requeue "$SLURM_JOB_ID" && exit $status
fi
exit $status
"""


def in_plain_letters(name: str) -> str:
    """Returns a name with a hyphen for whatever could mean something to SLURM or to a shell.

    Example:
        >>> in_plain_letters("my recipe%j\\n#SBATCH --wrap=x")
        'my-recipe-j--SBATCH---wrap-x'
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


@dataclasses.dataclass
class Job:
    """A job that may be looked at, and sent.

    Attributes:
        folder: where its script and its log will lie.
        script: what SLURM is given.
        about: what to remember of it, such as the run.
    """

    folder: Path
    script: str
    about: dict[str, Any]

    def submit(self) -> str:
        """Sends it, and returns its number; see `submit`."""
        while True:
            try:
                return submit(self.folder, self.script, self.about)
            except FileExistsError:  # Another submit of the same second has it.
                new = self.folder.with_name(f"{self.folder.name}-{uuid.uuid4().hex[:6]}")
                self.script, self.folder = self.script.replace(str(self.folder), str(new)), new


def fit_job(
    recipe: str | os.PathLike,
    run: str | os.PathLike,
    overrides: Sequence[str] = (),
    resources: Resources = Resources(),
) -> Job:
    """Returns the job of a fit, which begins `run`, or goes on with it; nothing is written or sent.

    Args:
        recipe: a file, or the name of a shipped one.
        run: folder of the run.
        overrides: strings `key=value`.
        resources: what to ask for; each of its nodes runs one process.

    Raises:
        MrigenError: a fit of the recipe would be refused, or an option is malformed.
    """
    settings = list(overrides)
    if resources.nodes > 1:
        settings.append(f"training.workers={resources.nodes}")
    resolved, name = load_recipe(recipe, settings), recipe_name(recipe)
    if (Path(run) / "recipe.yaml").is_file():
        refuse_resume(run, resolved, is_here=False)
    else:
        refuse_fit(resolved, run, is_here=False)
    folder = new_job_folder(name)
    options = [part for setting in settings for part in ("--set", setting)]
    command = [*mrigen_command(), "fit", str(recipe), *options, "--resume", str(run)]
    script = job_script(f"mrigen-{name}", command, resources, f"{folder}/log-%j.txt")
    return Job(folder, script, {"name": f"fit {name}", "run": str(run)})


def sweep_job(
    name: str,
    directory: str | os.PathLike,
    trials: int,
    resources: Resources = Resources(),
    at_once: int = 4,
) -> Job:
    """Returns the job array of a sweep, a trial a task; nothing is written or sent.

    Args:
        name: of the sweep.
        directory: its folder, which is to be there when the job begins.
        trials: to be made.
        resources: what each trial asks for.
        at_once: trials at one time.

    Raises:
        UsageError: an option is malformed.
    """
    folder = new_job_folder(f"sweep-{name}")
    command = [*mrigen_command(), "sweep", "--resume", str(directory), "--take", "1"]
    script = job_script(f"mrigen-sweep-{name}", command, resources, f"{folder}/log-%A_%a.txt", max(trials, 1), at_once)
    return Job(folder, script, {"name": f"sweep {name}", "sweep": str(directory)})


def new_job_folder(name: str, root: str | os.PathLike = JOBS) -> Path:
    """Returns jobs/<name>-<time>, a folder that does not exist."""
    stem = f"{in_plain_letters(name)}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path, count = Path(root) / stem, 1
    while path.exists():
        count += 1
        path = Path(root) / f"{stem}-{count}"
    return path


def submit(folder: Path, script: str, about: dict[str, Any]) -> str:
    """Writes job.sh and job.json into a new folder, hands the script to sbatch, and returns the job's number.

    Args:
        folder: of the job.
        script: of `job_script`.
        about: what to remember of it, such as the run.

    Raises:
        ClusterError: there is no sbatch, or it refused; the folder is removed again.
    """
    folder.mkdir(parents=True)
    path, reserved = folder / "job.sh", _reserve(about)
    write_text(path, script)
    try:
        said = _ask(["sbatch", "--parsable", str(path)])
    except ClusterError:
        path.unlink()
        folder.rmdir()
        if reserved is not None:
            reserved.rmdir()
        raise
    job = said.strip().splitlines()[-1].partition(";")[0]
    write_json(folder / "job.json", {"job": job, "submitted": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}", **about})
    return job


def _reserve(about: dict[str, Any]) -> Path | None:
    """Returns the folder of a job's run, so far empty and made so that no other job is given it; None where a run is
    there already."""
    if "run" not in about:
        return None
    run = Path(about["run"])
    run.mkdir(parents=True, exist_ok=True)
    return None if any(run.iterdir()) else run


def list_jobs(root: str | os.PathLike = JOBS) -> list[dict[str, str]]:
    """Returns one row a job (a task of an array) that was submitted from here, oldest first.

    Returns:
        job: SLURM's number. name. state: as SLURM says, such as PENDING, RUNNING, COMPLETED; "unknown" where SLURM has
        forgotten it. reason: why it waits, or its exit status. last: the last line of its log.

    Raises:
        UsageError: no job was submitted from here. ClusterError: there is no SLURM.
    """
    files = sorted(Path(root).glob("*/job.json"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise UsageError(f"{root}: no jobs, expected some that were submitted from this folder with mrigen submit.")
    rows = []
    for path in files:
        about = read_json(path)
        states = _states(about["job"]) or {about["job"]: ("unknown", "")}
        for job, (state, reason) in states.items():
            logs = sorted(path.parent.glob(f"log-{job}.txt")) or sorted(path.parent.glob(f"log-{about['job']}.txt"))
            last = last_line(logs[0]) if logs else ""
            rows.append({"job": job, "name": about["name"], "state": state, "reason": reason, "last": last})
    return rows


def last_line(path: Path) -> str:
    """Returns the last line of a log that says something; of a progress bar, what it says now."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        lines = file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _states(job: str) -> dict[str, tuple[str, str]]:
    """Returns number -> (state, reason) of a job, or of each task of an array."""
    states = {}
    try:  # Of the past, where the cluster keeps accounts.
        for line in _ask(["sacct", "-n", "-P", "-X", "-j", job, "-o", "JobID,State,ExitCode"]).splitlines():
            number, state, status = line.split("|")[:3]
            states[number] = (state, status)
    except ClusterError:
        pass
    for command in (["scontrol", "-o", "show", "job", job], ["squeue", "-h", "-r", "-j", job, "-o", "%i|%T|%r"]):
        try:
            said = _ask(command)
        except ClusterError as error:
            if "no such command" in str(error):
                raise
            continue  # SLURM forgets a job minutes after its end.
        for line in said.splitlines():
            if command[0] == "squeue":
                number, state, reason = line.split("|")[:3]
                states[number] = (state, "" if reason == "None" else reason)
                continue
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            number = words["JobId"]
            if "ArrayTaskId" in words:
                number = f"{words['ArrayJobId']}_{words['ArrayTaskId']}"
            if number.partition("_")[2].isdigit() or "_" not in number:
                states[number] = (words["JobState"], words.get("ExitCode", ""))
    return states


def _ask(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ClusterError(
            f"{command[0]}: no such command, expected SLURM. Run this on a login node of the cluster, or see the "
            "script with `Job.script`."
        ) from None
    if ended.returncode:
        reason = " ".join(ended.stderr.split()) or f"exit status {ended.returncode}"
        raise ClusterError(f"{command[0]} refused: {reason}. Correct the options; `Job.script` shows all.")
    return ended.stdout
