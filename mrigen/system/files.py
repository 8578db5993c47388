"""Files that appear whole or not at all: written under a temporary name, then renamed; and files that are read, which
must be some."""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import platformdirs

from mrigen.errors import MrigenError
from mrigen.system.names import defuse, restore

# What a path leads to that is no file.
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class NoFile(OSError):
    """A path leads to something that has no end, or no content: a folder, a pipe, a socket, a device, itself.

    Attributes:
        what: that it leads to.
    """

    def __init__(self, what: str, path: str | os.PathLike):
        super().__init__(errno.EINVAL, f"{what}, not a file", os.fspath(path))
        self.what = what


def open_file(path: str | os.PathLike, **settings) -> IO:
    """Returns a file that is open for reading; of whatever else would never end, it says so instead of waiting.

    Args:
        path: of the file, or of a link to it.
        settings: of `open`; bytes are read by default.

    Raises:
        NoFile: it is none. OSError: it is missing or may not be read.
    """
    try:
        mode = os.stat(path).st_mode  # First: to open a device may mean something to it.
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NoFile("a link that leads to itself", path) from None
        raise
    what = next((name for is_kind, name in _NO_FILES if is_kind(mode)), None)
    if what is not None:
        raise NoFile(what, path)
    # Without waiting: what was a file may be a pipe by now.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, **{"mode": "rb", **settings}, opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NoFile("something else", path)
    return file


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


def existing_parent(path: str | os.PathLike) -> Path:
    """Returns the nearest folder above a path, or the path itself, that is there."""
    path = Path(os.path.abspath(path))
    return next((parent for parent in (path, *path.parents) if parent.exists()), Path(path.anchor))


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
    """Writes `value` as indented JSON to `path`, whole or not at all.

    Raises:
        MrigenError: there is a NaN or an infinity in it.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        if "JSON compliant" not in str(error):
            raise
        raise MrigenError(
            f"{path}: got figures that are NaN or infinite, expected numbers; nothing was written. What they were made "
            "of (weights, latents or images) is damaged or out of any range: look at it, or fit again."
        ) from None
    write_text(path, text + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Returns the JSON value in `path`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: str | os.PathLike, frame) -> None:
    """Writes a pandas data frame as a BIDS-style TSV (tabs, `n/a` for missing), whole or not at all.

    No text in it is a formula to a spreadsheet; `read_written_table` gives back what was there.
    """
    with atomic_path(path) as temporary:
        defused(frame).to_csv(temporary, sep="\t", index=False, na_rep="n/a")


def defused(frame):
    """Returns a data frame for people: each text, and each name of a column, as `mrigen.system.names.defuse` has it."""
    return _of_texts(frame, defuse)


def read_written_table(path: str | os.PathLike, text: Iterable[str] | None = (), **settings):
    """Returns a table of `write_table` as a pandas data frame.

    Args:
        path: of the table.
        text: columns that are text, whatever stands in them; None for all.
        settings: of `pandas.read_csv`.

    Raises:
        ValueError: it is no table. OSError: it cannot be read.
    """
    import pandas as pd

    settings = {"sep": "\t", "na_values": ["n/a"], "keep_default_na": False, **settings}
    dtype = str if text is None else dict.fromkeys(text, str)
    with open_file(path) as file:
        _check_width(file, settings["sep"])
        return _of_texts(pd.read_csv(file, dtype=dtype, **settings), restore)


def _check_width(file: IO[bytes], separator: str) -> None:
    """Raises a ValueError where the second line has more cells than the first: pandas would shift all columns."""
    lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        names, cells = (next(rows, []) for rows in [csv.reader(lines, delimiter=separator)] * 2)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    finally:
        lines.detach()
        file.seek(0)
    if len(cells) > len(names):
        raise ValueError(f"got {len(cells)} cells in the second line, expected {len(names)} as in the first")


def _of_texts(frame, change: Callable[[str], str]):
    """Returns a data frame whose texts, and names of columns, are changed."""
    known: dict[str, str] = {}

    def changed(cell):
        if not isinstance(cell, str):
            return cell
        if cell not in known:
            known[cell] = change(cell)
        return known[cell]

    frame = frame.rename(columns=changed)
    texts = [place for place, kind in enumerate(frame.dtypes) if kind.kind == "O" or kind.name in ("str", "string")]
    for place in texts:
        frame.isetitem(place, frame.iloc[:, place].map(changed))
    return frame


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
