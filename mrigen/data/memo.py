"""A memory of what was found in files, so that unchanged ones are not read again."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mrigen.system.files import open_file

# Raise it when a check changes: what older versions remember is then forgotten.
MEMO_VERSION = 3


def file_digest(path: str | os.PathLike) -> str:
    """Returns the BLAKE2b digest (16 bytes, 32 hexadecimal digits) of the bytes of a file.

    Raises:
        OSError: it is missing, may not be read, or is none (a pipe has no end).
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@dataclasses.dataclass(frozen=True)
class FileStamp:
    """By what a file counts as unchanged without being read: size in bytes and time of change in ns."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike) -> "FileStamp":
        """Returns the stamp of the file (or of what a link leads to). Take it BEFORE the file is read."""
        status = os.stat(path)
        return cls(status.st_size, status.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class Checked:
    """What a check found in one file.

    Attributes:
        stamp: of the file, taken before it was read.
        digest: of its bytes.
        facts: anything that JSON can hold.
        faults: lines, empty if the file is fit.
    """

    stamp: FileStamp
    digest: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    faults: tuple[str, ...] = ()


class FileMemo:
    """Remembers what was found in files, so that unchanged files (path, size, time of change) are not read again.

    An SQLite file. Every call opens its own connection and makes one short transaction, so threads and processes may
    share it; no write-ahead log, because that is not safe on network file systems. It is a memory, not data: a
    damaged file is deleted and begun anew, and one that cannot be used (read-only folder, locked too long) means that
    files are read again, with a line in the log.

    Args:
        path: the SQLite file; its folder is made when something is first put.
        timeout: seconds to wait for another process that writes.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> image = os.path.join(folder.name, "a.nii")
        >>> _ = Path(image).write_bytes(b"bytes")
        >>> memo = FileMemo(os.path.join(folder.name, "memo.sqlite"))
        >>> memo.put_many({image: Checked(FileStamp.of(image), file_digest(image), {"volume_ml": 1200.0})})
        >>> memo.get_many([image])[image].facts
        {'volume_ml': 1200.0}
        >>> folder.cleanup()
    """

    _CHUNK = 500  # SQLite takes at most 999 placeholders in older builds.

    def __init__(self, path: str | os.PathLike, timeout: float = 30.0):
        self.path = Path(path)
        self.timeout = timeout

    def get_many(self, paths: Iterable[str | os.PathLike]) -> dict[str, Checked]:
        """Returns path (as given, as str) -> what was found, for the files that are known and unchanged."""
        names = {str(path): os.path.abspath(path) for path in paths}
        if not names or not self.path.is_file():
            return {}
        unchanged = {}
        for name, size, mtime_ns, *found in self._guarded(lambda database: self._select(database, names.values()), []):
            stamp = FileStamp(size, mtime_ns)
            with contextlib.suppress(OSError):  # a file that is gone is not unchanged
                if FileStamp.of(name) == stamp:
                    digest, facts, faults = found
                    unchanged[name] = Checked(stamp, digest, json.loads(facts), tuple(json.loads(faults)))
        return {path: unchanged[name] for path, name in names.items() if name in unchanged}

    def put_many(self, entries: Mapping[str | os.PathLike, Checked]) -> None:
        """Remembers what was found: path -> Checked. Older entries of the same paths are replaced.

        Raises:
            TypeError: facts that JSON cannot hold.
        """
        rows = [
            (
                os.path.abspath(path),
                entry.stamp.size,
                entry.stamp.mtime_ns,
                entry.digest,
                json.dumps(entry.facts),
                json.dumps(list(entry.faults)),
            )
            for path, entry in entries.items()
        ]
        if rows:
            self._guarded(
                lambda database: database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows),
                None,
            )

    def _select(self, database: sqlite3.Connection, names: Iterable[str]) -> list[tuple]:
        rows, names = [], sorted(set(names))
        for start in range(0, len(names), self._CHUNK):
            chunk = names[start : start + self._CHUNK]
            marks = ",".join("?" * len(chunk))
            # Only question marks are put into the text.
            query = f"SELECT * FROM files WHERE path IN ({marks})"  # nosec B608
            rows += database.execute(query, chunk).fetchall()
        return rows

    def _guarded(self, work, otherwise):
        try:
            try:
                with self._connect() as database:
                    return work(database)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._delete()
                with self._connect() as database:
                    return work(database)
        except (sqlite3.Error, OSError) as error:
            logging.getLogger(__name__).warning("%s: cannot be used (%s); files are read again.", self.path, error)
            return otherwise

    def _delete(self) -> None:
        # The journal first: left alone it would be played back into the new file.
        for suffix in ("-journal", ""):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=self.timeout)
        try:
            with database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version != MEMO_VERSION:
                    self._begin(database)
                yield database
        finally:
            database.close()

    @staticmethod
    def _begin(database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        # Asked again under the lock: another process may have been faster.
        if database.execute("PRAGMA user_version").fetchone()[0] != MEMO_VERSION:
            database.execute("DROP TABLE IF EXISTS files")
            database.execute(
                "CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT, facts TEXT, "
                "faults TEXT) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {MEMO_VERSION}")
