"""A cohort's images, measured, prepared and judged; and what becomes of a fit where some are wrong."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.cache import UnfitImages, VolumeCache, open_cache
from mrigen.data.checking import Duplicates, doubt_notes
from mrigen.data.cohort import Cohort
from mrigen.data.pipeline import level_blocks
from mrigen.data.quality import MEASURES
from mrigen.errors import CohortError
from mrigen.quality.copies import Copy, find_copies
from mrigen.quality.flags import COLUMNS, add_cohort_measures, flag_measured
from mrigen.quality.likeness import coarse_zooms, coarsen
from mrigen.quality.pictures import picture_strip
from mrigen.quality.result import Quality
from mrigen.quality.rules import FINE, LOOK, WRONG
from mrigen.recipe import PreprocessRecipe
from mrigen.system.files import read_json, write_json
from mrigen.system.progress import progress_bar
from mrigen.system.wording import limited

logger = logging.getLogger(__name__)

# What is kept of the cohort's table, beside what is measured.
PEOPLE = ("scan_id", "participant_id", "session_id", "cohort", "path", "sex", "age", "site")
# Images that a page shows beside those with a flag.
MOST_PICTURED = 200
# What of a cache holds the images that show one head; raise the version when they are found in another way.
COPIES, COPIES_VERSION = "copies.json", 1


def check_images(
    cohort: Cohort,
    settings: PreprocessRecipe,
    apply_mask: bool = False,
    directory: Path | None = None,
    num_workers: int | None = None,
    refuse_copies: bool = True,
) -> Quality:
    """Returns the measures of a cohort's images and what is wrong or strange about them.

    An image that cannot be used at all is a flag, too, not an error: everything is told in one go. The images are
    prepared, and kept for a fit of them.

    Args:
        cohort: whose images.
        settings: how they are prepared for the comparison with each other.
        apply_mask: whether voxels outside of the masks become 0.
        directory: folder of caches.
        num_workers: threads; all cores by default.
        refuse_copies: whether images that show one head under two ids are faults, or flags alone.
    """
    unfit, duplicates, cache = open_fit(cohort, settings, apply_mask, directory, num_workers)
    table = cohort.table[[name for name in PEOPLE if name in cohort.table]].reset_index(drop=True)
    table = pd.concat([table, _measures(table, cache)], axis=1)
    readable = np.flatnonzero(~table["scan_id"].isin(unfit))
    blocks = [np.zeros((0, *settings.volume_shape), np.uint8)] if cache is None else level_blocks(cache)
    volumes = np.concatenate([coarsen(block, settings.zooms) for block in blocks])
    zooms = coarse_zooms(settings.zooms)
    measured = add_cohort_measures(table.iloc[readable], volumes, zooms)
    copies = [] if cache is None else cohort_copies(cache, settings.zooms)
    pairs = _pairs(duplicates, measured["scan_id"])
    known = {(first, second) for first, second, _ in pairs}
    pairs += [(copy.first, copy.second, copy.describe()) for copy in copies if (copy.first, copy.second) not in known]
    flags = flag_measured(measured, volumes, zooms, pairs)
    unreadable = [(scan_id, "unreadable", WRONG, line, np.nan) for scan_id, lines in unfit.items() for line in lines]
    flags = pd.concat([pd.DataFrame(unreadable, columns=list(COLUMNS)), flags], ignore_index=True)
    table = pd.concat([table, measured[[name for name in measured if name not in table]].set_axis(readable)], axis=1)
    table.insert(1, "verdict", _verdicts(table["scan_id"], flags))
    flagged = table["verdict"].to_numpy() != FINE
    others = np.flatnonzero(~flagged)
    others = others[np.unique(np.linspace(0, len(others) - 1, min(len(others), MOST_PICTURED)).astype(int))]
    strips = {} if cache is None else _strips(cache, settings, table["scan_id"][[*np.flatnonzero(flagged), *others]])
    faults = dict.fromkeys(line for lines in unfit.values() for line in lines)
    faults |= dict.fromkeys(found.fault for found in duplicates)
    told = {frozenset(pair) for found in duplicates for pair in itertools.combinations(found.scan_ids, 2)}
    if refuse_copies and cache is not None:
        faults |= dict.fromkeys(copy_faults(cache.table, copies, told))
    return Quality(table, flags, strips, cohort.notes, tuple(doubt_notes_of(cache)), tuple(faults))


def _strips(cache: VolumeCache, settings: PreprocessRecipe, scan_ids: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns scan_id -> its picture, of those that are in the cache, in the order of its table."""
    rows = np.flatnonzero(cache.table["scan_id"].isin(list(scan_ids)))
    volumes = itertools.chain.from_iterable(level_blocks(cache, rows))
    return {
        name: picture_strip(volume, settings.zooms)
        for name, volume in zip(cache.table["scan_id"].iloc[rows], volumes, strict=True)
    }


def doubt_notes_of(cache: VolumeCache | None) -> list[str]:
    """Returns a line for each kind of thing that the headers of a cache's images left open."""
    return [] if cache is None else doubt_notes(cache.table, _doubts(cache))


def _doubts(cache: VolumeCache) -> dict[str, list[str]]:
    """Returns path -> what its header left open, of the images of which something is."""
    if "doubts" not in cache.table:
        return {}
    known = cache.table.dropna(subset=["doubts"])
    return {row.path: row.doubts.split(",") for row in known.itertuples()}


def cohort_copies(cache: VolumeCache, zooms: Sequence[float]) -> list[Copy]:
    """Returns the images that show one head under two participants; rows are those of `cache.table`. They are looked
    for once, and kept with the cache.

    Args:
        cache: the images.
        zooms: of its grid, mm.
    """
    people = cache.table["participant_id"]
    path = cache.directory / COPIES
    whose = hashlib.blake2b(json.dumps([COPIES_VERSION, *people]).encode(), digest_size=10).hexdigest()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = read_json(path)
        if known["people"] == whose:
            return [Copy(**copy) for copy in known["copies"]]
    copies = find_copies(level_blocks(cache), zooms, people.to_numpy())
    with contextlib.suppress(OSError):  # A cache that may not be written to is as good.
        write_json(path, {"people": whose, "copies": [dataclasses.asdict(copy) for copy in copies]})
    return copies


def unrelated_copies(table: pd.DataFrame, copies: Iterable[Copy]) -> list[Copy]:
    """Returns the copies whose two images are not of one family, which no split and no fold divides.

    Args:
        table: one row an image: family.
        copies: rows of the table.
    """
    families = table["family"].to_numpy()
    return [
        copy
        for copy in copies
        if not isinstance(families[copy.first], str) or families[copy.first] != families[copy.second]
    ]


def copy_faults(table: pd.DataFrame, copies: Iterable[Copy], told: Collection[frozenset] = ()) -> list[str]:
    """Returns a line for each two images that show one head under two ids; none for those of one family, which no split
    divides.

    Args:
        table: one row an image: scan_id, path, family.
        copies: rows of the table.
        told: pairs of scan ids of which more is known.
    """
    faults = []
    for copy in unrelated_copies(table, copies):
        first, second = table.iloc[copy.first], table.iloc[copy.second]
        if frozenset((first["scan_id"], second["scan_id"])) not in told:
            faults.append(
                f"{second['path']}: got the head of {first['scan_id']} again ({copy.describe()}; {first['path']}), "
                "expected a different person for each id. Exclude one of them with data.exclude, or give both one "
                "family (data.family_column) so that no split divides them; if they are two people, say "
                "`data.copies=tell`."
            )
    return limited(faults)


def open_fit(
    cohort: Cohort,
    settings: PreprocessRecipe,
    apply_mask: bool = False,
    directory: Path | None = None,
    num_workers: int | None = None,
) -> tuple[dict[str, list[str]], tuple[Duplicates, ...], VolumeCache | None]:
    """Returns the faults of the images that cannot be used (scan_id -> lines), which stand under several ids, and the
    cache of all that can be used; None if there is none. Arguments as of `check_images`."""

    def opened(people: Cohort, refuse_duplicates: bool) -> VolumeCache:
        with progress_bar("Checking and preparing images", len(people.table)) as advance:
            return open_cache(people, settings, apply_mask, directory, advance, num_workers, refuse_duplicates)

    try:
        return {}, (), opened(cohort, True)
    except UnfitImages as error:
        fit = cohort.table[~cohort.table["scan_id"].isin(error.unfit)].reset_index(drop=True)
        cache = None if fit.empty else opened(dataclasses.replace(cohort, table=fit), False)
        return error.unfit, error.duplicates, cache


def admit(quality: Quality) -> None:
    """Says in the log what is strange about images that are about to be used.

    Raises:
        CohortError: some cannot be used, one line each.
    """
    for line in limited(quality.warnings):
        logger.warning("%s", line)
    if quality.faults:
        for note in (*quality.notes, *quality.header_notes):
            logger.info("%s", note)
        raise CohortError(list(quality.faults))


def _measures(table: pd.DataFrame, cache: VolumeCache | None) -> pd.DataFrame:
    """Returns the measures of the images of a table, in its order; NaN of those that are not in the cache."""
    names = [*MEASURES, "lost_fraction", "doubts"]
    if cache is None or cache.quality is None:
        return pd.DataFrame(np.nan, index=table.index, columns=names).astype({"doubts": object})
    own = cache.table[["scan_id", *(name for name in ("lost_fraction", "doubts") if name in cache.table)]]
    measured = cache.quality.merge(own, on="scan_id").set_index("scan_id")
    return measured.reindex(table["scan_id"]).reindex(columns=names).reset_index(drop=True)


def _pairs(duplicates: Iterable[Duplicates], scan_ids: pd.Series) -> list[tuple[int, int, str]]:
    """Returns the rows of images under several ids, each with the first, and what they have in common."""
    rows = {scan_id: row for row, scan_id in enumerate(scan_ids)}
    return [
        (rows[found.scan_ids[0]], rows[other], f"the same {found.what}")
        for found in duplicates
        for other in found.scan_ids[1:]
    ]


def _verdicts(scan_ids: Iterable[str], flags: pd.DataFrame) -> list[str]:
    wrong, strange = (set(flags["scan_id"][flags["level"] == level]) for level in (WRONG, LOOK))
    return [WRONG if scan_id in wrong else LOOK if scan_id in strange else FINE for scan_id in scan_ids]
