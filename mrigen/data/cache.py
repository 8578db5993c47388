"""Prepared volumes on disk: checked, resampled once, kept as sharded TFRecord files of uint8, reused by later runs.

A cache is keyed by the content of its images and masks and by the preprocessing settings. It appears whole or not at
all; a shard that was damaged later is found (size and digest) and built again.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
import threadpoolctl

from mrigen.data.checking import Duplicates, find_duplicates
from mrigen.data.cohort import Cohort
from mrigen.data.contents import Contents, is_cache, space_faults
from mrigen.data.memo import Checked, FileStamp, file_digest
from mrigen.data.preparing import Preparation, prepare_image
from mrigen.errors import CohortError, MrigenError, UsageError
from mrigen.imaging.containers import check_file
from mrigen.recipe import PreprocessRecipe
from mrigen.system.files import (
    atomic_path,
    default_cache_directory,
    read_json,
    read_written_table,
    temporary_directory,
    write_json,
    write_table,
)

logger = logging.getLogger(__name__)

SHARD_BYTES = 64 * 2**20
FACTS = (
    "centre_x", "centre_y", "centre_z", "low", "scale", "surround", "head_volume_ml", "brain_volume_ml",
    "lost_fraction", "doubts",
)  # fmt: skip
QUALITY = "quality.tsv"


@dataclasses.dataclass(frozen=True)
class VolumeCache:
    """A finished cache.

    Attributes:
        directory: where it lies.
        key: digest of contents and settings; the data fingerprint of a run.
        volume_shape: (x, y, z) of every record.
        shards: paths of the TFRecord files; a record holds `row` (int64) and `volume` (bytes, uint8, C order).
        table: one row a record, in the order of `row`: the cohort's table and the facts measured while preparing
            (centre_x, centre_y, centre_z in mm; low, scale and surround, see `mrigen.data.heads.Intensities`;
            head_volume_ml, brain_volume_ml; lost_fraction; doubts, what the header left open).
    """

    directory: Path
    key: str
    volume_shape: tuple[int, int, int]
    shards: tuple[Path, ...]
    table: pd.DataFrame

    @functools.cached_property
    def quality(self) -> pd.DataFrame | None:
        """One row an image, in the order of `table`: scan_id and the measures of `mrigen.data.quality.MEASURES`; None
        of a cache that was made when nothing was measured."""
        path = self.directory / QUALITY
        if not path.is_file():
            return None
        measured = read_written_table(path, ["scan_id"])
        return self.table[["scan_id"]].merge(measured, on="scan_id", how="left", validate="one_to_one")


class UnfitImages(CohortError):
    """Some images of a cohort cannot be used.

    Attributes:
        faults: one line each.
        unfit: scan_id -> the lines about an image or its mask; the cache of the others is there.
        duplicates: images of several ids.
    """

    def __init__(self, unfit: Mapping[str, Sequence[str]], duplicates: Sequence[Duplicates]):
        lines = [line for own in unfit.values() for line in own]
        super().__init__(list(dict.fromkeys([*lines, *(found.fault for found in duplicates)])))
        self.unfit = dict(unfit)
        self.duplicates = tuple(duplicates)


def open_cache(
    cohort: Cohort,
    settings: PreprocessRecipe,
    apply_mask: bool = False,
    directory: Path | None = None,
    progress: Callable[[int], None] | None = None,
    num_workers: int | None = None,
    refuse_duplicates: bool = True,
) -> VolumeCache:
    """Returns the cache of a cohort, built or repaired if need be.

    Args:
        cohort: whose images; every row becomes a record.
        settings: what an image becomes.
        apply_mask: whether voxels outside the mask become 0.
        directory: folder of all caches.
        progress: called with 1 after each image that was prepared.
        num_workers: threads; all cores by default.
        refuse_duplicates: whether the same voxels under two ids are a fault.

    Raises:
        UnfitImages: every unfit file, one line a fault, all together.
        MrigenError: the disk is too full.
    """
    directory = Path(directory or default_cache_directory())
    builder = _Builder(cohort.table, settings, apply_mask, directory, progress, num_workers)
    key = builder.key()
    if key is not None and is_cache(directory / key) and (directory / key / QUALITY).is_file():
        builder.repair(directory / key)
    else:
        key = builder.build()
    duplicates = builder.duplicates() if refuse_duplicates else []
    if builder.unfit or duplicates:
        raise UnfitImages(builder.unfit, duplicates)
    return _load(directory / key, cohort.table)


class _Builder(Contents):
    def __init__(self, table, settings, apply_mask, directory, progress, num_workers):
        super().__init__(table, settings, apply_mask, directory)
        self.progress = progress or (lambda steps: None)
        self.num_workers = num_workers or os.cpu_count() or 1
        self.shard_size = max(1, SHARD_BYTES // int(np.prod(settings.volume_shape)))

    def build(self) -> str | None:
        """Checks and prepares every image, writes the cache of the fit ones, returns its key; None if there is none."""
        table = self.fit
        if table.empty:
            return None
        size = len(table) * int(np.prod(self.settings.volume_shape))
        logger.info(
            "Cache: preparing %d images on a grid of %s, about %.1f MB in %s",
            len(table), "x".join(map(str, self.settings.volume_shape)), size / 1e6, self.directory,
        )  # fmt: skip
        self.directory.mkdir(parents=True, exist_ok=True)
        faults = space_faults(self.directory, size)
        if faults:
            raise UsageError(faults)
        # The key is known only when every file was read, so the folder is named at the end.
        with temporary_directory(self.directory) as temporary:
            facts, shards = [], []
            for number, start in enumerate(range(0, len(table), self.shard_size)):
                path = temporary / f"shard-{number:05d}.tfrecord"
                found = self._write_shard(path, table.iloc[start : start + self.shard_size], len(facts))
                facts += found
                shards.append(_describe_shard(path, len(found)))
            if not facts:
                return None
            write_table(temporary / "facts.tsv", pd.DataFrame([fact for fact, _ in facts], columns=["scan_id", *FACTS]))
            write_table(temporary / QUALITY, pd.DataFrame([quality for _, quality in facts]))
            write_json(
                temporary / "manifest.json", {"volume_shape": list(self.settings.volume_shape), "shards": shards}
            )
            key = self.key()
            finished = self.directory / key
            if is_cache(finished):  # Another process was faster, or the memo was lost.
                self.repair(finished)
                if not (finished / QUALITY).is_file():  # It was made when nothing was measured.
                    os.replace(temporary / QUALITY, finished / QUALITY)
            else:
                shutil.rmtree(finished, ignore_errors=True)  # A folder without a manifest is no cache.
                os.rename(temporary, finished)
        return key

    def repair(self, cache: Path) -> None:
        """Builds the shards of a finished cache again that are missing or were changed."""
        manifest = read_json(cache / "manifest.json")
        paths = [cache / shard["name"] for shard in manifest["shards"]]
        known = self.memo.get_many(path for path in paths if path.is_file())
        first = 0
        for path, shard in zip(paths, manifest["shards"], strict=True):
            rows = self.fit.iloc[first : first + shard["num_records"]]
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
                    self._write_shard(temporary, rows, first)
            first += shard["num_records"]

    def _write_shard(self, path: Path, table: pd.DataFrame, first: int) -> list[tuple[list, dict]]:
        """Writes one shard of the images of `table`, the rows of its records from `first` on; returns the facts and the
        measures of each that is fit, and adds the others to `unfit`."""
        facts, checked = [], {}
        records = list(table.itertuples())
        with (
            # The images keep the cores busy; small matrix products that spread over them as well only wait.
            threadpoolctl.threadpool_limits(1, "blas"),
            concurrent.futures.ThreadPoolExecutor(self.num_workers) as pool,
            tf.io.TFRecordWriter(str(path)) as writer,
        ):
            try:
                for record, (result, found) in zip(records, pool.map(self._prepare, records), strict=True):
                    checked.update(found)
                    if result.prepared is None:
                        self.unfit[record.scan_id] = [*result.faults, *result.mask_faults]
                    else:
                        writer.write(encode_record(first + len(facts), result.prepared.array.tobytes()))
                        facts.append(([record.scan_id, *_facts(result)], {"scan_id": record.scan_id, **result.quality}))
                    self.progress(1)
                writer.flush()
            except tf.errors.OpError as error:
                raise MrigenError(f"{path}: cannot be written ({error.message}). Is the disk full?") from None
        self.memo.put_many(checked)
        self.known.update(checked)
        return facts

    def _prepare(self, record) -> tuple[Preparation, dict[str, Checked]]:
        """Reads, checks and prepares one image; returns what became of it, and what to remember of its files."""
        found: dict[str, Checked] = {}
        for path in filter(None, (record.path, record.mask_path)):
            # A file that is gone, or that is none, cannot be remembered, only reported.
            with contextlib.suppress(OSError, CohortError):
                check_file(path)
                stamp = FileStamp.of(path)
                found[path] = Checked(stamp, file_digest(path))
        result = prepare_image(record.path, record.mask_path, self.settings, self.apply_mask, measured=True)
        if record.path in found:
            facts = {**result.facts, "nan": self.settings.nan_as_background}
            found[record.path] = dataclasses.replace(found[record.path], facts=facts, faults=result.faults)
            if record.mask_path in found:
                facts = {"image": found[record.path].digest}
                found[record.mask_path] = dataclasses.replace(
                    found[record.mask_path], facts=facts, faults=result.mask_faults
                )
        return result, found

    def duplicates(self) -> list[Duplicates]:
        return find_duplicates(
            self.fit,
            {path: known.digest for path, known in self.known.items()},
            {path: known.facts.get("voxels") for path, known in self.known.items()},
        )


def _facts(result: Preparation) -> list:
    prepared = result.prepared
    volumes = [prepared.head_volume, prepared.brain_volume]
    intensities = [prepared.low, prepared.scale, prepared.surround]
    return [*prepared.centre, *intensities, *volumes, prepared.lost, ",".join(result.doubts) or None]


def encode_record(row: int, volume: bytes) -> bytes:
    """Returns one record of a shard; see `VolumeCache`."""
    feature = {
        "row": tf.train.Feature(int64_list=tf.train.Int64List(value=[row])),
        "volume": tf.train.Feature(bytes_list=tf.train.BytesList(value=[volume])),
    }
    # The order of a map is not fixed otherwise, and a shard that is built again must have the same digest.
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _describe_shard(path: Path, num_records: int) -> dict:
    return {"name": path.name, "digest": file_digest(path), "num_records": num_records}


def _load(path: Path, table: pd.DataFrame) -> VolumeCache:
    manifest = read_json(path / "manifest.json")
    facts = read_written_table(path / "facts.tsv", ["scan_id"])
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
