"""What breaks, and how: writes and reads that fail, what vanishes, signals, claims of others, clocks, memory.

Where a file system would have to be broken, the one call that it answers is replaced by its answer.
"""

import builtins
import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mrigen.system import backend, claims
from mrigen.system.claims import this_process
from tests.trust.bad_runs import unfinished
from tests.trust.bad_tables import people
from tests.trust.drawing import image_bytes
from tests.trust.scene import Ended, call, half_written, snapshot

PROGRAM = (sys.executable, "-c", "from mrigen_cli.main import main; main()")
SAMPLE = ("sample", "-n", "1", "--run", "run", "-o", "out", "-q")
Act = Callable[["Scene"], Ended]


@dataclass
class Scene:
    """Where a fault happens.

    Attributes:
        folder: the present one. finished: a finished run, to be copied. patch: of pytest.
    """

    folder: Path
    finished: Path
    patch: pytest.MonkeyPatch

    def run(self) -> Path:
        """Returns a copy of the finished run, `run`."""
        return Path(shutil.copytree(self.finished, self.folder / "run", dirs_exist_ok=True))


# ---- writes that fail


@contextmanager
def failing(scene: Scene, number: int, at: int, raises: Callable[[], BaseException] | None = None) -> Iterator[list]:
    """The write of that order fails, as it ends; yields a list of the names that were written before."""
    written: list[str] = []
    fsync = os.fsync

    def fail(descriptor):
        if sys._getframe(1).f_code.co_name != "atomic_path":  # Folders, for which no failure counts.
            return fsync(descriptor)
        name = os.readlink(f"/proc/self/fd/{descriptor}") if Path("/proc/self/fd").exists() else "a file"
        if len(written) == at:
            written.append(name)
            raise OSError(number, os.strerror(number), name) if raises is None else raises()
        written.append(name)
        return fsync(descriptor)

    with scene.patch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield written


def at_every_write(*words: str, number: int = errno.ENOSPC, run: bool = True, raises=None, status: int = 1):
    """Returns an act: the call with its first write failing, then anew with its second, until none fails."""

    def act(scene: Scene) -> Ended:
        last = None
        for at in range(50):
            if run:
                scene.run()
            (scene.folder / "precious.txt").write_text("precious")
            before = snapshot(scene.folder)
            with failing(scene, number, at, raises) as written:
                ended = call(*words, tensorflow=True)
            if len(written) <= at:
                assert ended.status == 0 and last is not None, ended.err
                return last
            after = snapshot(scene.folder)
            assert ended.status == status, ended.err
            assert {name: after.get(name) for name in before} == before, "an earlier file is not whole"
            assert not half_written(after)
            assert last is None or len(last.faults) == len(ended.faults)
            last = ended
            for path in scene.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise AssertionError("it writes without end")

    return act


def read_only(*words: str, place: str, number: int = errno.EROFS, run: bool = True):
    """Returns an act: nothing can be made below a place."""

    def act(scene: Scene) -> Ended:
        if run:
            scene.run()
        before, root = snapshot(scene.folder), str(scene.folder / place)
        touch, mkdir = Path.touch, Path.mkdir

        def refuse(own):
            def make(path, *arguments, **keywords):
                if os.path.abspath(path).startswith(root) and not path.exists():
                    raise OSError(number, os.strerror(number), str(path))
                return own(path, *arguments, **keywords)

            return make

        with scene.patch.context() as patch:
            patch.setattr(Path, "touch", refuse(touch))
            patch.setattr(Path, "mkdir", refuse(mkdir))
            ended = call(*words, tensorflow=True)
        assert snapshot(scene.folder) == before
        return ended

    return act


# ---- what vanishes, or does not answer


@contextmanager
def when_loaded(scene: Scene, happens: Callable[[], object]) -> Iterator[None]:
    """Something happens when everything was checked that is checked before TensorFlow is loaded."""
    loads = backend.load_tensorflow

    def load(*arguments, **keywords):
        happens()
        return loads(*arguments, **keywords)

    with scene.patch.context() as patch:
        patch.setattr(backend, "load_tensorflow", load)
        yield


def run_vanishes(name: str) -> Callable[[Scene], Ended]:
    """Returns an act: a file of a run is removed between the check and its use."""

    def act(scene: Scene) -> Ended:
        run = scene.run()
        with when_loaded(scene, (run / name).unlink):
            return call("latents", "--run", "run", "-o", "out", "-q", tensorflow=True)

    return act


def _real_people(folder: Path) -> None:
    people()(folder)
    for number, path in enumerate(sorted((folder / "people").rglob("*_T1w.nii.gz"))):
        content = bytearray(image_bytes())
        content[400 + 2 * number] += 1
        path.write_bytes(gzip.compress(bytes(content), 1))


FIT = (
    "fit",
    "smoke",
    "--set",
    "data.source=files",
    "--set",
    "data.root=people",
    "--set",
    "data.copies=tell",
    "--run",
    "run",
    "-q",
)


def failing_reads(number: int, ending: str, *words: str) -> Callable[[Scene], Ended]:
    """Returns an act: files whose names end so cannot be read."""

    def act(scene: Scene) -> Ended:
        _real_people(scene.folder)
        own, before = builtins.open, snapshot(scene.folder)
        own_os = os.open

        def broken(name) -> bool:
            return isinstance(name, (str, os.PathLike)) and os.fspath(name).endswith(ending)

        def fail(own):
            def opened(name, *arguments, **keywords):
                if broken(name):
                    raise OSError(number, os.strerror(number), os.fspath(name))
                return own(name, *arguments, **keywords)

            return opened

        with scene.patch.context() as patch:
            patch.setattr(builtins, "open", fail(own))
            patch.setattr(os, "open", fail(own_os))
            ended = call(*words, tensorflow=True)
        assert ended.status == 0 or snapshot(scene.folder) == before
        return ended

    return act


def gone_folder(scene: Scene) -> Ended:
    """The present folder was removed."""
    (scene.folder / "gone").mkdir()
    os.chdir(scene.folder / "gone")
    (scene.folder / "gone").rmdir()
    try:
        return outside(("runs",), cwd=None)
    finally:
        os.chdir(scene.folder)


# ---- signals


def outside(words: tuple[str, ...], cwd: Path | None, stdout=subprocess.PIPE, **environment: str) -> Ended:
    """Returns how the command line ended in a process of its own."""
    ended = subprocess.run(
        [*PROGRAM, *words], stdout=stdout, stderr=subprocess.PIPE, cwd=cwd, env=os.environ | environment, timeout=300
    )
    return Ended(ended.returncode, (ended.stdout or b"").decode(), ended.stderr.decode())


def signalled(number: int) -> Callable[[Scene], Ended]:
    """Returns an act: the synthetic cohort is being made by a process that is sent a signal."""

    def act(scene: Scene) -> Ended:
        (scene.folder / "precious.txt").write_text("precious")
        words = ("phantom", "-n", "400", "-o", "cohort", "-q")
        process = subprocess.Popen(
            [*PROGRAM, *words],
            stderr=subprocess.PIPE,
            cwd=scene.folder,
            # A shell that runs the tests in the background has its children ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        deadline = time.monotonic() + 600
        while not list(scene.folder.glob(".tmp-*/*/anat/*.nii.gz")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=600)[1].decode()
        assert not (scene.folder / "cohort").exists()
        assert (scene.folder / "precious.txt").read_text() == "precious"
        assert number == signal.SIGKILL or not list(scene.folder.glob(".tmp-*"))
        if number == signal.SIGKILL:
            again = call("phantom", "-n", "1", "--zooms", "8", "-o", "cohort", "-q")
            assert again.status == 0, again.err
        return Ended(process.returncode, "", said)

    return act


# ---- two at once, and clocks


def claim(scene: Scene, run: Path, seconds: float = 0.0, **other: object) -> None:
    """Writes the claim of a process, that of this one but for what is told, touched so many seconds ago."""
    folder = run / ".claims"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    owner = json.loads(this_process(folder)) | other
    (folder / "fit-000").write_text(json.dumps(owner))
    os.utime(folder / "fit-000", (time.time() - seconds,) * 2)


def claimed(*words: str, seconds: float = 0.0, whole: bool = True, jump: float = 0.0, **other: object):
    """Returns an act: a run that another process has claimed, on a machine whose clock has jumped."""

    def act(scene: Scene) -> Ended:
        run = scene.run()
        if not whole:
            unfinished(run)
        claim(scene, run, seconds, **other)
        own, before = time.time, snapshot(scene.folder)
        with scene.patch.context() as patch:
            patch.setattr(claims.time, "time", lambda: own() + jump)
            ended = call(*words, tensorflow=True)
        if ended.status:
            assert snapshot(scene.folder) == before
        return ended

    return act


# ---- memory, pipes and terminals


def out_of_memory(error: Callable[[], Exception]) -> Callable[[Scene], Ended]:
    """Returns an act: there is no memory for what is decoded."""

    def act(scene: Scene) -> Ended:
        scene.run()
        before = snapshot(scene.folder)

        def fail(*_, **__):
            raise error()

        with scene.patch.context() as patch:
            patch.setattr("mrigen.runs.run.Run.build_model", fail)
            ended = call(*SAMPLE, tensorflow=True)
        assert snapshot(scene.folder) == before
        return ended

    return act


def resource_exhausted() -> Exception:
    """Returns what TensorFlow raises where a device has no memory."""
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[8,160,224,160,32]")


def full_output(scene: Scene) -> Ended:
    """What is printed goes to a full disk."""
    with open("/dev/full", "wb") as full:
        return outside(("recipe", "schema"), scene.folder, stdout=full)


def closed_pipe(scene: Scene) -> Ended:
    """What is printed goes to a program that has ended."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        return outside(("recipe", "schema"), scene.folder, stdout=pipe)


def plain_terminal(scene: Scene) -> Ended:
    """What is printed has letters that the terminal does not know."""
    (scene.folder / "my.yaml").write_text("data: {root: /data/Ångström}\n", encoding="utf-8")
    ended = outside(("recipe", "show", "my.yaml"), scene.folder, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    assert "root: /data/" in ended.out or ended.status
    return ended
