"""Disturbs jobs on a real SLURM of two nodes: python -m benchmarks.slurm [--only CASE] [--nodes 2] (root, Linux)

`tests/slurm/cluster.sh` starts Debian's slurm-wlm on this machine. A fit that nobody disturbs comes first; then the
same fit is put back into the queue in its middle, or a task of it is killed, or a node with all that runs on it. Each
must end COMPLETED, with the losses and figures of the undisturbed one. A sweep of eight trials runs as an array, two at
a time; the fit of one trial and the worker of another are killed. At the end nothing may be left: no process, no open
port, no lock.

SLURM holds a job that was put back for two minutes; here it is told to begin after three seconds.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

CLUSTER = Path(__file__).parents[1] / "tests" / "slurm" / "cluster.sh"
FIT_CASES = ("requeue", "kill", "kill-chief", "node")
CASES = (*FIT_CASES, "sweep")
PORTS = (16817, 16821, 16822)
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
LONGEST_FOLDER = 60
# Seconds: a node takes a job that begins in the second in which it was put back for the one that was ended ("Job
# credential revoked"), and the job fails. That is what the two minutes are for.
SETTLED = 3.0
NO_CLUSTER = 77  # exit status of cluster.sh where its nodes do not come up
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE")

_put_back_at: dict[str, float] = {}  # when a waiting job was first seen to have been put back


def missing() -> list[str]:
    """Returns what a cluster on this machine lacks."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return lacking + ([] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["root"])


@click.command()
@click.option("--only", multiple=True, type=click.Choice(CASES), help="Cases.  [default: all]")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 2), help="Of each fit.")
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(2), help="Of each fit.")
@click.option("--at-epoch", default=3, show_default=True, type=click.IntRange(1), help="After which it is disturbed.")
@click.option("--compare/--no-compare", default=True, show_default=True, help="With a fit that nobody disturbs.")
@click.option("--folder", type=click.Path(), help="To keep runs and logs in.  [default: a temporary one]")
@click.option("--inside", is_flag=True, hidden=True)
def main(only, nodes, epochs, at_epoch, compare, folder, inside) -> None:
    """Prints one row a case; exits with 1 if a job was lost, differs, or left something behind."""
    cases = only or [case for case in CASES if nodes > 1 or case != "kill-chief"]
    if inside:
        os.chdir(folder)
        sys.exit(not _run(cases, nodes, epochs, at_epoch, compare))
    if missing():
        raise SystemExit(
            f"benchmarks.slurm: got a machine without {', '.join(missing())}. apt-get install slurm-wlm munge"
        )
    with contextlib.ExitStack() as stack:
        folder = folder or stack.enter_context(tempfile.TemporaryDirectory())
        if len(str(Path(folder).resolve())) > LONGEST_FOLDER:
            raise SystemExit(
                f"benchmarks.slurm: --folder: got {folder}, expected at most {LONGEST_FOLDER} characters: SLURM "
                "makes sockets in it, whose paths may not be longer than 108. Name a shorter one."
            )
        work = Path(folder).resolve() / "work"
        work.mkdir(parents=True)
        again = [sys.executable, "-m", "benchmarks.slurm", "--inside", f"--nodes={nodes}", f"--epochs={epochs}"]
        again += [
            f"--at-epoch={at_epoch}",
            "--compare" if compare else "--no-compare",
            f"--folder={work}",
            *(f"--only={case}" for case in cases),
        ]
        status = subprocess.run(["bash", str(CLUSTER), str(Path(folder) / "slurm"), *again]).returncode
        time.sleep(1.0)
        left = _left_behind(Path(folder).resolve())
        print(f"\nLeft behind: {', '.join(left) or 'no process, no open port, no lock'}")
    sys.exit(NO_CLUSTER if status == NO_CLUSTER else bool(status or left))


def _run(cases, nodes: int, epochs: int, at_epoch: int, compare: bool) -> bool:
    settings = ["--set", f"training.epochs={epochs}", "--set", "training.batch_size=4"]
    fine = True
    print(
        "| case | state | seconds | restarts | disturbed after epoch | losses and figures |\n|:--|:--|--:|--:|--:|:--|"
    )
    if compare and set(cases) & set(FIT_CASES):
        fine = _fit_case("undisturbed", None, settings, nodes, at_epoch)
    for case in cases:
        done = _sweep_case() if case == "sweep" else _fit_case(case, "undisturbed" * compare, settings, nodes, at_epoch)
        fine = fine and done
    print("\n```\n$ mrigen jobs\n" + _mrigen("jobs") + "```")
    return fine


def _fit_case(case: str, reference: str | None, settings: list[str], nodes: int, at_epoch: int) -> bool:
    """Returns whether a fit ended as it should; it is left alone if `reference` is None, not compared if it is ""."""
    started = time.monotonic()
    job = _mrigen("submit", "fit", "smoke", *settings, "--resume", case, "--nodes", str(nodes)).strip()
    epoch = "–"
    if reference is not None:
        epoch = _wait_for_epoch(Path(case), at_epoch, job)
        _disturb(case, job, nodes)
    state, restarts = _wait_for_end(job)
    differing = "" if not reference or state != "COMPLETED" else _differences(Path(case), Path(reference))
    said = "–" if not reference else differing or "equal"
    print(f"| {case} | {state} | {time.monotonic() - started:.0f} | {restarts} | {epoch} | {said} |", flush=True)
    return state == "COMPLETED" and not differing


def _disturb(case: str, job: str, nodes: int) -> None:
    if case == "requeue":
        subprocess.run(["scontrol", "requeue", job], check=True)
    elif case in ("kill", "kill-chief"):
        rank = str(nodes - 1 if case == "kill" else 0)
        for pid in _processes("fit", SLURM_JOB_ID=job, SLURM_PROCID=rank):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        node = subprocess.check_output(["squeue", "-h", "-j", job, "-o", "%B"], text=True).strip()
        daemon = int((Path(os.environ["SLURM_CONF"]).parent / "pids" / f"slurmd-{node}").read_text())
        steps = [pid for pid, line in _command_lines() if line.startswith("slurmstepd:") and f"[{job}." in line]
        steps = [pid for pid in steps if _parent_node(pid) in (node, "")]
        for pid in (daemon, *steps, *_processes("", SLURM_JOB_ID=job, SLURMD_NODENAME=node)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _wait(lambda: _state(job)[0] != "RUNNING", 120, f"{node} is dead and nobody noticed")
        subprocess.Popen(["slurmd", "-D", "-N", node], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _sweep_case() -> bool:
    started = time.monotonic()
    # Autoencoders: latents of so short fits collapse, and a collapsed trial cannot win.
    search = ["--set", "model.kind=autoencoder", "--over", "model.latent_dim=4,8"]
    search += ["--over", "training.learning_rate=5e-4,1e-3,2e-3,4e-3", "--set", "training.epochs=4"]
    job = _mrigen("submit", "sweep", "smoke", *search, "--at-once", "2", "-o", "sweep").strip()
    trials = Path("sweep", "trials")
    most = 0

    def at_work(number: int):
        nonlocal most
        running = subprocess.check_output(["squeue", "-h", "-r", "-t", "RUNNING", "-j", job, "-o", "%i"], text=True)
        most = max(most, len(running.split()))
        return (trials / f"trial-{number:04d}" / "checkpoint" / "progress.json").is_file()

    _wait(lambda: at_work(0), 300, "trial 0 did not begin")
    for pid, line in _command_lines():
        if "mrigen_cli.main" in line and str(Path("trials", "trial-0000")) in line:
            os.kill(pid, signal.SIGKILL)
    _wait(lambda: at_work(3), 600, "trial 3 did not begin")
    owner = Path("sweep", "claims", "0003-000").read_text().removeprefix("slurm ")
    for pid in _processes("sweep", SLURM_JOB_ID=owner):
        os.kill(pid, signal.SIGKILL)
    ended: dict[str, str] = {}

    def all_ended() -> bool:
        at_work(0)
        for row in json.loads(_mrigen("jobs", "--json")):
            if row["job"].startswith(f"{job}_"):
                ended[row["job"]] = row["state"]
        _begin_soon()
        return len(ended) == 8 and all(state in ENDED for state in ended.values())

    _wait(all_ended, 1800, "the sweep does not end", 3.0)
    best = _mrigen("sweep", "--resume", "sweep").strip()
    complete = sum((folder / "metrics.json").is_file() for folder in trials.iterdir())
    states = "COMPLETED" if set(ended.values()) == {"COMPLETED"} else str(ended)
    said = f"{complete} of 8 trials complete, {most} at a time at most, {Path(best).name} is best"
    print(f"| sweep | {states} | {time.monotonic() - started:.0f} | | | {said} |", flush=True)
    return complete == 8 and most == 2 and states == "COMPLETED"


def _mrigen(*arguments: str) -> str:
    from mrigen.cluster import mrigen_command

    ended = subprocess.run([*mrigen_command(), *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"mrigen {' '.join(arguments)}: status {ended.returncode}: {ended.stderr}")
    return ended.stdout


def _state(job: str) -> tuple[str, int]:
    said = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True).stdout
    words = dict(word.split("=", 1) for word in said.split() if "=" in word)
    return words.get("JobState", "UNKNOWN"), int(words.get("Restarts", 0))


def _begin_soon() -> None:
    """Lifts the two minutes that a job waits after it was put back, but for the time that its nodes need."""
    waiting = subprocess.run(
        ["squeue", "-h", "-r", "-t", "PENDING", "-o", "%A|%r"], capture_output=True, text=True
    ).stdout
    put_back = {line.partition("|")[0] for line in waiting.splitlines() if line.endswith("|BeginTime")}
    for number in set(_put_back_at) - put_back:
        del _put_back_at[number]
    for number in put_back:
        if time.monotonic() - _put_back_at.setdefault(number, time.monotonic()) > SETTLED:
            subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], capture_output=True)
            del _put_back_at[number]


def _wait(ready, seconds: float, otherwise: str, pause: float = 0.2) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"benchmarks.slurm: {otherwise} after {seconds:.0f} s")
        time.sleep(pause)


def _wait_for_epoch(run: Path, epoch: int, job: str) -> int:
    path = run / "checkpoint" / "progress.json"

    def there() -> bool:
        if _state(job)[0] in ENDED:
            raise SystemExit(f"benchmarks.slurm: job {job} ended before epoch {epoch}")
        return path.is_file() and json.loads(path.read_text())["epoch"] >= epoch

    _wait(there, 300, f"{run} has no {epoch} epochs")
    return json.loads(path.read_text())["epoch"]


def _wait_for_end(job: str) -> tuple[str, int]:
    def ended() -> bool:
        _begin_soon()
        return _state(job)[0] in ENDED

    _wait(ended, 600, f"job {job} does not end", 0.5)
    return _state(job)


def _differences(run: Path, whole: Path) -> str:
    differing = [
        name for name in ("history.csv", "history.jsonl") if (whole / name).exists()
        and (run / name).read_bytes() != (whole / name).read_bytes()
    ]  # fmt: skip
    metrics, others = (json.loads((folder / "metrics.json").read_text()) for folder in (run, whole))
    differing += [name for name in others if name != "performance" and metrics[name] != others[name]]
    return "DIFFERENT: " + ", ".join(differing) if differing else ""


def _processes(verb: str, **wanted: str) -> list[int]:
    """Returns the processes of `mrigen VERB` (of all but SLURM's own, if "") whose environment has these variables."""
    return [
        pid for pid, line in _command_lines()
        if not line.startswith(("slurm", "srun")) and (not verb or ("python" in line and f" {verb} " in line))
        and _environment(pid).items() >= wanted.items()
    ]  # fmt: skip


def _environment(pid: int) -> dict[str, str]:
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in content.split("\0") if "=" in item)


def _command_lines() -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _parent_node(pid: int) -> str:
    """Returns the node of the processes that a slurmstepd started, "" where it has none."""
    for child, _ in _command_lines():
        with contextlib.suppress(OSError, IndexError):
            if int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                return _environment(child).get("SLURMD_NODENAME", "")
    return ""


def _left_behind(folder: Path) -> list[str]:
    left = [
        f"process {pid} ({line[:60]})" for pid, line in _command_lines()
        if _environment(pid).get("SLURM_CONF", "").startswith(str(folder)) and pid != os.getpid()
    ]  # fmt: skip
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                left.append(f"port {port}")
    left += [str(path) for path in folder.glob("work/**/*.lock*")] + [
        str(path) for path in folder.glob("work/**/.tmp-*")
    ]
    claims = folder.glob("work/sweep/claims/????-???")
    last = {path.name[:4]: path for path in sorted(claims)}
    return left + [f"claim {path}" for path in last.values() if path.read_text() != "released"]


if __name__ == "__main__":
    main()
