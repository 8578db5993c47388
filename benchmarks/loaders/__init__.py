"""Ways from NIfTI files to batches, each a factory for `benchmarks.worker`.

Every factory takes files (a folder with sub-*/anat/*_T1w.nii.gz), folder (to keep things in), batch_size and
min_seconds; a round starts from the files alone.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

# The grid that all resample to.
VOLUME_SHAPE = (48, 56, 48)
ZOOMS = (4.0, 4.0, 4.0)
PERCENTILES = (0.0, 99.5)


def image_paths(files: str) -> list[Path]:
    """Returns the images of a cohort, in order."""
    return sorted(Path(files).glob("sub-*/anat/*_T1w.nii.gz"))


def timed_epochs(open_epochs: Callable[[Path], Callable[[], Iterable]], num_volumes, folder: str, min_seconds: float):
    """Returns (facts, run_round) of a loader.

    Args:
        open_epochs: takes a new folder, prepares what the loader prepares, and returns a function that gives the
            batches of one epoch.
        num_volumes: in an epoch.
        folder: where the new folders are made.
        min_seconds: shortest time over which later epochs are timed.
    """

    def run_round() -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            started = time.perf_counter()
            epoch = open_epochs(Path(fresh))
            prepared = time.perf_counter() - started
            _consume(epoch())
            first = time.perf_counter() - started
            disk = sum(path.stat().st_size for path in Path(fresh).rglob("*") if path.is_file())
            started, num_epochs = time.perf_counter(), 0
            while num_epochs == 0 or time.perf_counter() - started < min_seconds:
                _consume(epoch())
                num_epochs += 1
            later = (time.perf_counter() - started) / num_epochs
        return {
            "prepared_s": prepared,
            "first": num_volumes / first,
            "later": num_volumes / later,
            "disk_kib": disk / 2**10 / num_volumes,
        }

    return {}, run_round


def _consume(batches: Iterable) -> None:
    for _ in batches:
        pass
