"""The right to work on something, on any file system that hosts share: a file that only one process can make.

No file is ever locked (`flock` does nothing on some network file systems, and forgets on others). Who works says so by
touching the file; who was silent for long, or is known to be dead, has lost it to whoever makes the next file.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrigen.system.files import write_text

# A worker says this often, in seconds, that it is at work; one that was silent for so long is dead.
BEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
RELEASED = "released"


class Claim:
    """The right to one thing, as long as its holder lives.

    The next holder makes the file of the next generation, which only one can; so a holder that was thought dead sees
    that it has lost the right.

    Args:
        folder: of the files. name: of what is claimed. generation: how many held it before.
    """

    def __init__(self, folder: Path, name: str, generation: int):
        self.folder, self.name, self.generation = folder, name, generation
        self.path = folder / f"{name}-{generation:03d}"
        self._beat_at = time.monotonic()

    @classmethod
    def take(
        cls, folder: Path, name: str, owner: str, is_dead: Callable[[str], bool | None] = lambda owner: None
    ) -> "Claim | None":
        """Returns the claim, or None where a living worker has it.

        Args:
            folder: of the files; it is there.
            name: of what is claimed; without a hyphen.
            owner: who claims. A job of SLURM ("slurm <number>") that is begun again has what it had.
            is_dead: says of an owner whether it is dead; None where that cannot be known, so that its silence decides.
        """
        generation, last = 0, newest(folder, name)
        if last is not None:
            generation = int(last.name.rpartition("-")[2]) + 1
            with contextlib.suppress(FileNotFoundError):
                holder = last.read_text()
                is_own = owner.startswith("slurm") and holder == owner  # SLURM began this very task again.
                if not is_own and not has_ended(last, holder, is_dead, age):
                    return None
        claim = cls(folder, name, generation)
        return claim if _make(claim.path, owner) else None

    @property
    def holds(self) -> bool:
        """Whether nobody has taken it over."""
        return newest(self.folder, self.name) == self.path

    def beat(self) -> bool:
        """Says that the holder lives, now and then, and returns whether the claim still holds."""
        if time.monotonic() - self._beat_at < BEAT_SECONDS:
            return True
        self._beat_at = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)
        return self.holds

    def release(self) -> None:
        """Gives it to whoever comes next."""
        write_text(self.path, RELEASED)

    @contextlib.contextmanager
    def kept(self):
        """Says in the background that the holder lives; releases the claim in the end, if it is still there."""
        ended = threading.Event()

        def go_on():
            while not ended.wait(BEAT_SECONDS):
                with contextlib.suppress(OSError):
                    self.beat()

        thread = threading.Thread(target=go_on, name=f"claim {self.name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()
            if self.path.exists() and self.holds:
                self.release()


def _make(path: Path, text: str) -> bool:
    """Makes a file with its content at once, and returns whether it was not there: one that a killed process left empty
    would be nobody's, and respected as long as somebody's."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}")
    temporary.write_text(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # A file system without hard links.
        try:
            with open(path, "x") as file:
                file.write(text)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def newest(folder: Path, name: str) -> Path | None:
    """Returns the file of the newest claim, or None."""
    return max(folder.glob(f"{name}-*"), default=None)


def this_process(folder: Path) -> str:
    """Returns what tells this process from all others of all hosts, as JSON: host (its name, its present boot and the
    namespace of its process numbers), pid, when the process began, and in which job of SLURM, begun how often.

    Args:
        folder: of the claims, which is told as well: a copy of the folder is nobody's.
    """
    owner = {"host": _host(), "name": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}
    return json.dumps(owner | {"folder": folder.stat().st_ino} | _job())


def read_owner(text: str) -> dict[str, Any] | None:
    """Returns what `this_process` said; None of another text."""
    try:
        owner = json.loads(text)
        return owner if isinstance(owner, dict) and {"host", "name", "pid", "began"} <= set(owner) else None
    except ValueError:
        return None


def is_dead(owner: str) -> bool | None:
    """Returns whether the process that `this_process` described is dead; None of one that cannot be seen from here."""
    process, job = read_owner(owner), _job()
    if process is None:
        return None
    if job and process.get("job") == job["job"] and process.get("restarts", 0) < job["restarts"]:
        return True  # SLURM killed it before it began the job again.
    if process["host"] != _host():
        return None
    began = _began(process["pid"])
    return began is None or began != process["began"]


def has_ended(path: Path, holder: str, is_dead: Callable[[str], bool | None], age: Callable[[Path], float]) -> bool:
    """Returns whether a claim holds no more.

    Args:
        path: its file. holder: what stands in it.
        is_dead: see `Claim.take`.
        age: how many seconds ago a file was touched.
    """
    if holder == RELEASED or (read_owner(holder) or {}).get("folder") not in (None, path.parent.stat().st_ino):
        return True
    known = is_dead(holder)
    return age(path) >= STALE_SECONDS if known is None else known


def age(path: Path) -> float:
    """Returns the seconds since a file was touched, by the clock of its file system: hosts have clocks of their own."""
    probe = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _job() -> dict[str, Any]:
    job = os.environ.get("SLURM_JOB_ID")
    return {"job": job, "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0)} if job else {}


def _host() -> str:
    """Returns the host, its present boot, and the namespace in which its process numbers count (containers)."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _began(pid: int) -> str | None:
    """Returns when a process began, in words that no other process with its number has; None if there is none."""
    try:
        # The name of the program, in brackets, may hold anything; the 22nd field is the time since the boot.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return ""
