"""Who fits a run: one process at a time, on whatever host; everyone else is told, and waits or goes elsewhere."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mrigen.errors import RunError, UsageError
from mrigen.system.claims import Claim, has_ended, is_dead, newest, read_owner, this_process

# The folder of claims, in that of a run.
CLAIMS = ".claims"
FIT = "fit"


@contextlib.contextmanager
def held(directory: str | os.PathLike) -> Iterator[Claim]:
    """Around a fit: nobody else fits into the folder meanwhile. The folder is made if it is not there, and removed
    again if nothing was written into it.

    Raises:
        UsageError: another process fits into it.
    """
    directory = Path(directory)
    is_new = not directory.exists() or not any(directory.iterdir())
    (directory / CLAIMS).mkdir(parents=True, exist_ok=True)
    claim = Claim.take(directory / CLAIMS, FIT, this_process(directory / CLAIMS), is_dead)
    if claim is None:
        raise _busy(directory)
    is_ours = True
    try:
        with claim.kept():
            yield claim
            is_ours = claim.holds
    finally:
        if is_new and is_ours and directory.is_dir() and [path.name for path in directory.iterdir()] == [CLAIMS]:
            shutil.rmtree(directory)


def refuse_busy(directory: str | os.PathLike) -> None:
    """Refuses what `held` would refuse, without claiming anything.

    Raises:
        UsageError: another process fits into the folder.
    """
    owner = _holder(Path(directory))
    if owner is not None and owner != this_process(Path(directory) / CLAIMS):
        raise _busy(Path(directory))


def _busy(directory: Path) -> UsageError:
    return UsageError(
        f"{directory}: is being fitted{_by(directory)}, expected a folder that nobody writes into. "
        "Wait for it, or name another with `directory`."
    )


def check_held(claim: Claim) -> None:
    """Refuses to go on with a fit that another process has taken over: this one was thought dead.

    Raises:
        RunError: it was taken over.
    """
    if not claim.holds:
        directory = claim.folder.parent
        raise RunError(
            f"{directory}: was taken over{_by(directory)}, because this process had been silent for so long; "
            "expected to hold it. Nothing more is written; the other process goes on."
        )


def is_held(directory: str | os.PathLike) -> bool:
    """Whether a living process fits into a folder; one that cannot be seen from here lives while it says so."""
    return _holder(Path(directory)) is not None


def refuse_held(directory: str | os.PathLike) -> None:
    """Refuses to read a run, or to write beside it, while it is fitted.

    Raises:
        RunError: it is.
    """
    if is_held(directory):
        raise RunError(
            f"{directory}: is being fitted{_by(Path(directory))}, expected a finished run. Wait for it, or "
            "name another run with `run`."
        )


def _holder(directory: Path) -> str | None:
    """Returns what the living holder of a folder wrote into its claim."""
    path = newest(directory / CLAIMS, FIT)
    if path is None:
        return None
    try:
        owner = path.read_text()
        return None if has_ended(path, owner, is_dead, _seconds_since) else owner
    except OSError:
        return None


def _seconds_since(path: Path) -> float:
    # By this host's clock: a folder that is only read is not written into to ask for another.
    return time.time() - path.stat().st_mtime


def _by(directory: Path) -> str:
    owner = read_owner(_holder(directory) or "")
    return "" if owner is None else f" by process {owner['pid']} on {owner['name']}"
