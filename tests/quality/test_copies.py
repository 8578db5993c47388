"""One head under two ids is found; two people are not taken for one."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.plant_copies import ALL, KINDS, Planting, plant
from mrigen.data.preprocess import prepare_volume
from mrigen.imaging.volumes import Volume, read_volume
from mrigen.quality.copies import Copy, find_copies
from mrigen.recipe import PreprocessRecipe

ZOOMS = (8.0, 8.0, 8.0)
GRID = PreprocessRecipe(zooms=ZOOMS, volume_shape=(24, 28, 24))


def make_head(seed: int) -> Volume:
    """Returns a head of its own folds in a skull of about everybody's size, 5 mm voxels, unequal sides."""
    rng = np.random.default_rng(seed)
    shape, zoom = (40, 48, 44), 5.0
    x, y, z = (zoom * (each - (side - 1) / 2) for each, side in zip(np.indices(shape), shape, strict=True))
    size = rng.uniform(0.96, 1.04, 3)
    depth = np.sqrt((x / (72 * size[0])) ** 2 + (y / (92 * size[1])) ** 2 + (z / (78 * size[2])) ** 2)
    folds = ndimage.gaussian_filter(rng.standard_normal(shape), 1.6)
    array = np.where(depth < 0.8, 130 + 40 * folds / folds.std() - 60 * (np.abs(x) < 6), 0.0)
    array = np.where((depth > 0.92) & (depth < 1.02), 200.0, array)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = -zoom * (np.array(shape) - 1) / 2
    return Volume(np.clip(array, 0, 255).astype(np.float32), affine)


def prepare(volume: Volume) -> np.ndarray:
    return prepare_volume(volume, None, GRID, False).array


def prepare_copy(seed: int, planting: Planting) -> np.ndarray:
    head = make_head(seed)
    places = np.indices(head.array.shape) - (np.array(head.array.shape)[:, None, None, None] - 1) / 2
    brain = np.sqrt(((5 * places / np.array([72, 92, 78])[:, None, None, None]) ** 2).sum(axis=0)) < 0.75
    return prepare(plant(head, brain, planting, seed)[0])


@pytest.fixture(scope="module")
def heads():
    return np.stack([prepare(make_head(seed)) for seed in range(30)])


@pytest.mark.parametrize(
    "planting",
    [
        Planting(),
        Planting(moved=4.0),
        Planting(nodded=4.0),
        Planting(gamma=0.8),
        Planting(mirrored=True),
        Planting(field=0.3, noise=0.02),
        Planting(moved=3.0, nodded=3.0, gamma=0.8, mirrored=True),
    ],
)
@pytest.mark.parametrize("num", [30, 5, 1])
def test_a_copy_is_found_among_many_and_among_few(heads, planting, num):
    volumes = np.concatenate([heads[:num], prepare_copy(0, planting)[None]])
    (copy,) = find_copies(volumes, ZOOMS)
    assert (copy.first, copy.second, copy.is_mirrored) == (0, num, planting.mirrored)


def test_different_people_are_no_copies(heads):
    assert find_copies(heads, ZOOMS) == []


def test_two_images_of_one_person_are_no_copies(heads):
    volumes = np.concatenate([heads, heads[:2]])
    groups = [*(f"sub-{row}" for row in range(len(heads))), "sub-0", "sub-7"]
    assert [(copy.first, copy.second) for copy in find_copies(volumes, ZOOMS, groups)] == [(1, 31)]


def test_an_image_that_is_there_many_times_is_found_each_time(heads):
    for num in (3, 30):
        pairs = find_copies(np.stack([heads[0]] * num), ZOOMS)
        assert len(pairs) == num * (num - 1) // 2


def test_blocks_and_runs_do_not_matter(heads):
    volumes = np.concatenate([heads, heads[3:5, ::-1]])
    whole = find_copies(volumes, ZOOMS)
    assert [(copy.first, copy.second, copy.is_mirrored) for copy in whole] == [(3, 30, True), (4, 31, True)]
    assert find_copies(iter(np.array_split(volumes, 5)), ZOOMS) == whole


@pytest.mark.parametrize("num", [0, 1])
def test_nobody_is_a_copy_alone(heads, num):
    assert find_copies(heads[:num], ZOOMS) == []


def test_empty_and_constant_images_are_left_alone(heads):
    volumes = np.concatenate([heads[:4], np.zeros_like(heads[:2]), np.full_like(heads[:2], 80)])
    assert find_copies(volumes, ZOOMS) == []


def test_grids_of_unequal_fine_voxels_are_taken():
    settings = PreprocessRecipe(zooms=(2, 3, 5), volume_shape=(97, 73, 39))
    heads = [prepare_volume(make_head(seed), None, settings, False).array for seed in range(3)]
    heads.append(heads[1][::-1])
    assert [(copy.first, copy.second, copy.is_mirrored) for copy in find_copies(np.stack(heads), (2, 3, 5))] == [
        (1, 3, True)
    ]


def test_a_copy_says_how_alike_it_is():
    assert Copy(0, 1, 0.98765, False).describe() == "correlation 0.988"


@pytest.mark.real
@pytest.mark.skipif("MRIGEN_REAL_DATA" not in os.environ, reason="MRIGEN_REAL_DATA names no folder")
def test_real_heads_are_found_again_at_4_mm():
    root = Path(os.environ["MRIGEN_REAL_DATA"]) / "ixi-hh"
    settings, originals, copies = PreprocessRecipe(), [], []
    kinds = [*KINDS.values(), ALL]
    for number, path in enumerate(sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))[::6]):
        volume = read_volume(path)
        brain = read_volume(next((root / "derivatives/dlmuse" / path.parts[-3]).rglob("*.nii.gz"))).array > 0
        originals.append(prepare_volume(volume, None, settings, False).array)
        copies.append(prepare_volume(plant(volume, brain, kinds[number % 13], number)[0], None, settings, False).array)
    found = find_copies(np.stack(originals + copies), settings.zooms)
    assert [(copy.first, copy.second) for copy in found] == [(row, row + len(copies)) for row in range(len(copies))]
