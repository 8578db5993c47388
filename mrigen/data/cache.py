"""Prepared volumes on disk: checked, resampled once, kept as sharded TFRecord files of uint8, reused by later runs.

A cache is keyed by the content of its images and masks and by the preprocessing settings. It appears whole or not at
all; a shard that was damaged later is found (size and digest) and built again.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
import tensorflow as tf
import threadpoolctl

from mrigen.data.checking import (
    Checked,
    FileMemo,
    FileStamp,
    duplicate_faults,
    file_digest,
    find_faults,
    mask_faults,
)
from mrigen.data.cohort import Cohort
from mrigen.data.preprocess import PREPROCESS_VERSION, Prepared, prepare_volume
from mrigen.errors import CohortError, MrigenError
from mrigen.imaging.volumes import read_volume
from mrigen.recipe import PreprocessRecipe
from mrigen.system.files import atomic_path, read_json, temporary_directory, write_json, write_table

logger = logging.getLogger(__name__)

CACHE_FORMAT = 1
SHARD_BYTES = 64 * 2**20
FACTS = ("centre_x", "centre_y", "centre_z", "scale", "head_volume_ml", "brain_volume_ml", "lost_fraction")


@dataclasses.dataclass(frozen=True)
class VolumeCache:
    """A finished cache.

    Attributes:
        directory: where it lies.
        key: digest of contents and settings; the data fingerprint of a run.
        volume_shape: (x, y, z) of every record.
        shards: paths of the TFRecord files; a record holds `row` (int64) and `volume` (bytes, uint8, C order).
        table: one row a record, in the order of `row`: the cohort's table and the facts measured while preparing
            (centre_x, centre_y, centre_z in mm; scale; head_volume_ml, brain_volume_ml; lost_fraction).
    """

    directory: Path
    key: str
    volume_shape: tuple[int, int, int]
    shards: tuple[Path, ...]
    table: pd.DataFrame


def default_cache_directory() -> Path:
    """Returns the folder of caches: $MRIGEN_CACHE, or mrigen/ in the user's cache folder."""
    if os.environ.get("MRIGEN_CACHE"):
        return Path(os.environ["MRIGEN_CACHE"])
    return platformdirs.user_cache_path("mrigen", appauthor=False)


def open_cache(
    cohort: Cohort,
    settings: PreprocessRecipe,
    apply_mask: bool = False,
    directory: Path | None = None,
    progress: Callable[[int], None] | None = None,
    num_workers: int | None = None,
) -> VolumeCache:
    """Returns the cache of a cohort, built or repaired if need be.

    Args:
        cohort: whose images; every row becomes a record.
        settings: what an image becomes.
        apply_mask: whether voxels outside the mask become 0.
        directory: folder of all caches.
        progress: called with 1 after each image that was prepared.
        num_workers: threads; all cores by default.

    Raises:
        CohortError: every unfit file, one line a fault, all together; nothing is kept then.
        MrigenError: the disk is too full.
    """
    directory = Path(directory or default_cache_directory())
    builder = _Builder(cohort.table, settings, apply_mask, directory, progress, num_workers)
    builder.raise_known_faults()
    key = builder.key()
    if key is not None and _is_cache(directory / key):
        builder.repair(directory / key)
    else:
        key = builder.build()
    return _load(directory / key, cohort.table)


class _Builder:
    def __init__(self, table, settings, apply_mask, directory, progress, num_workers):
        self.table = table
        self.settings = settings
        self.apply_mask = apply_mask
        self.directory = directory
        self.progress = progress or (lambda steps: None)
        self.num_workers = num_workers or os.cpu_count() or 1
        self.memo = FileMemo(directory / "checks.sqlite")
        self.known = self.memo.get_many(self._files())
        self.shard_size = max(1, SHARD_BYTES // int(np.prod(settings.volume_shape)))

    def _files(self) -> list[str]:
        return [*self.table["path"], *self.table["mask_path"].dropna()]

    def raise_known_faults(self) -> None:
        """Raises what is remembered of unchanged files, before anything is read again."""
        faults = []
        for row in self.table.itertuples():
            image, mask = self.known.get(row.path), self.known.get(row.mask_path)
            if image is not None:
                faults += image.faults
                # A mask may fit one image and not another, so its faults are remembered with the image's digest.
                if mask is not None and mask.facts.get("image") == image.digest:
                    faults += mask.faults
        self._raise(faults + self._duplicate_faults())

    def key(self) -> str | None:
        """Returns the digest of contents and settings, or None while a file's content is not known."""
        if any(path not in self.known for path in self._files()):
            return None
        content = {
            "format": [CACHE_FORMAT, PREPROCESS_VERSION],
            "settings": self.settings.model_dump(mode="json"),
            "apply_mask": self.apply_mask,
            "images": [
                [row.scan_id, self.known[row.path].digest, self.known[row.mask_path].digest if row.mask_path else None]
                for row in self.table.itertuples()
            ],
        }
        return "volumes-" + hashlib.blake2b(json.dumps(content).encode(), digest_size=10).hexdigest()

    def build(self) -> str:
        """Checks and prepares every image, writes the cache, returns its key."""
        size = len(self.table) * int(np.prod(self.settings.volume_shape))
        logger.info(
            "Cache: preparing %d images on a grid of %s, about %.1f MB in %s",
            len(self.table), "x".join(map(str, self.settings.volume_shape)), size / 1e6, self.directory,
        )  # fmt: skip
        self.directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.directory).free
        if free < 1.05 * size:
            raise MrigenError(
                f"{self.directory}: got {free / 1e6:.0f} MB of free space, expected at least {1.05 * size / 1e6:.0f} "
                "MB for the cache. Free some, or set MRIGEN_CACHE to another disk."
            )
        # The key is known only when every file was read, so the folder is named at the end.
        with temporary_directory(self.directory) as temporary:
            facts, shards, faults = [], [], []
            for number, rows in enumerate(self._shard_rows()):
                path = temporary / f"shard-{number:05d}.tfrecord"
                shard_facts, shard_faults = self._write_shard(path, rows)
                facts += shard_facts
                faults += shard_faults
                shards.append(_describe_shard(path, rows))
            self._raise(faults + self._duplicate_faults())
            write_table(temporary / "facts.tsv", pd.DataFrame(facts, columns=["scan_id", *FACTS]))
            write_json(
                temporary / "manifest.json", {"volume_shape": list(self.settings.volume_shape), "shards": shards}
            )
            key = self.key()
            finished = self.directory / key
            if _is_cache(finished):  # Another process was faster, or the memo was lost.
                self.repair(finished)
            else:
                shutil.rmtree(finished, ignore_errors=True)  # A folder without a manifest is no cache.
                os.rename(temporary, finished)
        return key

    def repair(self, cache: Path) -> None:
        """Builds the shards of a finished cache again that are missing or were changed."""
        manifest = read_json(cache / "manifest.json")
        paths = [cache / shard["name"] for shard in manifest["shards"]]
        known = self.memo.get_many(path for path in paths if path.is_file())
        for path, shard, rows in zip(paths, manifest["shards"], self._shard_rows(), strict=True):
            if not path.is_file():
                digest = None
            elif str(path) in known:
                digest = known[str(path)].digest
            else:
                stamp = FileStamp.of(path)
                digest = file_digest(path)
                self.memo.put_many({path: Checked(stamp, digest)})
            if digest != shard["digest"]:
                logger.warning("Cache: %s is damaged or missing and is built again", path)
                with atomic_path(path) as temporary:
                    _, faults = self._write_shard(temporary, rows)
                    self._raise(faults)

    def _shard_rows(self) -> Iterator[range]:
        for start in range(0, len(self.table), self.shard_size):
            yield range(start, min(start + self.shard_size, len(self.table)))

    def _write_shard(self, path: Path, rows: range) -> tuple[list[list], list[str]]:
        """Writes one shard; returns the facts of its rows and the faults found."""
        facts, faults, checked = [], [], {}
        records = list(self.table.iloc[rows.start : rows.stop].itertuples())
        with (
            # The images keep the cores busy; small matrix products that spread over them as well only wait.
            threadpoolctl.threadpool_limits(1, "blas"),
            concurrent.futures.ThreadPoolExecutor(self.num_workers) as pool,
            tf.io.TFRecordWriter(str(path)) as writer,
        ):
            try:
                results = pool.map(self._prepare, records)
                for row, record, (prepared, found, unfit) in zip(rows, records, results, strict=True):
                    checked.update(found)
                    faults += unfit
                    if prepared is not None:
                        facts.append([record.scan_id, *_facts(prepared)])
                        writer.write(encode_record(row, prepared.array.tobytes()))
                    self.progress(1)
                writer.flush()
            except tf.errors.OpError as error:
                raise MrigenError(f"{path}: cannot be written ({error.message}). Is the disk full?") from None
        self.memo.put_many(checked)
        self.known.update(checked)
        return facts, faults

    def _prepare(self, record) -> tuple[Prepared | None, dict[str, Checked], list[str]]:
        """Reads, checks and prepares one image; returns it (None if unfit), what to remember of its files, faults."""
        found: dict[str, Checked] = {}
        volume, faults = self._read(record.path, found)
        mask, unfit = None, []
        if volume is not None:
            faults += find_faults(record.path, volume)
            if record.mask_path:
                mask, unfit = self._read(record.mask_path, found)
            if mask is not None:
                unfit += mask_faults(record.mask_path, mask, volume)
        # A file that is gone is in `faults`, but not in `found`: it cannot be remembered, only reported.
        if record.path in found:
            found[record.path] = dataclasses.replace(found[record.path], faults=tuple(faults))
        if record.mask_path in found:
            facts = {"image": found[record.path].digest}
            found[record.mask_path] = dataclasses.replace(found[record.mask_path], facts=facts, faults=tuple(unfit))
        if faults or unfit:
            return None, found, faults + unfit
        return prepare_volume(volume, mask, self.settings, self.apply_mask), found, []

    def _duplicate_faults(self) -> list[str]:
        return duplicate_faults(self.table, {path: known.digest for path, known in self.known.items()})

    @staticmethod
    def _read(path: str, found: dict[str, Checked]):
        try:
            stamp = FileStamp.of(path)
            found[path] = Checked(stamp, file_digest(path))
            return read_volume(path), []
        except CohortError as error:
            return None, list(error.faults)
        except OSError as error:
            return None, [f"{path}: cannot be read ({error.strerror}). Restore it, or use data.exclude."]

    @staticmethod
    def _raise(faults: list[str]) -> None:
        if faults:
            raise CohortError(list(dict.fromkeys(faults)))


def _facts(prepared: Prepared) -> list:
    return [*prepared.centre, prepared.scale, prepared.head_volume, prepared.brain_volume, prepared.lost]


def encode_record(row: int, volume: bytes) -> bytes:
    """Returns one record of a shard; see `VolumeCache`."""
    feature = {
        "row": tf.train.Feature(int64_list=tf.train.Int64List(value=[row])),
        "volume": tf.train.Feature(bytes_list=tf.train.BytesList(value=[volume])),
    }
    # The order of a map is not fixed otherwise, and a shard that is built again must have the same digest.
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _describe_shard(path: Path, rows: range) -> dict:
    return {"name": path.name, "digest": file_digest(path), "num_records": len(rows)}


def _is_cache(directory: Path) -> bool:
    """Whether a folder holds a cache whose description can be read."""
    try:
        manifest = read_json(directory / "manifest.json")
    except (OSError, ValueError):
        return False
    return {"volume_shape", "shards"} <= set(manifest) and (directory / "facts.tsv").is_file()


def _load(path: Path, table: pd.DataFrame) -> VolumeCache:
    manifest = read_json(path / "manifest.json")
    facts = pd.read_csv(path / "facts.tsv", sep="\t", dtype={"scan_id": str}, na_values=["n/a"], keep_default_na=False)
    return VolumeCache(
        directory=path,
        key=path.name,
        volume_shape=tuple(manifest["volume_shape"]),
        shards=tuple(path / shard["name"] for shard in manifest["shards"]),
        # A column of the cohort's own that has the name of a fact is kept under another name.
        table=table.reset_index(drop=True).merge(
            facts, on="scan_id", how="left", validate="one_to_one", suffixes=("_given", "")
        ),
    )
