"""The heads that an evaluation compares: samples, real people, and ways of making heads that are known to be bad."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mrigen.runs import Run

# Contenders, each of which is compared with never-seen people; in the order in which tables show them.
SAMPLES, FLOOR, PCA, MEAN, COPIES = "samples", "training", "pca", "mean", "copies"
CONTENDERS = {
    SAMPLES: "what is judged",
    FLOOR: "real people that were learned from: the floor, as good as anything can look",
    PCA: "draws of a Gaussian in principal components of the training people",
    MEAN: "the mean training head again and again, with faint noise",
    COPIES: "training people, moved by 6 mm and nodded by 5 degrees",
}


@dataclasses.dataclass(frozen=True)
class Heads:
    """Some heads on one grid.

    Attributes:
        volumes: (n, x, y, z) float32 in [0, 1], multiples of 1 / 255; RAS+ axes.
        people: n rows: participant_id (str), family (str, never missing; who has no relatives is a family), and, where
            they are known, sex ("F" or "M"), age (years), site (str), head_volume_ml. Of samples: what was asked for.
        brains: (n, x, y, z) bool, where the brain is; found in the same way for all heads of an evaluation.
    """

    volumes: np.ndarray
    people: pd.DataFrame
    brains: np.ndarray

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def families(self) -> np.ndarray:
        """(n,) str."""
        return self.people["family"].to_numpy(dtype=str)

    def column(self, name: str) -> np.ndarray:
        """Returns what is known of each head, (n,) float or object; missing values where nothing is."""
        if name in self.people:
            return self.people[name].to_numpy()
        return np.full(len(self), np.nan)

    def take(self, rows) -> "Heads":
        """Returns some of the heads, in the order of `rows` (numbers or booleans)."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return Heads(self.volumes[rows], self.people.iloc[rows].reset_index(drop=True), self.brains[rows])


@dataclasses.dataclass(frozen=True)
class Labels:
    """Label images of people, each on the grid of the person's volume.

    Attributes:
        taught, unseen: (x, y, z) int16 of each person of the material, in its order; None where a person has none.
            0 is outside the brain.
        names: of labels, as far as they are known.
    """

    taught: Sequence[np.ndarray | None]
    unseen: Sequence[np.ndarray | None]
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def name(self, label: int) -> str:
        """Returns what a label is called."""
        return self.names.get(int(label), f"label {label}")


@dataclasses.dataclass(frozen=True)
class Material:
    """What the parts of an evaluation are given.

    Attributes:
        unseen: real people that nothing was learned from.
        taught: all real people that were learned from.
        contenders: name (of `CONTENDERS`) -> as many heads as `unseen` has; `samples` is always there.
        zooms: voxel size, mm.
        affine: (4, 4) of the grid, mm; RAS+.
        seed: of whatever is drawn.
        run: that made the samples; None where something else did.
        against: which people `unseen` are: "validation" or "heldout".
        is_oriented: whether it is known which side is left.
        rescans: all scans of real people who were scanned several times, those of a person in their order. Beside the
            columns of all heads `people` has scan_id, session (str or None), person (one for all ids of a person),
            split (of the run), and brain_volume_ml where it is known; None where nobody was.
        others: runs of the same cohort, from other seeds or splits.
        labels: label images of the real people, where the cohort has some.
        normative: a table of volumes by region, age and sex; see `mrigen.evaluation.normative`. None: no such figures.
    """

    unseen: Heads
    taught: Heads
    contenders: Mapping[str, Heads]
    zooms: tuple[float, float, float]
    affine: np.ndarray
    seed: int = 0
    run: "Run | None" = None
    against: str = "validation"
    is_oriented: bool = True
    rescans: Heads | None = None
    others: "tuple[Run, ...]" = ()
    labels: Labels | None = None
    normative: str | os.PathLike | None = None

    @property
    def samples(self) -> Heads:
        """The heads that are judged."""
        return self.contenders[SAMPLES]
