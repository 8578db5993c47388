"""Near copies planted into real heads: how many are found, and how long 10,000 people take."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from benchmarks.plant_copies import KINDS, Planting, plant
from benchmarks.report import Section
from mrigen.data.preprocess import prepare_volume
from mrigen.imaging.volumes import Volume, read_volume
from mrigen.quality.copies import Copy, find_copies
from mrigen.recipe import PreprocessRecipe

GRIDS = {
    4.0: PreprocessRecipe(zooms=(4, 4, 4), volume_shape=(48, 56, 48)),
    8.0: PreprocessRecipe(zooms=(8, 8, 8), volume_shape=(24, 28, 24)),
    12.0: PreprocessRecipe(zooms=(12, 12, 12), volume_shape=(16, 19, 16)),
}
NUM_PEOPLE = 10_000


def measure(quick: bool = False) -> list[Section]:
    """Returns the tables of this part; `quick` takes a dozen people, one kind and the coarsest grid."""
    root = Path(os.environ["MRIGEN_REAL_DATA"]) / "ixi-hh"
    paths = sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))[: 12 if quick else None]
    kinds = {"original": Planting(), **({"mirrored": KINDS["mirrored"]} if quick else KINDS)}
    grids = {12.0: GRIDS[12.0]} if quick else GRIDS
    prepared: dict[tuple, list] = {}
    with click.progressbar(
        enumerate(paths), length=len(paths), label="  planting", file=click.open_file("-", "w")
    ) as bar:
        for number, path in bar:
            labels = next((root / "derivatives" / "dlmuse" / path.parts[-3]).rglob("*.nii.gz"))
            for key, volume in _prepare(read_volume(path), read_volume(labels), kinds, grids, number):
                prepared.setdefault(key, []).append(volume)
    rows = []
    for zoom in grids:
        for what in ("head", "brain"):
            originals = np.stack(prepared[zoom, what, "original"])
            for kind in kinds:
                rows.append(
                    [f"{zoom:g} mm, {what}s, {kind}", *_found(originals, np.stack(prepared[zoom, what, kind]), zoom)]
                )
    found = Section(
        "copies: one head under two ids",
        f"{len(paths)} people of ixi-hh and a copy of each of them; the second half also apart. False: "
        "pairs of different people, among originals and copies, that were taken for one.",
        ["", "found %", "of the second half %", "false", "different pairs"],
        rows,
    )
    return [found, _speed(np.stack(prepared[min(grids), "head", "original"]), min(grids), 300 if quick else NUM_PEOPLE)]


def _prepare(volume: Volume, labels: Volume, kinds, grids, seed: int) -> Iterator[tuple[tuple, np.ndarray]]:
    for kind, planting in kinds.items():
        copy, brain = plant(volume, labels.array > 0, planting, seed)
        mask = Volume(brain.astype(np.float32), copy.affine)
        for zoom, settings in grids.items():
            for what in ("head", "brain"):
                yield (zoom, what, kind), prepare_volume(copy, mask, settings, what == "brain").array


def _found(originals: np.ndarray, copies: np.ndarray, zoom: float) -> list:
    """Returns found % of all and of the second half, the number of false pairs, and of different pairs."""
    num = len(originals)
    is_same = np.array_equal(originals, copies)
    volumes = originals if is_same else np.concatenate([originals, copies])
    pairs = find_copies(volumes, (zoom,) * 3)
    planted = [pair.first for pair in pairs if _is_planted(pair, num)]
    different = len(volumes) * (len(volumes) - 1) // 2 - (0 if is_same else num)
    if is_same:
        return [None, None, len(pairs), different]
    late = [first for first in planted if first >= num // 2]
    return [100.0 * len(planted) / num, 100.0 * len(late) / (num - num // 2), len(pairs) - len(planted), different]


def _is_planted(pair: Copy, num: int) -> bool:
    return pair.second == pair.first + num


def _speed(heads: np.ndarray, zoom: float, num_people: int) -> Section:
    seconds, cpu = time.perf_counter(), time.process_time()
    find_copies(_crowd(heads, num_people), (zoom,) * 3)
    seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Section(
        "copies: seconds for a large cohort",
        "Heads mixed of two people each and moved by up to a voxel, in blocks; the most memory of the whole process.",
        ["", "people", "seconds", "CPU seconds", "GB"],
        [[f"{zoom:g} mm", num_people, seconds, cpu, gigabytes]],
    )


def _crowd(heads: np.ndarray, num_people: int, block: int = 250) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for start in range(0, num_people, block):
        made = []
        for _ in range(min(block, num_people - start)):
            one, other = heads[rng.choice(len(heads), 2, replace=False)].astype(np.float32)
            share = rng.uniform(0.3, 0.7)
            mixed = share * one + (1.0 - share) * other
            made.append(np.roll(mixed, rng.integers(-1, 2, 3), (0, 1, 2)).astype(np.uint8))
        yield np.stack(made)
