"""The command line, run in this process with what it said kept, and what must hold of it however it was called."""

import contextlib
import hashlib
import io
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Of one call that trains nothing: seconds of the CPU, seconds of the clock (on a machine that others use) and memory.
MOST_SECONDS, MOST_WAITING, MOST_MEGABYTES = 30.0, 300.0, 1024.0
# Signal, clock, and after how many seconds, where that is always the same.
TIMERS = ((signal.SIGPROF, signal.ITIMER_PROF, None), (signal.SIGALRM, signal.ITIMER_REAL, MOST_WAITING))
NOT_FORESEEN = "This was not foreseen"


class TooSlow(BaseException):
    """No Exception: nothing that a call catches."""


class Reached(SystemExit):
    """TensorFlow was about to be loaded: nothing that comes before it had a fault."""


@dataclass(frozen=True)
class Ended:
    """How a call ended: exit status, what it wrote, and whether that was before TensorFlow was loaded."""

    status: int
    out: str
    err: str
    seconds: float = 0.0
    megabytes: float = 0.0
    reached: bool = False

    @property
    def faults(self) -> list[str]:
        """Its lines about what is wrong, without the name of the program."""
        heads = ("mrigen: ", "Error: ", "Warning: ")
        return [line.partition(": ")[2] for line in self.err.splitlines() if line.startswith(heads)]


def call(*arguments: object, tensorflow: bool = False, seconds: float = MOST_SECONDS) -> Ended:
    """Returns how the command line ended, in this process.

    Args:
        arguments: as a shell would hand them on.
        tensorflow: whether to go on where TensorFlow is loaded; else the call ends there, with status 0.
        seconds: of the CPU, after which it is ended.
    """
    from mrigen_cli.main import main

    from mrigen.system import backend

    def reach(*_, **__):
        raise Reached(0)

    def ring(*_):
        raise TooSlow(f"more than {seconds:g} s of the CPU, or {MOST_WAITING:g} s of waiting")

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    loads, names = backend.load_tensorflow, (signal.SIGTERM, signal.SIGALRM, signal.SIGPROF)
    handlers = {name: signal.getsignal(name) for name in names}
    before, started, reached = _megabytes(), time.process_time(), False
    for name, timer, limit in TIMERS:
        signal.signal(name, ring)
        signal.setitimer(timer, seconds if limit is None else limit)
    quiet = os.environ.pop("MRIGEN_QUIET", None)
    try:
        if not tensorflow:
            backend.load_tensorflow = reach
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([str(argument) for argument in arguments])
    except SystemExit as end:
        status, reached = end.code or 0, isinstance(end, Reached)
    finally:
        for _, timer, _ in TIMERS:
            signal.setitimer(timer, 0)
        for name, handler in handlers.items():
            signal.signal(name, handler)
        backend.load_tensorflow = loads
        os.environ.pop("MRIGEN_QUIET", None)
        if quiet is not None:
            os.environ["MRIGEN_QUIET"] = quiet
    said = out.buffer.getvalue().decode()
    return Ended(status, said, err.getvalue(), time.process_time() - started, _megabytes() - before, reached)


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def snapshot(folder: Path) -> dict[str, str]:
    """Returns what lies in a folder: path -> digest of a file, target of a link, or kind of anything else."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = path.lstat().st_mode
        name = str(path.relative_to(folder))
        if stat.S_ISLNK(kind):
            found[name] = f"link to {os.readlink(path)}"
        elif stat.S_ISREG(kind):
            found[name] = hashlib.blake2b(_content(path), digest_size=16).hexdigest()
        else:
            found[name] = f"kind {stat.S_IFMT(kind):o}"
    return found


def _content(path: Path) -> bytes:
    mode = path.stat().st_mode
    try:
        return path.read_bytes()
    except PermissionError:
        path.chmod(mode | 0o400)
        try:
            return path.read_bytes()
        finally:
            path.chmod(mode)


def check(ended: Ended, folder: Path, before: dict[str, str]) -> None:
    """Makes sure that a call ended well, or in lines of ours with nothing changed.

    Args:
        ended: the call.
        folder: where it was called. before: what had been there, see `snapshot`.

    Raises:
        AssertionError: it did not.
    """
    assert ended.status in (0, 1, 2), f"status {ended.status}: {ended.err[-2000:]}"
    assert "Traceback" not in ended.err and NOT_FORESEEN not in ended.err, ended.err[-2000:]
    assert ended.megabytes < MOST_MEGABYTES, f"{ended.megabytes:.0f} MB"
    strange = [line for line in ended.err.splitlines() if not line.isprintable()]
    assert not strange, strange
    after = snapshot(folder)
    if ended.status:
        assert ended.faults, ended.err
        assert all(line.strip() for line in ended.faults), ended.err
    if ended.status == 2:
        assert after == before, {name for name in {*after, *before} if after.get(name) != before.get(name)}
    assert not half_written(set(after) - set(before))
    for name, digest in after.items():
        if before.get(name) != digest and (folder / name).is_file():
            strange = without_numbers(folder / name)
            assert strange is None, f"{name}: {strange}"


def half_written(names: Iterable[str]) -> list[str]:
    """Returns the temporary names among names; but not notes of outputs that may be written again."""
    return [name for name in names if ".tmp-" in name and ".tmp-unfinished-" not in name]


def without_numbers(path: Path) -> str | None:
    """Returns what of a file that was written is no number where one should be; None where nothing is."""
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel

        image = nibabel.load(path)
        values = {"voxels": np.asarray(image.dataobj), "affine": image.affine}
        return next((what for what, array in values.items() if not np.isfinite(array).all()), None)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        return next((name for name, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()), None)
    if path.suffix in (".json", ".tsv", ".csv"):
        words = path.read_text(encoding="utf-8").replace("\t", " ").replace(",", " ").split()
        return next((word for word in words if word.strip("[]").lower() in ("nan", "inf", "-inf", "infinity")), None)
    return None


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Around what is to run in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
