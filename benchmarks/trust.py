"""Whether runs can be trusted: python -m benchmarks.trust pairs|submits|kills [N] [--seed 0] (Linux)

pairs: two fits with different settings begin in one folder at random moments. One trains, one is refused, and all
files are of the one. submits: fits are submitted in a loop to a SLURM on this machine (root; see benchmarks.slurm):
each has a run of its own. kills: every verb that writes is killed by SIGKILL, SIGINT or SIGTERM, at a random write or
after a random share of its time. Every earlier file has to be as it was, or whole where the verb replaces it; every new
one whole; and the same command run again (of a sweep: `--resume`) succeeds.

Everything is as small as can be (32 heads at 16 mm). Commands are processes that are forked from one that has loaded
TensorFlow: it is their own work that is disturbed, not five seconds of loading.
"""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

TINY = [
    "smoke", "--set", "preprocess.zooms=16", "--set", "preprocess.volume_shape=[12,14,12]",
    "--set", "model.channels=[2,4]", "--set", "data.phantom.zooms=8",
    "--set", "data.num_subjects=32", "--set", "data.split.train=0.5", "--set", "data.split.validation=0.25",
    "--set", "data.split.heldout=0.25", "-q",
]  # fmt: skip
MORPH = ["--set", "model.kind=morph", "--set", "model.field_channels=2", "--set", "training.epochs=1"]
TOLD = ["--set", "model.condition=[sex]", "--set", "training.epochs=1"]
# Of the models, the one that costs least.
PLAIN = ["--set", "model.kind=autoencoder", "--set", "training.epochs=1"]
BASE = ["--run", "runs/base", "-q"]
SWEEP = [*PLAIN, "--over", "model.latent_dim=2,3"]
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# What a verb says when it was asked to end: interrupted, "run me again", or ended by the signal itself.
ENDED = (130, 143, 75, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class Verb:
    """A command that writes, and the command that goes on with it when it was killed (the same, if None)."""

    arguments: Sequence[str]
    again: Sequence[str] | None = None


VERBS = {
    "fit": Verb(["fit", *TINY, *PLAIN, "--resume", "runs/new"]),
    "resume": Verb(["fit", "--resume", "runs/half", "-q"]),
    "check": Verb(["check", *TINY, "--set", "data.source=files", "--set", "data.root=cohort"]),
    "qc": Verb(["qc", "cohort", "--set", "preprocess.zooms=16", "--set", "preprocess.volume_shape=[12,14,12]", "-q"]),
    "sample": Verb(["sample", "-n", "3", "--fields", *BASE]),
    "encode": Verb(["encode", "-o", "out/latents.tsv", *BASE]),
    "decode": Verb(["decode", "latents.tsv", "-o", "out/decoded", *BASE]),
    "reconstruct": Verb(["reconstruct", "head.nii.gz", "other.nii.gz", *BASE]),
    "interpolate": Verb(["interpolate", "head.nii.gz", "other.nii.gz", *BASE]),
    "traverse": Verb(["traverse", "--directions", "2", "--steps", "3", *BASE]),
    "template": Verb(["template", "--by", "sex", *BASE]),
    "transfer": Verb(["transfer", "--given", "sex=F", "--run", "runs/told", "-q"]),
    "latents": Verb(["latents", *BASE]),
    "segment": Verb(["segment", "head.nii.gz", "other.nii.gz", *BASE]),
    "diagnose": Verb(["diagnose", "--iw", "2", *BASE]),
    "probe": Verb(["probe", *BASE]),
    "explain": Verb(["explain", "--no-withhold", "--permutations", "100", "--steps", "3", *BASE]),
    "evaluate": Verb(["evaluate", "--only", "reconstruction", *BASE]),
    "compare": Verb(["compare", "-o", "out/table.csv", "-q"]),
    "phantom": Verb(["phantom", "-n", "6", "--zooms", "8", "-o", "out/phantom", "-q"]),
    "sweep": Verb(["sweep", *TINY, *SWEEP, "-o", "sweep"], ["sweep", "--resume", "sweep", "-q"]),
    "submit": Verb(["submit", "fit", *TINY, *PLAIN]),
}


@dataclasses.dataclass
class Ended:
    """How a command ended: exit status (negative: a signal), seconds of its CPU, writes, and what it said."""

    status: int
    seconds: float
    writes: int
    said: str


@click.command()
@click.argument("what", type=click.Choice(["pairs", "submits", "kills"]))
@click.argument("number", default=0, type=click.IntRange(min=0), metavar="[N]")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--only", multiple=True, type=click.Choice(list(VERBS)), help="Verbs to kill.  [default: all]")
@click.option("--folder", type=click.Path(), help="To keep what was found wrong in.  [default: a temporary one]")
@click.option("--inside", is_flag=True, hidden=True)
def main(what, number, seed, only, folder, inside) -> None:
    """Prints one row each; exits with 1 if anything was mixed, lost or half-written."""
    if inside:
        os.chdir(folder)
        sys.exit(not submits(number))
    with contextlib.ExitStack() as stack:
        folder = Path(folder or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if what == "submits":
            sys.exit(on_a_cluster(folder, number or 20))
        load()
        moments = random.Random(seed)
        fine = pairs(folder, number or 20, moments) if what == "pairs" else kills(folder, number or 40, moments, only)
    sys.exit(not fine)


def load() -> None:
    """Loads what commands would load one after another; nothing is computed, so that a fork has no threads to miss."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    import mrigen_cli.main  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    import mrigen
    from mrigen.system.backend import load_tensorflow

    load_tensorflow()
    for name in mrigen.__all__:
        getattr(mrigen, name)
    import mrigen.training.fitting
    import mrigen.training.planning


def begin(arguments: Sequence[str], folder: Path, at_write: int = 0, number: int = signal.SIGKILL) -> int:
    """Returns the process of a command in a folder, which sends itself a signal at a write, if that is above 0.

    What it says goes to <folder>.txt, and how often it wrote to <folder>.count.
    """
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
        said = os.open(f"{folder}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        count = _count_writes(folder, at_write, number)
        try:
            from mrigen_cli.main import main as run

            run(list(arguments))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else bool(end.code)
        sys.stdout.flush()
        sys.stderr.flush()
        Path(f"{folder}.count").write_text(str(count[0]))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _count_writes(folder: Path, at_write: int, number: int) -> list[int]:
    count, prefix = [0], str(folder)

    def hook(event, arguments):
        writes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
        if event == "open" and isinstance(arguments[2], int):
            writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and os.path.abspath(str(arguments[0])).startswith(prefix + "/"):
            count[0] += 1
            if count[0] == at_write:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    return count


def end(process: int, folder: Path, after: float | None = None, number: int = signal.SIGKILL) -> Ended:
    """Returns how a process of `begin` ended; it is sent a signal after so many seconds of its CPU."""
    while True:
        found, status, usage = os.wait4(process, os.WNOHANG)
        if found:
            break
        if after is not None and seconds_of(process) >= after:
            os.kill(process, number)
            after = None
        time.sleep(0.01)
    said, count = Path(f"{folder}.txt"), Path(f"{folder}.count")
    writes = int(count.read_text()) if count.exists() else 0
    words = said.read_text(errors="replace") if said.exists() else ""
    for path in (said, count):
        path.unlink(missing_ok=True)
    return Ended(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, writes, words)


def seconds_of(process: int) -> float:
    """Returns the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(arguments: Sequence[str], folder: Path) -> Ended:
    """Returns how an undisturbed command ended.

    Raises:
        SystemExit: it failed.
    """
    ended = end(begin(arguments, folder), folder)
    if ended.status:
        raise SystemExit(f"benchmarks.trust: {' '.join(arguments)}: status {ended.status}: {ended.said}")
    return ended


def pairs(folder: Path, number: int, moments: random.Random) -> bool:
    """Returns whether of each pair of fits one trained and one was refused, and nothing was mixed."""
    os.environ["MRIGEN_CACHE"] = str(folder / "cache")
    settings = [[*PLAIN, "--set", f"training.seed={seed}", "--set", f"model.latent_dim={seed + 3}"] for seed in (0, 1)]
    usual = run(["fit", *TINY, *settings[0], "--run", "first"], folder).seconds
    print("| pair | second after | trained | refused with | files |\n|--:|--:|:--|:--|:--|")
    good = 0
    for pair in range(number):
        name, share = f"run-{pair:03d}", moments.uniform(0.0, 1.0)
        places = [folder, folder / "second"]
        places[1].mkdir(exist_ok=True)
        target = str(folder / name)
        first = begin(["fit", *TINY, *settings[0], "--run", target], places[0])
        while not os.waitid(os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if seconds_of(first) >= share * usual:
                break
            time.sleep(0.005)
        second = begin(["fit", *TINY, *settings[1], "--run", target], places[1])
        ends = [end(process, place) for process, place in zip((first, second), places, strict=True)]
        statuses = [one.status for one in ends]
        won = statuses.index(0) if 0 in statuses else None
        loser = ends[1 - won] if won is not None else ends[0]
        reason = next((words for words in ("is being fitted", "a run is there already") if words in loser.said), None)
        mixed = "nobody trained" if won is None else of_whom(Path(target), won)
        fine = sorted(statuses) == [0, 2] and reason is not None and not mixed
        good += fine
        told = reason or " ".join(loser.said.split())[-160:]
        trained = "nobody" if won is None else ("first", "second")[won]
        print(
            f"| {pair} | {share * usual:.2f} s | {trained} | {told} ({loser.status}) | {mixed or 'of one'} |",
            flush=True,
        )
    print(f"\n{good} of {number} pairs: one trained, one refused, none mixed")
    return good == number


def of_whom(directory: Path, seed: int) -> str:
    """Returns which files of a run are not of the fit with a seed, "" where all are."""
    from mrigen.runs import open_run

    run = open_run(directory)  # Which looks at the digests of all files.
    width = seed + 3
    found = {
        "recipe.yaml": run.recipe.training.seed == seed,
        "run.json": run.facts["settings"]["training"]["seed"] == seed,
        "metrics.json": run.metrics["latent_dim"] == width,
        "latents.npz": run.load_latents()["loc"].shape[1] == width,
        "history.csv": len((directory / "history.csv").read_text().splitlines()) == 2,
    }
    return ", ".join(name for name, fine in found.items() if not fine)


def kills(folder: Path, number: int, moments: random.Random, only: Sequence[str]) -> bool:
    """Returns whether no kill lost, halved or blocked anything."""
    base, work = folder / "base", folder / "work"
    os.environ["MRIGEN_CACHE"] = str(work / "cache")
    verbs = list(only or VERBS)
    prepare(work)
    shutil.copytree(work, base, symlinks=True)
    before, usual = digests(base), {}
    print("| kill | verb | signal | when | changed | new | half-written | left under .tmp- | again |")
    print("|--:|:--|:--|:--|--:|--:|:--|--:|:--|")
    good = done = 0
    order: list[str] = []
    while done < number:
        order = order or moments.sample(verbs, len(verbs))
        verb = order.pop()
        if verb not in usual:
            restore(base, work)
            usual[verb] = run(VERBS[verb].arguments, work)
        restore(base, work)
        sent, at_write, share = moments.choice(SIGNALS), moments.random() < 0.6, moments.random()
        chosen = 1 + int(share * max(1, usual[verb].writes))
        if at_write:
            ended = end(begin(VERBS[verb].arguments, work, chosen, sent), work)
        else:
            ended = end(begin(VERBS[verb].arguments, work), work, share * usual[verb].seconds, sent)
        if ended.status == 0:  # It was quicker.
            continue
        done += 1
        after = digests(work)
        changed = [name for name in before if after.get(name) != before[name]]
        new = [name for name in after if name not in before]
        halves = [name for name in [*changed, *new] if not is_whole(work / name)]
        lost = [name for name in changed if name not in after and not is_replaced(work / name)]
        left = sum(".tmp-" in name for name in new)
        again = end(begin(command_again(verb, work), work), work)
        broken = [name for name in digests(work) if not is_whole(work / name)]
        fine = ended.status in ENDED and not halves and not lost and not again.status and not broken
        good += fine
        when = f"write {chosen} of {usual[verb].writes}" if at_write else f"{share:.0%} of {usual[verb].seconds:.1f} s"
        said = "succeeds" if not again.status else f"{again.status}: {' '.join(again.said.split())[-200:]}"
        said += "" if ended.status in ENDED else f" (ended with {ended.status}: {' '.join(ended.said.split())[-200:]})"
        wrong = ", ".join([*halves, *(f"{name} is lost" for name in lost), *broken]) or "–"
        row = [done, verb, signal.Signals(sent).name, when, len(changed), len(new), wrong, left, said]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(f"\n{good} of {done} kills: earlier files whole, none half-written, the same command succeeds")
    return good == done


def prepare(work: Path) -> None:
    """Makes what the verbs work on: finished runs, half a run, a cohort, images, a table of latents, and an sbatch."""
    work.mkdir()
    run(["fit", *TINY, *MORPH, "--run", "runs/base"], work)
    run(["fit", *TINY, *TOLD, "--run", "runs/told"], work)
    run(["encode", "-o", "latents.tsv", *BASE], work)
    (cohort,) = (work / "cache").glob("phantom-*")
    shutil.copytree(cohort, work / "cohort")
    heads = sorted((work / "cohort").glob("sub-*/anat/*_T1w.nii.gz"))
    shutil.copy(heads[0], work / "head.nii.gz")
    shutil.copy(heads[1], work / "other.nii.gz")
    fit = begin(["fit", *TINY, *PLAIN[:2], "--set", "training.epochs=30", "--run", "runs/half"], work)
    while not (work / "runs" / "half" / "checkpoint" / "progress.json").is_file():
        time.sleep(0.01)
    os.kill(fit, signal.SIGTERM)
    ended = end(fit, work)
    if ended.status != 75:
        raise SystemExit(f"benchmarks.trust: a fit that was asked to stop: status {ended.status}: {ended.said}")
    tools = work.parent / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text("#!/bin/sh\necho 1\n")
    (tools / "sbatch").chmod(0o755)
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"


def command_again(verb: str, work: Path) -> Sequence[str]:
    """Returns the command that has to succeed after a kill: the same, or what goes on with what is there."""
    again = VERBS[verb].again
    return (
        again if again is not None and (work / again[again.index("--resume") + 1]).exists() else VERBS[verb].arguments
    )


def restore(base: Path, work: Path) -> None:
    """Puts a folder back, with the times of its files."""
    shutil.rmtree(work)
    shutil.copytree(base, work, symlinks=True)


def digests(folder: Path) -> dict[str, str]:
    """Returns path below a folder -> digest, of all files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(folder))] = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return found


def is_replaced(path: Path) -> bool:
    """Whether a file that is gone belongs to a checkpoint that a fit no longer needs: a newer one counts, or the run is
    finished."""
    if path.parent.name != "checkpoint":
        return False
    if (path.parent.parent / "manifest.json").is_file():
        return True
    from mrigen.training.callbacks import weights_path

    progress = path.parent / "progress.json"
    if not progress.is_file():
        return False
    newest = json.loads(progress.read_text())
    return weights_path(path.parent, newest["epoch"], newest["step"]).is_file()


def is_whole(path: Path) -> bool:
    """Whether a file can be read to its end; logs, claims and what has a temporary name are taken as they are."""
    taken = any(part.startswith((".tmp-", ".claims", "claims", "tensorboard")) for part in path.parts)
    if taken or not path.exists() or path.name in ("log.txt", "journal.log") or "logs" in path.parts:
        return True
    reader = READERS.get(path.suffix)
    # A fit appends to its history; what broke off is dropped when it goes on.
    is_growing = path.stem == "history" and not (path.parent / "metrics.json").exists()
    if reader is None or is_growing:
        return True
    try:
        return bool(reader(path))
    except Exception:
        return False


def _read_table(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))
    return text.endswith("\n") and len({len(row) for row in rows}) == 1


def _read_image(path: Path) -> bool:
    import nibabel

    return np.isfinite(nibabel.load(path).get_fdata()).all()


def _read_arrays(path: Path) -> bool:
    with np.load(path) as content:
        return all(content[name] is not None for name in content.files)


def _read_picture(path: Path) -> bool:
    from matplotlib.image import imread

    return imread(path).size > 0


def _read_weights(path: Path) -> bool:
    import h5py

    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(item[()] if isinstance(item, h5py.Dataset) else None))
    return bool(found)


def _read_database(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def _read_lines(path: Path) -> bool:
    for line in path.read_text().splitlines():
        json.loads(line)
    return True


READERS: dict[str, Callable[[Path], bool]] = {
    ".csv": _read_table,
    ".gz": _read_image,
    ".h5": _read_weights,
    ".html": lambda path: path.read_text().rstrip().endswith("</html>"),
    ".json": lambda path: json.loads(path.read_text()) is not None,
    ".jsonl": _read_lines,
    ".npz": _read_arrays,
    ".png": _read_picture,
    ".sqlite": _read_database,
    ".tsv": _read_table,
    ".yaml": lambda path: path.read_text().endswith("\n"),
}


def on_a_cluster(folder: Path, number: int) -> int:
    """Starts a SLURM on this machine and submits inside; returns the exit status."""
    from benchmarks.slurm import CLUSTER, LONGEST_FOLDER, missing

    if missing():
        raise SystemExit(
            f"benchmarks.trust: got a machine without {', '.join(missing())}. apt-get install slurm-wlm munge"
        )
    if len(str(folder)) > LONGEST_FOLDER:
        raise SystemExit(f"benchmarks.trust: --folder: got {folder}, expected at most {LONGEST_FOLDER} characters.")
    work = folder / "work"
    work.mkdir()
    inside = [sys.executable, "-m", "benchmarks.trust", "submits", str(number), "--inside", f"--folder={work}"]
    return subprocess.run(["bash", str(CLUSTER), str(folder / "slurm"), *inside]).returncode


def submits(number: int) -> bool:
    """Returns whether each of so many submits in a loop has made a run of its own."""
    from benchmarks.slurm import ENDED as STATES
    from benchmarks.slurm import _state
    from mrigen.cluster import mrigen_command

    os.environ["MRIGEN_CACHE"] = str(Path("cache").resolve())
    subprocess.run([*mrigen_command(), "fit", *TINY, "--run", "first"], check=True, stdout=subprocess.DEVNULL)
    waiting = []
    for seed in range(number):  # Two at a time, as nobody waits for the one before.
        command = [*mrigen_command(), "submit", "fit", *TINY, *PLAIN, "--set", f"training.seed={seed}"]
        command += ["--set", f"model.latent_dim={seed + 3}"]
        waiting.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        if seed % 2:
            for process in waiting[-2:]:
                process.wait()
    jobs = []
    for process in waiting:
        said, complained = process.communicate()
        if process.returncode:
            raise SystemExit(f"benchmarks.trust: submit: status {process.returncode}: {complained}")
        jobs.append(said.strip())
    about = {
        entry["job"]: entry for entry in (json.loads(path.read_text()) for path in Path("jobs").glob("*/job.json"))
    }
    print("| submit | job | run | state | files |\n|--:|--:|:--|:--|:--|")
    good, runs = 0, set()
    for seed, job in enumerate(jobs):
        while _state(job)[0] not in STATES:
            time.sleep(0.5)
        run, state = about[job]["run"], _state(job)[0]
        mixed = of_whom(Path(run), seed) if state == "COMPLETED" else "not made"
        good += state == "COMPLETED" and not mixed and run not in runs
        runs.add(run)
        print(f"| {seed} | {job} | {run} | {state} | {mixed or 'of one'} |", flush=True)
    print(f"\n{good} of {number} submits: a run of its own, none mixed")
    return good == number


if __name__ == "__main__":
    main()
