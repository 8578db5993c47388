"""Is an image fit for use: faults of volumes and masks, the same file twice, and a memory of what was checked."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrigen.imaging import headers
from mrigen.imaging.volumes import Volume, apply_affine, zooms_of
from mrigen.system.wording import counted, some

ZOOM_LIMITS = (0.2, 10.0)  # mm
FIELD_OF_VIEW_LIMITS = (60.0, 600.0)  # mm
FEWEST_VOXELS = 8
# How far the corners of a mask's grid may lie from those of its image, in voxels of the image.
GRID_TOLERANCE = 0.1
# Raise it when a check changes: what older versions remember is then forgotten.
MEMO_VERSION = 2

AXES = "xyz"
OR_EXCLUDE = "or exclude the subject with data.exclude."

# What it means that a header leaves something open, and what to do.
DOUBTS = {
    headers.ORIENTATION: (
        "nothing in the header says which way the axes run. The first is taken to run to the left, the second to "
        "the front, the third up, as is usual; an image that was stored otherwise is mirrored or turned. Convert "
        "the source again, or set the header's codes and maps (sform, qform)."
    ),
    headers.IDENTITY: (
        "the affine is that of an array (1 mm along the axes, from the origin on), as programs write that know of "
        "no other. Volumes may be wrong, and left and right exchanged. Write the affine of the source."
    ),
    headers.ORIGIN: (
        "the first voxel is the origin, and the axes are the world's, as programs write that know the voxel size "
        "alone. Left and right may be exchanged. Compare with the source."
    ),
    headers.ZOOMS: (
        "no voxel size above 0 along some axis, so 1 mm is taken. Volumes may be wrong. Write the voxel size into "
        "the header (pixdim)."
    ),
    headers.UNITS: (
        "lengths without a unit, or not in millimetres; they are taken for millimetres. That is right where head "
        "volumes are those of heads."
    ),
    headers.FORMS: (
        "sform and qform, or the voxel size beside them, disagree; the sform is taken. Look at the image in a "
        "viewer, and make them the same."
    ),
    headers.SHEAR: (
        "the axes are not at right angles (a tilted gantry, or an affine registration in the header); they are "
        "taken so. Resample the image if that was not meant."
    ),
}


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


def doubt_notes(table: pd.DataFrame, doubts: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns a sentence for each kind of thing that headers left open: in how many images, what it means, what to do.

    Args:
        table: a cohort's table: path.
        doubts: path -> the `doubts` of the volume (see `Volume`); images without any may be missing.

    Example:
        >>> table = pd.DataFrame({"path": ["a.nii", "b.nii"]})
        >>> doubt_notes(table, {"b.nii": ("units",)})[0][:46]
        '1 of 2 images (b.nii): lengths without a unit,'
    """
    paths = list(dict.fromkeys(table["path"]))
    by_kind: dict[str, list[str]] = {}
    for path in paths:
        for kind in doubts.get(path, ()):
            by_kind.setdefault(kind, []).append(path)
    kinds = [*(kind for kind in DOUBTS if kind in by_kind), *sorted(kind for kind in by_kind if kind not in DOUBTS)]
    everyone = counted(len(paths), "image", "images")
    return [
        f"{len(by_kind[kind])} of {everyone} ({some(by_kind[kind], 3)}): {DOUBTS.get(kind, f'{kind} is left open.')}"
        for kind in kinds
    ]


def duplicate_faults(
    table: pd.DataFrame, digests: Mapping[str, str], voxel_digests: Mapping[str, str] | None = None
) -> list[str]:
    """Returns one line for each content that stands under several scan ids: the same file, or the same voxels.

    The same image under two ids would be in the training and the held-out set at once.

    Args:
        table: a cohort's table: scan_id, path.
        digests: path -> digest of the file (`file_digest`); rows without one are passed over.
        voxel_digests: path -> digest of the voxels (`voxel_digest`), likewise.
    """
    rows = table[["scan_id", "path"]].drop_duplicates("scan_id").sort_values("scan_id")
    alike: dict[frozenset, tuple[str, pd.DataFrame]] = {}
    # Files last: where they are the same, so are the voxels.
    for what, known in (("voxels", voxel_digests or {}), ("content", digests)):
        digest = rows["path"].map(known)
        for _, group in rows[digest.notna() & digest.duplicated(keep=False)].groupby(digest, sort=False):
            alike[frozenset(group["scan_id"])] = what, group
    faults = []
    for ids, (what, group) in sorted(alike.items(), key=lambda item: item[1][1]["scan_id"].iloc[0]):
        if any(ids < others for others in alike):
            continue
        first, *others = group["path"]
        faults.append(
            f"{first}: got the same {what} under {len(group)} ids ({', '.join(group['scan_id'])}; also "
            f"{', '.join(others)}), expected a different image for each. "
            "Find out whose image it is, and exclude the others with data.exclude."
        )
    return faults


def voxel_digest(volume: Volume) -> str:
    """Returns a digest (32 hexadecimal digits) of the voxels of an image of closest-canonical axes.

    It is the same for the same voxels, in whatever file, order of storage and type they were, as long as float32 holds
    them; the affine does not count. Of each plane the CRC-32 is taken, and of these BLAKE2b: several times faster than
    BLAKE2b of all, and as good where nobody wants to deceive.

    Args:
        volume: as `read_volume` returns it.

    Example:
        >>> array = np.arange(24.0).reshape(2, 3, 4)
        >>> ours = Volume(array, np.eye(4)), Volume(array.astype(np.uint8), np.eye(4)), Volume(array + 1, np.eye(4))
        >>> len({voxel_digest(volume) for volume in ours})
        2
    """
    array = volume.array
    plane = np.empty(array.shape[1:], np.float32)
    checksums = np.empty(len(array), "<u4")
    for index, values in enumerate(array):
        np.add(values, np.float32(0), out=plane, casting="unsafe")  # There are two zeros, one of them negative.
        checksums[index] = zlib.crc32(plane)
    digest = hashlib.blake2b(repr(tuple(array.shape)).encode(), digest_size=16)
    digest.update(checksums)
    return digest.hexdigest()


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
