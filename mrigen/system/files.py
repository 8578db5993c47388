"""Files that appear whole or not at all: written under a temporary name, then renamed."""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import platformdirs

from mrigen.errors import UsageError


def default_cache_directory() -> Path:
    """Returns the folder of caches: $MRIGEN_CACHE, or mrigen/ in the user's cache folder."""
    if os.environ.get("MRIGEN_CACHE"):
        return Path(os.environ["MRIGEN_CACHE"])
    return platformdirs.user_cache_path("mrigen", appauthor=False)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it when the block ends well.

    The temporary name keeps the suffixes of `path` (so that writers that look at them work), starts with a dot,
    and is removed when the block fails. A reader never sees a half-written file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path.parent, path.name)
    # Not by mkstemp: that makes private files, and to ask for the umask is to change it, for all threads.
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_directory(parent: str | os.PathLike, name: str = "") -> Iterator[Path]:
    """Yields a new directory in `parent`, to be renamed by the caller; what is still there at the end is removed.

    Its name starts with a dot, so no reader takes it for something finished.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(parent, name)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary directory beside `path` that is renamed to it when the block ends well.

    If another process made `path` in the meantime, that one is kept. An empty `path` is replaced.
    """
    path = Path(path)
    with temporary_directory(path.parent, path.name) as temporary:
        yield temporary
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir() or not any(path.iterdir()):
                raise


def ensure_space(path: str | os.PathLike, num_bytes: int) -> None:
    """Makes sure that a file of `num_bytes` fits beside `path`, for writers that break badly on a full disk.

    Raises:
        OSError: ENOSPC, naming `path`.
    """
    if shutil.disk_usage(Path(path).parent).free < num_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` (UTF-8) to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON (no NaN, no infinity) to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Returns the JSON value in `path`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: str | os.PathLike, frame) -> None:
    """Writes a pandas data frame as a BIDS-style TSV (tabs, `n/a` for missing), whole or not at all."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, sep="\t", index=False, na_rep="n/a")


def refuse_taken(paths: Iterable[Path], force: bool) -> None:
    """Raises a UsageError that names the first of `paths` that is there already, unless `force` replaces them."""
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not force:
        raise UsageError(
            f"{taken}: is there already, expected a new file. Name another place with `directory`, or use `force=True`."
        )


def remove_leftovers(directory: str | os.PathLike) -> None:
    """Removes, from a directory and those in it, what processes that were killed had under temporary names."""
    for leftover in list(Path(directory).rglob(".tmp-*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Has renames reach the disk in the order in which they were made, also when the power fails."""
    with contextlib.suppress(OSError):  # Some network file systems cannot.
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_path(parent: Path, name: str) -> Path:
    return parent / "-".join(filter(None, (".tmp", uuid.uuid4().hex[:8], name)))
