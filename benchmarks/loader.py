"""From NIfTI files to batches: mrigen's cache beside MONAI's datasets and plain nibabel with SciPy."""

import tempfile
from pathlib import Path

import click

from benchmarks.contenders import Contender, Measured, alternate, one_by_one
from benchmarks.machine import num_cores
from benchmarks.report import Section

LOADERS = {
    "mrigen cache": "benchmarks.loaders.mrigen_cache:epochs",
    "MONAI PersistentDataset": "benchmarks.loaders.others:monai_persistent",
    "MONAI CacheDataset": "benchmarks.loaders.others:monai_cached",
    "nibabel and SciPy, threads": "benchmarks.loaders.others:nibabel_scipy",
}
READERS = {"inference": "in order", "training": "shuffled"}


def measure(quick: bool = False) -> list[Section]:
    """Returns a table of throughput and one of memory."""
    num_files, num_rounds, min_seconds = (4, 1, 0.0) if quick else (160, 3, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        files = _make_files(Path(folder) / "files", num_files)
        settings = {"files": str(files), "folder": folder, "batch_size": min(8, num_files), "min_seconds": min_seconds}
        contenders = [Contender(name, factory, settings) for name, factory in LOADERS.items()]
        measured = alternate(contenders, num_rounds)
    throughput = Section(
        "loader: volumes a second, from NIfTI files to batches",
        f"{num_files} synthetic brains of 2 mm (`mrigen phantom`), smoothed and resampled to 48x56x48 voxels of 4 mm, "
        f"scaled to [0, 1] by percentiles, in batches of {settings['batch_size']}, {num_cores()} workers. mrigen also "
        "checks and digests each file and segments the head; its cache is uint8, MONAI's float32. The first epoch "
        f"starts from the files alone; what is prepared before its first batch is timed apart. "
        f"Median of {num_rounds} alternating rounds; memory of the main process.",
        ["", "prepared, s", "first epoch, volumes/s", "later epochs, volumes/s", "disk, KiB a volume", "memory, MiB"],
        [_row(each) for each in measured],
    )
    return [throughput, _flat_memory(quick)]


def _flat_memory(quick: bool) -> Section:
    """Returns the table of what reading a cache takes in memory, for a few records and for many."""
    counts = (20, 200) if quick else (200, 20_000)
    rows = []
    for kind, order in READERS.items():
        settings = [{"num_records": count, "kind": kind} for count in counts]
        readers = [Contender(f"{kind}, {each['num_records']}", "benchmarks.loaders.mrigen_cache:records", each)
                   for each in settings]  # fmt: skip
        for count, each in zip(counts, one_by_one(readers), strict=True):
            figures = [each.median(name) for name in ("before_mb", "peak_mb", "volumes_per_second")]
            rows.append([f"{kind} ({order})", count, each.problem or figures[0], *figures[1:]])
    return Section(
        "loader: memory of reading mrigen's cache",
        "Generated records of 24x28x24 voxels (16 KiB), read once in batches of 8. Training shuffles up to 128 MiB of "
        "records in memory; inference holds none.",
        ["reading", "records", "memory before, MiB", "peak memory, MiB", "volumes/s"],
        rows,
    )


def _row(each: Measured) -> list:
    names = ("prepared_s", "first", "later", "disk_kib", "peak_rss_mb")
    figures = [each.median(name) for name in names]
    return [each.contender.name, each.problem or figures[0], *figures[1:]]


def _make_files(folder: Path, num_files: int) -> Path:
    """Writes synthetic brains of 2 mm as a BIDS folder and returns it."""
    from mrigen.data.phantom import PhantomSettings, write_phantom_cohort

    click.echo(f"  making {num_files} files", err=True)
    return write_phantom_cohort(folder, PhantomSettings(num_subjects=num_files, zooms=2.0))
