"""How far grey levels and the place of the grid depend on how one and the same image was stored.

    MRIGEN_REAL_DATA=/data python -m benchmarks preparing

Every image of the cohorts is prepared as it is, and again after each change; on whole heads and on stripped brains.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nibabel.quaternions import angle_axis2mat
from scipy import ndimage

from benchmarks.report import Section
from mrigen.data.cohort import index_cohort
from mrigen.data.heads import find_head
from mrigen.data.preprocess import prepare_volume
from mrigen.imaging.volumes import Volume, read_volume, to_canonical
from mrigen.recipe import DataRecipe, PreprocessRecipe

COHORTS = (("ixi-hh", False), ("ds000011", False), ("ixi-hh", True), ("ds002748", True))
WILD = (-32768.0, -1e10, 1e6)
# Levels of 255 from which on a voxel counts as one of the head.
HEAD_LEVEL = 25
TILTS = tuple(itertools.product(([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]), (10, 20, 30, -15, -30)))
TILTED_EVERY = 8


def measure(quick: bool) -> list[Section]:
    """Returns the tables: levels after changes of the intensities, and places of the grid after tilts."""
    root, every = Path(os.environ["MRIGEN_REAL_DATA"]), 60 if quick else 1
    return [_levels(root, every), _places(root, every)]


def _levels(root: Path, every: int) -> Section:
    rows = []
    for name, is_stripped in COHORTS:
        worst: dict[str, float] = {}
        same = count = 0
        for volume in _volumes(root / name, is_stripped and name == "ixi-hh", every):
            expected = _prepare(volume)
            count += 1
            same += np.array_equal(expected.array, _prepare(volume, version=3).array)
            head = expected.array > HEAD_LEVEL
            for change, array in _changes(volume, is_stripped):
                prepared = _prepare(Volume(array, volume.affine))
                if not np.allclose(prepared.centre, expected.centre):
                    raise AssertionError(f"the grid of image {count} of {name} moves: {change}")
                difference = np.abs(prepared.array.astype(int) - expected.array)[head].max()
                worst[change] = max(worst.get(change, 0), int(difference))
        what = "stripped brains" if is_stripped else "whole heads"
        rows.append([f"{name}, {what}", count, *worst.values(), same])
    names = ["shifted by -1000", "a wild voxel", "both", "standardized"]
    text = (
        "Largest difference over all head voxels of all images, levels of 255. Standardized: z-scored over the image, "
        "or, of stripped brains, inside the mask with 0 outside. Last column: images that are the same as by "
        "`preprocess.version: 3`."
    )
    return Section("preparing: grey levels", text, ["images", "number", *names, "as before"], rows)


def _changes(volume: Volume, is_stripped: bool) -> Iterator[tuple[str, np.ndarray]]:
    array = volume.array
    yield "shifted", array - 1000
    for wild in WILD:
        changed = array.copy()
        changed[5, 5, 5] = wild
        yield "wild", changed
    changed = array - 1000
    changed[5, 5, 5] = -32768
    yield "both", changed
    inside = array != 0 if is_stripped else np.ones(array.shape, bool)
    values = array[inside]
    yield "standardized", np.where(inside, (array - values.mean()) / values.std(), 0).astype(np.float32)


def _places(root: Path, every: int) -> Section:
    moved, lost = [], []
    cohort = index_cohort(DataRecipe(root=str(root / "ixi-hh"), mask="dlmuse")).table
    for row in cohort.iloc[:: max(every, TILTED_EVERY)].itertuples():
        volume, labels = read_volume(row.path), read_volume(row.mask_path)
        straight = _prepare(volume)
        for axis, degrees in TILTS:
            tilted, mask = tilt(volume, axis, degrees), tilt(labels, axis, degrees, order=0)
            prepared = prepare_volume(tilted, mask, PreprocessRecipe(), False)
            moved.append(np.abs(prepared.centre - straight.centre).max())
            lost.append(prepared.lost)
    figures = np.percentile(moved, (50, 95, 100)).round(1)
    within, loss = 100 * np.mean(np.less_equal(moved, 4.0)), 100 * max(lost)
    text = (
        "The same heads from fields of view that are tilted by 10 to 30 degrees (values interpolated, nothing cut), "
        "against the straight ones: how far the grid of 4 mm moves, the largest of the three axes; and how much of the "
        "brain lies outside."
    )
    columns = ["scans aslant", "median, mm", "95 %, mm", "largest, mm", "within a voxel", "largest loss of brain"]
    row = [len(moved), *figures, f"{within:.1f} %", f"{loss:.2f} %"]
    return Section("preparing: scans aslant", text, columns, [row])


def tilt(volume: Volume, axis: list[int], degrees: float, order: int = 1) -> Volume:
    """Returns an image as a field of view turned by some degrees about an axis shows it, on 2 mm, nothing cut."""
    shape, affine = (190, 190, 190), np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, :3] = angle_axis2mat(np.deg2rad(degrees), axis) @ affine[:3, :3]
    middle = volume.affine[:3, :3] @ ((np.array(volume.array.shape) - 1) / 2) + volume.affine[:3, 3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    to_native = np.linalg.inv(volume.affine) @ affine
    array = ndimage.affine_transform(volume.array, to_native[:3, :3], to_native[:3, 3], output_shape=shape, order=order)
    return to_canonical(Volume(array, affine))


def _volumes(root: Path, is_masked: bool, every: int) -> Iterator[Volume]:
    for row in (
        index_cohort(DataRecipe(root=str(root), mask="dlmuse" if is_masked else None)).table[::every].itertuples()
    ):
        volume = read_volume(row.path)
        yield Volume(volume.array * (read_volume(row.mask_path).array > 0), volume.affine) if is_masked else volume


def _prepare(volume: Volume, **settings):
    settings = PreprocessRecipe(**settings)
    return prepare_volume(volume, None, settings, False, find_head(volume, settings))
