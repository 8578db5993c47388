"""What is measured in the heads of an evaluation: volumes of regions and tissues."""

import dataclasses

import numpy as np

from mrigen.evaluation.anatomy_measures import as_number, correlation, dice, median, number
from mrigen.evaluation.heads import FLOOR, Heads, Material
from mrigen.evaluation.labels import FEWEST_PEOPLE, MOST_PEOPLE, Segmentation, Segmenter
from mrigen.evaluation.result import Row
from mrigen.evaluation.tissues import TISSUES, TissueMixture

UNSEEN, TAUGHT = "unseen", "taught"
# Regions of at least so many voxels of the working grid (1 ml at 4 mm); of 5 ml where there are fewer people than this.
FEWEST_VOXELS, FEWEST_VOXELS_OF_FEW, FEW = 16, 80, 20
FEWEST_HEADS = 4


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured in some heads; rows of heads that show nothing are nan.

    Attributes:
        regions: (n, regions) ml.
        tissues: (n, 3) shares of the brain.
        brain: (n,) ml.
        likeness: (n,) how well the mean head fits, a correlation; nan without labels.
        age: (n,) years, nan where unknown. sex: (n,) object.
        families: (n,) str. ids: (n,) str.
    """

    regions: np.ndarray
    tissues: np.ndarray
    brain: np.ndarray
    likeness: np.ndarray
    age: np.ndarray
    sex: np.ndarray
    families: np.ndarray
    ids: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """(n, regions) volumes relative to the brain."""
        return self.regions / np.maximum(self.brain, 1e-6)[:, None]

    @property
    def known(self) -> "Measured":
        """The heads that show something."""
        return self.take(np.isfinite(self.brain) & (self.brain > 0) & np.isfinite(self.regions).all(axis=1))

    def take(self, rows) -> "Measured":
        """Returns some of the heads."""
        return Measured(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def with_others(self, other: "Measured") -> "Measured":
        """Returns these heads and others."""
        names = [field.name for field in dataclasses.fields(self)]
        return Measured(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


class Study:
    """Everything that is measured once.

    Attributes:
        names: of the regions.
        measured: contender, "unseen" or "taught" -> what was measured.
        segmenter: None where the cohort has no labels.
        own_error: rows about the segmenter itself.
        notes, facts: see `PartResult`.
    """

    def __init__(self, material: Material):
        self.notes: list[str] = []
        self.facts: dict = {}
        self.own_error: list[Row] = []
        self.shown: dict[str, tuple[int, Segmentation]] = {}
        self._material = material
        self._voxel_ml = float(np.prod(material.zooms)) / 1000.0
        self._mixture = TissueMixture(material.taught.volumes, material.taught.brains)
        self.segmenter = self._teach()
        if self.segmenter is None:
            self.names, self._columns = list(TISSUES), np.arange(3)
            self.notes.append("The cohort has no label images, so the regions are tissues: fluid, grey, white matter.")
        real = self._measure_real()
        self.measured = {UNSEEN: real[0], TAUGHT: real[1]}
        rows = {name: row for row, name in enumerate(real[1].ids)}
        for name, heads in material.contenders.items():
            ids = heads.people["participant_id"].astype(str)
            if name == FLOOR and set(ids) <= set(rows):
                self.measured[name] = real[1].take(np.array([rows[each] for each in ids]))
            else:
                self.measured[name] = self._measure(heads, name)[0]

    def _teach(self) -> Segmenter | None:
        labels, taught = self._material.labels, self._material.taught
        if labels is None:
            return None
        have = np.flatnonzero([each is not None for each in labels.taught])
        if len(have) < FEWEST_PEOPLE:
            self.notes.append(f"{len(have)} training people have label images; at least {FEWEST_PEOPLE} are needed.")
            return None
        # People whom the floor shows do not teach, as long as there are others.
        floor = set(self._material.contenders[FLOOR].people["participant_id"])
        is_floor = taught.people["participant_id"].isin(floor).to_numpy()[have]
        generator = np.random.default_rng([self._material.seed, 41])
        order = generator.permutation(len(have))
        chosen = np.sort(have[order[np.argsort(is_floor[order], kind="stable")]][:MOST_PEOPLE])
        segmenter = Segmenter(taught.volumes[chosen], [labels.taught[row] for row in chosen], self._material.zooms)
        counted = np.stack([segmenter.counted(labels.taught[row]) for row in chosen]).mean(axis=0)
        people = len(self._material.unseen)
        fewest = FEWEST_VOXELS_OF_FEW if people < FEW else FEWEST_VOXELS
        smallest = fewest * segmenter.voxel_ml
        self._columns = np.flatnonzero(np.nan_to_num(counted) >= smallest)
        if not len(self._columns):
            self.notes.append("No region of the label images is large enough for the grid.")
            return None
        self.names = [labels.name(segmenter.ids[column]) for column in self._columns]
        self._sizes = counted[self._columns]
        self.facts["segmenter"] = {
            "people": [str(each) for each in taught.people["participant_id"].iloc[chosen]],
            "regions": len(self.names),
            "smallest_ml": smallest,
            "voxel_ml": segmenter.voxel_ml,
        }
        self.notes.append(
            f"Labels of {len(chosen)} training people are carried by registration; {len(self.names)} regions of at "
            f"least {smallest:.3g} ml are compared."
        )
        return segmenter

    def _measure(self, heads: Heads, name: str) -> tuple[Measured, list[Segmentation | None]]:
        count = len(heads)
        tissues = np.stack(
            [self._mixture.shares(*each) for each in zip(heads.volumes, heads.brains, strict=True)]
        ).reshape(count, 3)
        brain = heads.brains.reshape(count, -1).sum(axis=1) * self._voxel_ml
        likeness, found = np.full(count, np.nan), []
        if self.segmenter is None:
            regions = tissues * brain[:, None]
        else:
            found = self.segmenter.segment(heads.volumes)
            regions = np.full((count, len(self._columns)), np.nan)
            brain = np.full(count, np.nan)
            for index, each in enumerate(found):
                if each is not None:
                    regions[index], brain[index] = each.volumes[self._columns], np.nansum(each.volumes)
                    likeness[index] = each.likeness
            for index, each in enumerate(found):
                if each is not None:
                    self.shown.setdefault(name, (index, each))
            self.facts.setdefault("likeness", {})[name] = number(np.nanmedian(likeness) if len(likeness) else np.nan)
        age = np.array([as_number(each) for each in heads.column("age")], float)
        ids = heads.people["participant_id"].to_numpy(dtype=str)
        return Measured(regions, tissues, brain, likeness, age, heads.column("sex"), heads.families, ids), found

    def _measure_real(self) -> tuple[Measured, Measured]:
        unseen, found = self._measure(self._material.unseen, UNSEEN)
        if self.segmenter is not None and self._material.labels is not None:
            self._own_error(self.segmenter, self._material.labels.unseen, found)
        return unseen, self._measure(self._material.taught, TAUGHT)[0]

    def _own_error(self, segmenter: Segmenter, labels, found) -> None:
        have = [index for index, each in enumerate(labels) if each is not None and found[index] is not None]
        names = ("segmenter_dice", "segmenter_volume_error", "segmenter_volume_r")
        if len(have) < FEWEST_HEADS:
            self.own_error = [Row(name, UNSEEN, None, n=len(have), note="too few label images") for name in names]
            return
        ids = segmenter.ids[self._columns]
        truth = np.stack([segmenter.counted(labels[index])[self._columns] for index in have])
        ours = np.stack([found[index].volumes[self._columns] for index in have])
        overlap = np.stack([dice(found[i].labels, segmenter.on_working_grid(labels[i]), ids) for i in have])
        error = np.abs(ours - truth).mean(axis=0) / np.maximum(truth.mean(axis=0), 1e-6)
        agree = np.array([correlation(*columns) for columns in zip(ours.T, truth.T, strict=True)])
        self.dice, self.error, self.agree = np.nanmean(overlap, axis=0), error, agree
        large = self._sizes >= 5.0
        values = (self.dice, self.error, self.agree)
        for name, value in zip(names, values, strict=True):
            self.own_error.append(Row(name, UNSEEN, number(median(value)), n=len(have)))
        self.facts["segmenter"] |= {
            name: {"all": number(median(value)), "of_5_ml_and_more": number(median(value[large]))}
            for name, value in zip(names, values, strict=True)
        }
