"""A cohort's images, measured, prepared and judged; nothing is written."""

import concurrent.futures
import hashlib
import os
from collections.abc import Iterable

import numpy as np
import pandas as pd

from mrigen.data.checking import find_faults, mask_faults
from mrigen.data.cohort import Cohort
from mrigen.data.preprocess import head_mask, prepare_volume
from mrigen.data.quality import MEASURES, measure_quality
from mrigen.errors import CohortError
from mrigen.imaging.volumes import read_volume
from mrigen.quality.flags import COLUMNS, add_cohort_measures, flag_measured
from mrigen.quality.pictures import picture_strip
from mrigen.quality.result import Quality
from mrigen.quality.rules import FINE, LOOK, WRONG
from mrigen.recipe import PreprocessRecipe
from mrigen.system.progress import progress_bar

# What is kept of the cohort's table, beside what is measured.
PEOPLE = ("scan_id", "participant_id", "session_id", "cohort", "path", "sex", "age", "site")
# Images that a page shows beside those with a flag.
MOST_PICTURED = 200


def check_images(
    cohort: Cohort, settings: PreprocessRecipe, apply_mask: bool = False, num_workers: int | None = None
) -> Quality:
    """Returns the measures of a cohort's images and what is wrong or strange about them.

    An image that cannot be used at all is a flag, too, not an error: everything is told in one go.

    Args:
        cohort: whose images.
        settings: how they are prepared for the comparison with each other.
        apply_mask: whether voxels outside of the masks become 0.
        num_workers: threads; all cores by default.
    """
    table, volumes, faults = measure_images(cohort.table, settings, apply_mask, num_workers)
    readable = np.flatnonzero(~table["scan_id"].isin(faults))
    measured = add_cohort_measures(table.iloc[readable], volumes, settings.zooms)
    flags = flag_measured(measured, volumes, settings.zooms, same_volumes(volumes))
    unreadable = [(scan_id, "unreadable", WRONG, line, np.nan) for scan_id, lines in faults.items() for line in lines]
    flags = pd.concat([pd.DataFrame(unreadable, columns=list(COLUMNS)), flags], ignore_index=True)
    table = pd.concat([table, measured[[name for name in measured if name not in table]].set_axis(readable)], axis=1)
    table.insert(1, "verdict", _verdicts(table["scan_id"], flags))
    flagged = table["verdict"].to_numpy() != FINE
    others = np.flatnonzero(~flagged)
    others = others[np.unique(np.linspace(0, len(others) - 1, min(len(others), MOST_PICTURED)).astype(int))]
    shown = {*np.flatnonzero(flagged), *others}
    strips = {
        table["scan_id"][row]: picture_strip(volumes[index], settings.zooms)
        for index, row in enumerate(readable)
        if row in shown
    }
    return Quality(table, flags, strips, cohort.notes)


def measure_images(
    table: pd.DataFrame, settings: PreprocessRecipe, apply_mask: bool = False, num_workers: int | None = None
) -> tuple[pd.DataFrame, np.ndarray, dict[str, list[str]]]:
    """Returns the people and measures of images, one row each; the prepared volumes of those that can be used, (n, x,
    y, z) uint8; and of the others scan_id -> faults."""

    def measure(person):
        measures, prepared, unfit = _measure(person, settings, apply_mask)
        return {name: getattr(person, name) for name in PEOPLE if hasattr(person, name)} | measures, prepared, unfit

    volumes = np.zeros((len(table), *settings.volume_shape), np.uint8)
    rows, faults, count = [], {}, 0
    with (
        concurrent.futures.ThreadPoolExecutor(num_workers or os.cpu_count()) as pool,
        progress_bar("Measuring images", len(table), "images") as advance,
    ):
        for row, prepared, unfit in pool.map(measure, table.itertuples()):
            rows.append(row)
            if prepared is None:
                faults[row["scan_id"]] = unfit
            else:
                volumes[count] = prepared.array
                count += 1
            advance(1)
    found = pd.DataFrame(rows)
    for name in MEASURES:
        if name not in found:
            found[name] = np.nan
    return found, volumes[:count], faults


def _measure(person, settings: PreprocessRecipe, apply_mask: bool):
    """Returns the measures of an image, the prepared one (None if it is unfit), and its faults."""
    try:
        volume, mask = read_volume(person.path), None
        unfit = find_faults(person.path, volume)
        if isinstance(person.mask_path, str) and not unfit:
            mask = read_volume(person.mask_path)
            unfit = mask_faults(person.mask_path, mask, volume)
    except CohortError as error:
        unfit = list(error.faults)
    if unfit:
        return {}, None, unfit
    measures = measure_quality(volume, head_mask(volume.array), None if mask is None else mask.array > 0)
    prepared = prepare_volume(volume, mask, settings, apply_mask)
    return measures | {"lost_fraction": prepared.lost}, prepared, []


def same_volumes(volumes: np.ndarray) -> list[tuple[int, int, str]]:
    """Returns the rows of volumes that are the same to the last bit, each with the first that it equals."""
    first: dict[bytes, int] = {}
    found = []
    for row, volume in enumerate(volumes):
        digest = hashlib.blake2b(np.ascontiguousarray(volume).data, digest_size=16).digest()
        if digest in first:
            found.append((first[digest], row, "the same voxels"))
        else:
            first[digest] = row
    return found


def _verdicts(scan_ids: Iterable[str], flags: pd.DataFrame) -> list[str]:
    wrong, strange = (set(flags["scan_id"][flags["level"] == level]) for level in (WRONG, LOOK))
    return [WRONG if scan_id in wrong else LOOK if scan_id in strange else FINE for scan_id in scan_ids]
