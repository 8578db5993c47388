"""Is an image fit for use: faults of volumes and masks, the same file twice, and a memory of what was checked."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrigen.imaging.volumes import Volume, apply_affine, zooms_of

ZOOM_LIMITS = (0.2, 10.0)  # mm
FIELD_OF_VIEW_LIMITS = (60.0, 600.0)  # mm
FEWEST_VOXELS = 8
# How far the corners of a mask's grid may lie from those of its image, in voxels of the image.
GRID_TOLERANCE = 0.1
# Raise it when a check changes: what older versions remember is then forgotten.
MEMO_VERSION = 1

AXES = "xyz"
OR_EXCLUDE = "or exclude the subject with data.exclude."


def find_faults(path: str | os.PathLike, volume: Volume) -> list[str]:
    """Returns what makes an image unfit, one line a fault; nothing if it is fit.

    Looked for: voxels that are not finite; one value everywhere; an affine that is not finite or singular; voxels
    below 0.2 or above 10 mm; a field of view below 60 or above 600 mm along an axis; fewer than 8 voxels along an
    axis.

    Args:
        path: the file, for the message.
        volume: what is in it, (x, y, z).
    """
    faults = []
    array = volume.array
    low, high = (array.min(), array.max()) if array.size else (0.0, 1.0)
    # The extremes are finite if all voxels are, and are found in a fraction of the time.
    if not np.isfinite([low, high]).all():
        finite = array[np.isfinite(array)]
        faults.append(
            f"{path}: got {array.size - finite.size} of {array.size} voxels that are not finite, expected none. "
            f"Convert the image again, {OR_EXCLUDE}"
        )
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if low == high:
        faults.append(f"{path}: got the value {low:g} in all voxels, expected an image. Restore the file, {OR_EXCLUDE}")
    if min(array.shape) < FEWEST_VOXELS:
        faults.append(
            f"{path}: got the shape {_times(array.shape)}, expected at least {FEWEST_VOXELS} voxels along each axis. "
            f"Take the whole 3-D image, {OR_EXCLUDE}"
        )
    return faults + _affine_faults(path, volume)


def _affine_faults(path: str | os.PathLike, volume: Volume) -> list[str]:
    affine = np.asarray(volume.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        return [
            f"{path}: got an affine with values that are not finite, expected a map from voxels to mm. "
            f"Convert the image again, {OR_EXCLUDE}"
        ]
    zooms = np.array(zooms_of(affine))
    # The determinant of the directions alone: small voxels do not make an affine singular.
    if (zooms == 0).any() or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-3:
        return [
            f"{path}: got a singular affine {np.round(affine[:3, :3], 4).tolist()}, expected three independent axes. "
            f"Convert the image again, {OR_EXCLUDE}"
        ]
    faults = []
    low, high = ZOOM_LIMITS
    if zooms.min() < low or zooms.max() > high:
        faults.append(
            f"{path}: got voxels of {_times(zooms)} mm, expected {low:g} to {high:g} mm along each axis. "
            f"Correct the header, {OR_EXCLUDE}"
        )
    low, high = FIELD_OF_VIEW_LIMITS
    for axis, extent in zip(AXES, zooms * volume.array.shape, strict=True):
        if not low <= extent <= high:
            faults.append(
                f"{path}: got a field of view of {extent:.4g} mm along {axis}, expected {low:g} to {high:g} mm. "
                f"Correct the voxel size in the header, {OR_EXCLUDE}"
            )
    return faults


def mask_faults(path: str | os.PathLike, mask_volume: Volume, volume: Volume) -> list[str]:
    """Returns what makes a mask unfit for an image, one line a fault; nothing if it fits.

    A mask lies on the grid of its image (same shape, corners within a tenth of a voxel), and some voxels, but not
    all, are inside (above 0).

    Args:
        path: the mask's file, for the message.
        mask_volume: what is in it, (x, y, z).
        volume: the image it belongs to, (x, y, z).
    """
    faults = []
    if mask_volume.array.shape != volume.array.shape:
        faults.append(
            f"{path}: got a mask of shape {_times(mask_volume.array.shape)}, expected {_times(volume.array.shape)} "
            f"as its image. Resample the mask to the image's grid, {OR_EXCLUDE}"
        )
    else:
        distance = _corner_distance(mask_volume.affine, volume.affine, volume.array.shape)
        # Written so that a distance that is not a number counts as too far.
        if not distance <= GRID_TOLERANCE * min(volume.zooms):
            faults.append(
                f"{path}: got a mask whose grid lies {distance:.3g} mm off its image's, expected the same grid. "
                f"Resample the mask to the image's grid, {OR_EXCLUDE}"
            )
    inside = int((mask_volume.array > 0).sum())
    if inside in (0, mask_volume.array.size):
        faults.append(
            f"{path}: got a mask with {'no voxel' if inside == 0 else 'every voxel'} above 0, expected a part of the "
            f"image. Make the mask again, {OR_EXCLUDE}"
        )
    return faults


def _corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the corners of two grids of one shape."""
    corners = np.array(list(itertools.product(*((0, size - 1) for size in shape))))
    return float(np.linalg.norm(apply_affine(first, corners) - apply_affine(second, corners), axis=1).max())


def _times(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)


def duplicate_faults(table: pd.DataFrame, digests: Mapping[str, str]) -> list[str]:
    """Returns one line for each file content that stands under several scan ids.

    The same image under two ids would be in the training and the held-out set at once.

    Args:
        table: a cohort's table: scan_id, path.
        digests: path -> digest (`file_digest`); rows without one are passed over.
    """
    known = table[["scan_id", "path"]].assign(digest=table["path"].map(digests))
    known = known[known["digest"].notna()].drop_duplicates("scan_id").sort_values("scan_id")
    faults = []
    for _, rows in known[known["digest"].duplicated(keep=False)].groupby("digest", sort=False):
        first, *others = rows["path"]
        faults.append(
            f"{first}: got the same content under {len(rows)} ids ({', '.join(rows['scan_id'])}; also "
            f"{', '.join(others)}), expected a different image for each. "
            "Find out whose image it is, and exclude the others with data.exclude."
        )
    return faults


def file_digest(path: str | os.PathLike) -> str:
    """Returns the BLAKE2b digest (16 bytes, 32 hexadecimal digits) of the bytes of a file."""
    with open(path, "rb") as file:
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
            rows += database.execute(f"SELECT * FROM files WHERE path IN ({marks})", chunk).fetchall()
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
