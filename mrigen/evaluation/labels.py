"""A segmenter that no run has taught: labels of a few training people, carried to any head by registration.

The labelled people are laid onto one mean head, where they vote on what each place is. The mean head is laid onto the
head that is asked about (affine, then displacements on a lattice, then one of each voxel near the brain), and the votes
with it; what the head's own intensities say of a place is weighed in.

References:
    Iglesias and Sabuncu 2015, Multi-atlas segmentation of biomedical images: a survey, Med. Image Anal. 24(1).
    Ashburner and Friston 2005, Unified segmentation, NeuroImage 26(3) (votes and intensities together).
    Vercauteren et al. 2009, Diffeomorphic demons, NeuroImage 45(1) (the step of the registration).
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse

from mrigen.data.preprocess import grid_affine
from mrigen.data.tables import as_number, read_table
from mrigen.evaluation.heads import Labels as Labels
from mrigen.imaging.volumes import read_volume
from mrigen.statistics.registration import (
    lattice_blur,
    lattice_points,
    lattice_sides,
    read,
    refine,
    register,
    spread,
)

if TYPE_CHECKING:
    from mrigen.data.dataset import Dataset

# People whose labels are carried, at most; and the fewest that make a segmenter.
MOST_PEOPLE, FEWEST_PEOPLE = 24, 3
# Registration and segmentation go on at about this voxel size, mm; the lattice of the first displacements, mm.
WORKING_MM, LATTICE_MM = 4.0, 8.0
# Places where fewer of the votes are for the brain are not looked at.
NEAR_BRAIN = 0.02
# How much a voxel's intensity counts beside the votes: voxels at 4 mm hold several tissues, and their errors are not
# independent. Of 0, 0.25, 0.5 and 1, labels of never-seen people of `ixi-hh` were met best with this (median Dice .637,
# .655, .649, .639; correlation of the volumes of the lateral ventricles .946, .991, .994, .994).
INTENSITY_WEIGHT = 0.25


def read_labels(dataset: "Dataset", rows, zooms) -> tuple[list[np.ndarray | None], dict[int, str]]:
    """Returns the label images of people, (x, y, z) int16 each on the grid of the person's volume, and names of labels.

    A mask with more than two values is a label image; who has none gets None. Each voxel has the label at its middle,
    so that volumes are right in the mean. Names are read from a BIDS table (index, name) `*dseg.tsv` beside the image
    or in a folder above it.

    Args:
        dataset: of the cohort.
        rows: of `dataset.cache.table`.
        zooms: of the grid, mm.
    """
    found: list[np.ndarray | None] = []
    names: dict[int, str] = {}
    shape = tuple(dataset.cache.volume_shape)
    for person in dataset.cache.table.iloc[np.asarray(rows)].itertuples():
        found.append(None)
        if not isinstance(person.mask_path, str):
            continue
        image = read_volume(person.mask_path)
        values = np.unique(image.array)
        if len(values) <= 2 or not np.array_equal(values, np.rint(values)):
            continue
        centre = (person.centre_x, person.centre_y, person.centre_z)
        to_native = np.linalg.inv(image.affine) @ grid_affine(centre, zooms, shape)
        labels = ndimage.affine_transform(image.array, to_native[:3, :3], to_native[:3, 3], output_shape=shape, order=0)
        found[-1] = labels.astype(np.int16)
        names = names or _read_names(Path(person.mask_path))
    return found, names


def _read_names(path: Path) -> dict[int, str]:
    for folder in list(path.parents)[:5]:
        for table in sorted(folder.glob("*dseg.tsv")):
            rows = read_table(table)
            if {"index", "name"} <= set(rows):
                named = zip(map(as_number, rows["index"]), rows["name"], strict=True)
                return {int(index): str(name) for index, name in named if index is not None}
        if folder.name == "derivatives":
            break
    return {}


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What a segmenter finds in a head.

    Attributes:
        volumes: (labels,) ml of each label of the segmenter, 0 (outside) included as nan.
        labels: (x, y, z) int16, the likeliest label of each voxel of the working grid.
        likeness: correlation, in the brain, of the head with the mean head that was laid onto it.
    """

    volumes: np.ndarray
    labels: np.ndarray
    likeness: float


class Segmenter:
    """Labels of people, carried to any head; see the module. It never sees a run.

    Args:
        volumes: (people, x, y, z) of people with labels.
        labels: of each, (x, y, z) int.
        zooms: voxel size, mm.

    Attributes:
        ids: (labels,) int, ascending; the first is 0, what is outside.
        step: voxels of the grid to one of the working grid, along each axis.
        template: (x, y, z) of the working grid, the mean head.
        voxel_ml: of the working grid.
    """

    def __init__(self, volumes: np.ndarray, labels: Sequence[np.ndarray], zooms):
        self.step = tuple(max(1, int(WORKING_MM / zoom + 1e-3)) for zoom in zooms)
        self.voxel_ml = float(np.prod(np.multiply(zooms, self.step))) / 1000.0
        self.ids = np.union1d([0], np.unique(np.stack(labels)))
        heads = [self._coarser(volume) for volume in volumes]
        marks = [np.searchsorted(self.ids, self._nearest(each)).ravel() for each in labels]
        self._sides = sides = heads[0].shape
        zooms = np.multiply(zooms, self.step)
        self._lattice = lattice_sides(sides, zooms, LATTICE_MM)
        self._points = lattice_points(self._lattice, sides)
        self._blur = lattice_blur(sides, self._lattice)
        self._places = np.indices(sides, np.float32).reshape(3, -1).T
        self.template = np.mean(heads, axis=0)
        self._near: np.ndarray | None = None
        for _ in range(2):
            fields = _in_threads(self._lay, heads)
            middle = np.mean(fields, axis=0)
            self._vote([field - middle for field in fields], heads, marks)
        fields = _in_threads(self._lay, heads)
        self._vote(fields, heads, marks, keep_template=True)
        self._learn_intensities(fields, heads, marks)
        self._ratio = np.ones(len(self.ids))
        true = np.mean([np.bincount(each, minlength=len(self.ids)) for each in marks], axis=0) * self.voxel_ml
        found = np.mean([self._label(*each).volumes for each in zip(heads, fields, strict=True)], axis=0)
        self._ratio = true / np.maximum(found, 1e-9)

    def segment(self, volumes: np.ndarray) -> list[Segmentation | None]:
        """Returns what is found in heads (n, x, y, z); None of one that shows nothing."""

        def one(volume):
            head = self._coarser(volume)
            return self._label(head, self._lay(head)) if np.ptp(head) > 1e-6 else None

        return _in_threads(one, volumes)

    def counted(self, labels: np.ndarray) -> np.ndarray:
        """Returns the volumes (labels,) in ml that a label image (x, y, z) has by itself."""
        known = np.searchsorted(self.ids, labels.ravel()).clip(max=len(self.ids) - 1)
        known[self.ids[known] != labels.ravel()] = 0
        counts = np.bincount(known, minlength=len(self.ids)).astype(float)
        counts[0] = np.nan
        return counts * self.voxel_ml / np.prod(self.step)

    def on_working_grid(self, labels: np.ndarray) -> np.ndarray:
        """Returns a label image (x, y, z) as it is on the working grid."""
        return self._nearest(labels)

    def _coarser(self, volume):
        if self.step == (1, 1, 1):
            return volume
        padded = np.pad(volume, [(0, -side % step) for side, step in zip(volume.shape, self.step, strict=True)], "edge")
        split = [each for side, step in zip(padded.shape, self.step, strict=True) for each in (side // step, step)]
        return padded.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)

    def _nearest(self, labels):
        padded = np.pad(labels, [(0, -side % step) for side, step in zip(labels.shape, self.step, strict=True)])
        return padded[tuple(slice(step // 2, None, step) for step in self.step)]

    def _lay(self, head) -> np.ndarray:
        """Returns where in the mean head each voxel of a head lies: displacements (voxels, 3) in voxels."""
        field = register(
            ndimage.gaussian_filter(head, self._blur),
            ndimage.gaussian_filter(self.template, self._blur),
            np.zeros_like(self._points),
            self._points,
            self._lattice,
        )
        field = spread(field, self._lattice, self._sides, self._places)
        return field if self._near is None else refine(head, self.template, field, self._near)

    def _weights(self, field, rows):
        """Returns what reads images of the mean head at some voxels of a head: sparse (rows, voxels)."""
        places = np.clip(self._places[rows] + field[rows], 0.0, np.array(self._sides) - 1.001)
        corner = np.floor(places).astype(np.int64)
        part = (places - corner).astype(np.float32)
        columns, values = [], []
        for offset in np.ndindex(2, 2, 2):
            columns.append(np.ravel_multi_index(np.minimum(corner + offset, np.array(self._sides) - 1).T, self._sides))
            values.append(np.where(np.array(offset, bool), part, 1.0 - part).prod(axis=1))
        starts = np.arange(0, 8 * len(places) + 1, 8)
        shape = (len(places), int(np.prod(self._sides)))
        return sparse.csr_array((np.stack(values, 1).ravel(), np.stack(columns, 1).ravel(), starts), shape=shape)

    def _vote(self, fields, heads, marks, keep_template=False):
        size, everywhere = int(np.prod(self._sides)), np.arange(np.prod(self._sides))
        votes, image, total = 0.0, 0.0, 0.0
        for field, head, mark in zip(fields, heads, marks, strict=True):
            weights = self._weights(field, everywhere).T
            own = sparse.csr_array((np.ones(size, np.float32), mark, np.arange(size + 1)), shape=(size, len(self.ids)))
            votes, total = votes + weights @ own, total + weights.sum(axis=1)
            image = image + weights @ head.ravel()
        share = sparse.diags_array((1.0 / np.maximum(total, 1e-6)).astype(np.float32))
        self._votes = (share @ votes).tocsr()
        if not keep_template:
            self.template = np.where(total > 0.01, share @ image, self.template.ravel()).reshape(self._sides)
            self.template = self.template.astype(np.float32)
        near = np.where(total > 0.01, 1.0 - self._votes[:, [0]].toarray().ravel(), 0.0)
        self._near = near.astype(np.float32).reshape(self._sides)

    def _seen(self, head, field):
        """Returns the voxels near the brain, what reads the mean head there, and the head in its brightness."""
        near = read(self._near, self._places + field)
        rows = np.flatnonzero(near > NEAR_BRAIN)
        weights, values = self._weights(field, rows), head.ravel()[rows]
        model, inside = weights @ self.template.ravel(), near[rows] > 0.5
        if not inside.any():
            return rows, weights, values, 0.0
        spread_of_head = max(float(values[inside].std()), 1e-6)
        factor = float(model[inside].std()) / spread_of_head
        likeness = float(np.mean((values[inside] - values[inside].mean()) * (model[inside] - model[inside].mean())))
        likeness /= spread_of_head * max(float(model[inside].std()), 1e-6)
        return rows, weights, (values - values[inside].mean()) * factor + model[inside].mean(), likeness

    def _learn_intensities(self, fields, heads, marks):
        count, first, second = (np.zeros(len(self.ids)) for _ in range(3))
        for field, head, mark in zip(fields, heads, marks, strict=True):
            rows, _, values, _ = self._seen(head, field)
            for power, total in enumerate((count, first, second)):
                total += np.bincount(mark[rows], values.astype(float) ** power, len(self.ids))
        self._means = first / np.maximum(count, 1.0)
        variances = second / np.maximum(count, 1.0) - self._means**2
        self._deviations = np.sqrt(np.maximum(variances, 0.0) + 1e-4)

    def _label(self, head, field) -> Segmentation:
        rows, weights, values, likeness = self._seen(head, field)
        chances = (weights @ self._votes).tocsr()
        owner, label = np.repeat(np.arange(len(rows)), np.diff(chances.indptr)), chances.indices
        away = (values[owner] - self._means[label]) / self._deviations[label]
        chances.data = chances.data * np.exp(-INTENSITY_WEIGHT * (away**2 / 2.0 + np.log(self._deviations[label])))
        totals = np.maximum(np.bincount(owner, chances.data, len(rows)), 1e-12)
        volumes = np.bincount(label, chances.data / totals[owner], len(self.ids)) * self.voxel_ml * self._ratio
        volumes[0] = np.nan
        marks = np.zeros(np.prod(self._sides), np.int16)
        order = np.lexsort((chances.data, owner))
        last = np.flatnonzero(np.diff(np.append(owner[order], -1)))
        marks[rows[owner[order][last]]] = self.ids[label[order][last]]
        return Segmentation(volumes, marks.reshape(self._sides), likeness)


def _in_threads(function, heads) -> list:
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(function, heads))
