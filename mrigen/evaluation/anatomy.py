"""Whether the volumes of regions, and what goes with them, are those of people; by a segmenter that no run has taught.

Volumes are relative to the brain. Regions are the labels of the cohort (see `mrigen.evaluation.labels`); where it has
none, three tissues stand in.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure

from mrigen.evaluation.heads import COPIES, FLOOR, SAMPLES, Heads, Material
from mrigen.evaluation.labels import FEWEST_PEOPLE, MOST_PEOPLE, Segmentation, Segmenter
from mrigen.evaluation.normative import NormativeTable
from mrigen.evaluation.result import HIGHER, LOWER, ONE, FigureKind, PartResult, Row
from mrigen.evaluation.tissues import TISSUES, TissueMixture

UNSEEN = "unseen"
# Regions of at least so many voxels of the working grid (1 ml at 4 mm); of 5 ml where there are fewer people than this.
FEWEST_VOXELS, FEWEST_VOXELS_OF_FEW, FEW = 16, 80, 20
# Regions whose volumes are correlated with each other: the largest ones.
MOST_CORRELATED = 30
# Cohen's d that is called small.
SMALL = 0.2
# A head passes the gate whose farthest region is no farther out than that of this share of real people.
GATE = 0.95
NUM_PERMUTATIONS, NUM_BOOTSTRAPS = 200, 200
# Real slopes of which less than this share is more than noise are none to compare with.
LEAST_SIGNAL = 0.25
FEWEST_HEADS, FEWEST_AGES = 4, 8
MOST_SHOWN = 30

FIGURES: Mapping[str, FigureKind] = {
    "region_d_median": FigureKind("Cohen's d of relative volumes, without sign, median over regions", LOWER),
    "region_d_share_small": FigureKind("regions whose d is at most 0.2 above the floor's median", HIGHER),
    "region_w2_median": FigureKind("Wasserstein-2 of relative volumes, in real standard deviations, median", LOWER),
    "region_sd_ratio": FigureKind("spread of relative volumes over that of people, median over regions", ONE),
    "region_correlation_distance": FigureKind("distance of correlations between regions, root mean square", LOWER),
    "region_age_slope": FigureKind("change of regions with age, over that of real people", ONE),
    "region_size_slope": FigureKind("change of regions with the size of the brain, over that of real people", ONE),
    "tissue_d_largest": FigureKind("Cohen's d of fluid, grey or white matter: the largest without sign", LOWER),
    "brain_volume_d": FigureKind("Cohen's d of the volume of the brain", "0"),
    "gate_share": FigureKind("heads whose every tissue and region is as near to the mean as 19 in 20 people's", HIGHER),
    "normative_share": FigureKind("volumes from the 5th to the 95th published centile", "0.9"),
    "normative_centile": FigureKind("median published centile of the volumes", "50"),
    "segmenter_dice": FigureKind("the segmenter's Dice with labels of never-seen people, median over regions", HIGHER),
    "segmenter_volume_error": FigureKind("its error of a volume, share of it, median over regions", LOWER),
    "segmenter_volume_r": FigureKind("correlation of its volumes with those of the labels, median", HIGHER),
}


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


def judge(material: Material) -> PartResult:
    """Returns volumes of regions of each contender beside those of never-seen people.

    References:
        Cohen 1988, Statistical power analysis for the behavioral sciences.
        Peng et al. 2024, Metadata-conditioned generative models to synthesize anatomically-plausible 3D brain MRIs,
        Med. Image Anal. 98 (samples judged by Cohen's d of regions; here real people at the same n stand beside).
    """
    study = _Study(material)
    rows, notes, facts = [], list(study.notes), {}
    unseen = study.measured[UNSEEN].known
    if len(unseen.brain) < FEWEST_HEADS:
        note = "too few people"
        return PartResult(tuple(Row(name, SAMPLES, None, note=note) for name in FIGURES), tuple(notes))
    floor_d = _median(np.abs(_cohens_d(study.measured[FLOOR].known.shares, unseen.shares)))
    limit, real, of_real = _gate(study)
    for name in material.contenders:
        measured = study.measured[name]
        rows += _rows_of(name, measured, study, unseen, floor_d, (limit, real, of_real), material)
        lost = len(measured.brain) - len(measured.known.brain)
        if lost:
            notes.append(f"{lost} heads of {name} show no brain that can be measured; they fail the gate.")
    rows += study.own_error
    if material.normative is not None:
        rows += _normative(material, study, notes)
    else:
        notes.append("No table of published centiles was named, so volumes are not compared with any.")
    rows.sort(key=lambda row: list(FIGURES).index(row.figure))
    facts |= study.facts | {"regions": _region_facts(study, unseen)}
    pictures = {"anatomy_regions": _plot_regions(study, unseen)}
    if study.segmenter is not None:
        pictures["anatomy_labels"] = _plot_labels(material, study)
    return PartResult(tuple(rows), tuple(notes), pictures, facts)


class _Study:
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
        self.measured = {UNSEEN: real[0], "taught": real[1]}
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
            shown = next((index for index, each in enumerate(found) if each is not None), None)
            if shown is not None:
                self.shown[name] = shown, found[shown]
            self.facts.setdefault("likeness", {})[name] = _number(np.nanmedian(likeness) if len(likeness) else np.nan)
        age = np.array([_as_number(each) for each in heads.column("age")], float)
        ids = heads.people["participant_id"].to_numpy(dtype=str)
        return Measured(regions, tissues, brain, likeness, age, heads.column("sex"), heads.families, ids), found

    def _measure_real(self) -> tuple[Measured, Measured]:
        unseen, found = self._measure(self._material.unseen, UNSEEN)
        if self.segmenter is not None:
            self._own_error(found)
        return unseen, self._measure(self._material.taught, "taught")[0]

    def _own_error(self, found) -> None:
        segmenter, labels = self.segmenter, self._material.labels.unseen
        have = [index for index, each in enumerate(labels) if each is not None and found[index] is not None]
        names = ("segmenter_dice", "segmenter_volume_error", "segmenter_volume_r")
        if len(have) < FEWEST_HEADS:
            self.own_error = [Row(name, UNSEEN, None, n=len(have), note="too few label images") for name in names]
            return
        ids = segmenter.ids[self._columns]
        truth = np.stack([segmenter.counted(labels[index])[self._columns] for index in have])
        ours = np.stack([found[index].volumes[self._columns] for index in have])
        dice = np.stack([_dice(found[i].labels, segmenter.on_working_grid(labels[i]), ids) for i in have])
        error = np.abs(ours - truth).mean(axis=0) / np.maximum(truth.mean(axis=0), 1e-6)
        agree = np.array([_correlation(*columns) for columns in zip(ours.T, truth.T, strict=True)])
        self.dice, self.error, self.agree = np.nanmean(dice, axis=0), error, agree
        large = self._sizes >= 5.0
        values = (self.dice, self.error, self.agree)
        for name, value in zip(names, values, strict=True):
            self.own_error.append(Row(name, UNSEEN, _number(_median(value)), n=len(have)))
        self.facts["segmenter"] |= {
            name: {"all": _number(_median(value)), "of_5_ml_and_more": _number(_median(value[large]))}
            for name, value in zip(names, values, strict=True)
        }


def _rows_of(name, measured, study, unseen, floor_d, gate, material) -> list[Row]:
    known, count = measured.known, len(measured.brain)
    rows = [_gate_row(name, measured, gate, material.seed)]
    if len(known.brain) < FEWEST_HEADS:
        names = [figure for figure in FIGURES if figure.startswith(("region", "tissue", "brain"))]
        return rows + [Row(figure, name, None, n=count, note="too few heads") for figure in names]
    generator = np.random.default_rng([material.seed, 42])
    ours, theirs = known.shares, unseen.shares
    values = _distances(ours, theirs)
    permuted = np.array([list(_distances(*pair).values()) for pair in _permuted(known, unseen, generator)])
    for place, (figure, value) in enumerate(values.items()):
        p = None if not np.isfinite(value) else (1 + int((permuted[:, place] >= value).sum())) / (1 + len(permuted))
        rows.append(Row(figure, name, _number(value), p=p, n=len(known.brain)))
    small = np.abs(_cohens_d(ours, theirs)) <= floor_d + SMALL
    rows.append(Row("region_d_share_small", name, _number(np.mean(small)), n=len(known.brain)))
    others = _others(study, name)
    bootstrapped: dict[str, Callable[[Measured, Measured], float]] = {
        "region_sd_ratio": lambda a, b: _median(_ratio(a.shares.std(axis=0), b.shares.std(axis=0))),
        "brain_volume_d": lambda a, b: float(_cohens_d(a.brain[:, None], b.brain[:, None])[0]),
        "tissue_d_largest": lambda a, b: float(np.nanmax(np.abs(_cohens_d(a.tissues, b.tissues)))),
    }
    for figure, function in bootstrapped.items():
        draws = [function(*pair) for pair in _bootstrapped((known, unseen), generator)]
        # The largest of several differences is larger in every bootstrap.
        low, high = (None, None) if figure == "tissue_d_largest" else _interval(draws)
        rows.append(Row(figure, name, _number(function(known, unseen)), low, high, n=len(known.brain)))
    for figure, of in (("region_age_slope", "age"), ("region_size_slope", "brain")):
        rows.append(_slope_row(figure, name, known, others, of, generator))
    return rows


def _distances(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Returns the figures of two sets of shares (n, regions) of which chance alone makes more than 0."""
    count = min(len(ours), len(theirs))
    largest = np.argsort(-theirs.mean(axis=0), kind="stable")[:MOST_CORRELATED]
    return {
        "region_d_median": _median(np.abs(_cohens_d(ours, theirs))),
        "region_w2_median": _median(_ratio(_wasserstein(ours, theirs, count), theirs.std(axis=0))),
        "region_correlation_distance": _correlation_distance(ours[:, largest], theirs[:, largest]),
    }


def _cohens_d(ours, theirs) -> np.ndarray:
    """Returns Cohen's d of each column; nan where nothing differs at all."""
    deviation = np.sqrt((ours.var(axis=0, ddof=1) + theirs.var(axis=0, ddof=1)) / 2.0)
    return np.divide(
        ours.mean(axis=0) - theirs.mean(axis=0), deviation, out=np.full(len(deviation), np.nan), where=deviation > 1e-9
    )


def _wasserstein(ours, theirs, count) -> np.ndarray:
    """Returns the Wasserstein-2 distance of each column: that of sorted values."""
    if len(ours) == len(theirs):
        return np.sqrt(np.square(np.sort(ours, axis=0) - np.sort(theirs, axis=0)).mean(axis=0))
    at = (np.arange(count) + 0.5) / count
    return np.sqrt(np.square(np.quantile(ours, at, axis=0) - np.quantile(theirs, at, axis=0)).mean(axis=0))


def _correlation_distance(ours, theirs) -> float:
    if ours.shape[1] < 2:
        return float("nan")
    above = np.triu_indices(ours.shape[1], 1)
    return float(np.sqrt(np.square(_correlations(ours)[above] - _correlations(theirs)[above]).mean()))


def _correlations(values) -> np.ndarray:
    """Returns the correlations of columns; 0 with a column that does not vary."""
    centred = values - values.mean(axis=0)
    scores = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12)
    return scores.T @ scores


def _slope_row(figure, name, known, others, of, generator) -> Row:
    """Returns how the slopes of regions on age or size relate to those of real people that are not among these."""
    ours, theirs = (each.take(np.isfinite(getattr(each, of))) for each in (known, others))
    count = len(ours.brain)
    if min(count, len(theirs.brain)) < FEWEST_AGES or np.ptp(getattr(ours, of)) <= 0:
        note = "no age is known" if of == "age" and not count else "too few heads that differ"
        return Row(figure, name, None, n=count, note=note)

    def relation(first, second) -> float:
        spread = np.maximum(second.shares.std(axis=0), 1e-9)
        slope, _ = _slopes(first.shares / spread, getattr(first, of))
        real, error = _slopes(second.shares / spread, getattr(second, of))
        signal = (real**2 - error**2).sum()
        if signal < LEAST_SIGNAL * (real**2).sum():
            return float("nan")
        return float((slope * real).sum() / signal)

    value = relation(ours, theirs)
    if not np.isfinite(value):
        return Row(figure, name, None, n=count, note="real people's own slopes are lost in noise")
    low, high = _interval([relation(*pair) for pair in _bootstrapped((ours, theirs), generator)])
    return Row(figure, name, value, low, high, n=count)


def _slopes(values, of) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slope of each column and its standard error."""
    centred = of - of.mean()
    total = max(float((centred**2).sum()), 1e-12)
    slopes = centred @ values / total
    left = values - values.mean(axis=0) - centred[:, None] * slopes
    return slopes, np.sqrt(np.square(left).sum(axis=0) / max(len(of) - 2, 1) / total)


def _others(study, name) -> Measured:
    """Returns the real people that are not among those of a contender."""
    real = study.measured[UNSEEN].with_others(study.measured["taught"]).known
    same = study.measured[FLOOR].ids if name in (FLOOR, COPIES) else ()
    return real.take(~np.isin(real.ids, same))


def _logarithms(measured: Measured) -> np.ndarray:
    """Returns logarithms of every tissue, region and of the brain, (n, figures)."""
    parts = [measured.tissues, measured.shares, measured.brain[:, None]]
    return np.log(np.maximum(np.concatenate(parts, axis=1), 1e-6))


def _gate(study):
    """Returns the limit of the gate, real people's values, and how far the farthest of each real person lies, when the
    person is left out of what it is compared with."""
    real = study.measured[UNSEEN].with_others(study.measured["taught"]).known
    values = _logarithms(real)
    values = values[np.isfinite(values).all(axis=1)]
    count, mean, variance = len(values), values.mean(axis=0), values.var(axis=0)
    # The person left out, in closed form.
    mean_of_others = (count * mean - values) / (count - 1)
    square_of_others = (count * (variance + mean**2) - values**2) / (count - 1)
    deviation = np.sqrt(np.maximum(square_of_others - mean_of_others**2, 1e-12))
    farthest = np.abs((values - mean_of_others) / deviation).max(axis=1)
    of_real = dict(zip(real.ids, farthest, strict=False))
    return float(np.quantile(farthest, GATE)), values, of_real


def _gate_row(name, measured, gate, seed) -> Row:
    limit, real, of_real = gate
    values = _logarithms(measured)
    with np.errstate(invalid="ignore"):
        farthest = np.abs((values - real.mean(axis=0)) / np.maximum(real.std(axis=0), 1e-6)).max(axis=1)
    if name == FLOOR:
        farthest = np.array([of_real.get(each, own) for each, own in zip(measured.ids, farthest, strict=True)])
    passes = (np.nan_to_num(farthest, nan=np.inf) <= limit).astype(float)
    generator = np.random.default_rng([seed, 43])
    draws = [passes[_by_family(measured.families, generator)].mean() for _ in range(NUM_BOOTSTRAPS)]
    return Row("gate_share", name, float(passes.mean()), *_interval(draws), n=len(passes))


def _normative(material, study, notes) -> list[Row]:
    table = NormativeTable(material.normative)
    keys = {name: name for name in study.names if name in table.regions}
    keys |= {name: name.removeprefix("label ") for name in study.names if name.removeprefix("label ") in table.regions}
    if not keys:
        notes.append(f"{material.normative}: none of its regions is one of the cohort's labels.")
    else:
        notes.append(f"{len(keys)} regions are compared with the centiles of {material.normative}.")
    rows = []
    for name in (UNSEEN, *material.contenders):
        measured = study.measured[name].known
        found = [
            table.judge(key, measured.age, measured.sex, measured.regions[:, study.names.index(region)], measured.brain)
            for region, key in keys.items()
        ]
        inside, centiles = (np.concatenate([each[side] for each in found]) if found else np.zeros(0) for side in (0, 1))
        told = np.isfinite(inside)
        note = "" if told.any() else "no age or sex is known" if keys else "no region in the table"
        share, middle = (inside[told].mean(), np.median(centiles[told])) if told.any() else (np.nan, np.nan)
        rows.append(Row("normative_share", name, _number(share), n=len(measured.brain), note=note))
        rows.append(Row("normative_centile", name, _number(middle), n=len(measured.brain), note=note))
    return rows


def _permuted(ours: Measured, theirs: Measured, generator):
    """Yields the shares of both sides with families dealt out anew."""
    shares = np.concatenate([ours.shares, theirs.shares])
    families = np.concatenate([ours.families, theirs.families])
    names, index = np.unique(families, return_inverse=True)
    sizes = np.bincount(index)
    for _ in range(NUM_PERMUTATIONS):
        order = generator.permutation(len(names))
        first = order[np.cumsum(sizes[order]) <= len(ours.brain)]
        own = np.isin(index, first)
        yield shares[own], shares[~own]


def _bootstrapped(sides, generator):
    for _ in range(NUM_BOOTSTRAPS):
        yield [side.take(_by_family(side.families, generator)) for side in sides]


def _by_family(families, generator) -> np.ndarray:
    """Returns rows of families that are drawn with replacement."""
    names, index = np.unique(families, return_inverse=True)
    if len(names) == len(families):
        return generator.integers(0, len(families), len(families))
    members = [np.flatnonzero(index == each) for each in range(len(names))]
    return np.concatenate([members[each] for each in generator.integers(0, len(names), len(names))])


def _interval(draws) -> tuple[float | None, float | None]:
    draws = np.asarray(draws, float)
    draws = draws[np.isfinite(draws)]
    if len(draws) < NUM_BOOTSTRAPS / 2:
        return None, None
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def _dice(found, truth, ids) -> np.ndarray:
    ours, theirs = (np.searchsorted(ids, each.ravel()).clip(max=len(ids) - 1) for each in (found, truth))
    is_ours, is_theirs = ids[ours] == found.ravel(), ids[theirs] == truth.ravel()
    both = is_ours & is_theirs & (ours == theirs)
    counts = [np.bincount(each[rows], minlength=len(ids)) for each, rows in ((ours, is_ours), (theirs, is_theirs))]
    total = counts[0] + counts[1]
    return np.where(total > 0, 2.0 * np.bincount(ours[both], minlength=len(ids)) / np.maximum(total, 1), np.nan)


def _correlation(ours, theirs) -> float:
    if np.ptp(ours) <= 0 or np.ptp(theirs) <= 0:
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


def _ratio(above, below) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 1e-12)


def _median(values) -> float:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _number(value) -> float | None:
    return float(value) if np.isfinite(value) else None


def _as_number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _region_facts(study, unseen) -> list[dict]:
    found = []
    sides = {name: study.measured[name].known.shares for name in (SAMPLES, FLOOR)}
    d = {name: _cohens_d(shares, unseen.shares) for name, shares in sides.items() if len(shares) >= FEWEST_HEADS}
    for place, name in enumerate(study.names):
        one = {"region": name, "ml": _number(unseen.regions[:, place].mean())}
        one |= {f"d_{side}": _number(values[place]) for side, values in d.items()}
        if hasattr(study, "dice"):
            one |= {"dice": _number(study.dice[place]), "error": _number(study.error[place])}
        found.append(one)
    return found


def _plot_regions(study, unseen) -> Figure:
    """Returns Cohen's d of the regions that differ most."""
    sides = {name: study.measured[name].known.shares for name in (SAMPLES, FLOOR)}
    d = {name: _cohens_d(shares, unseen.shares) for name, shares in sides.items() if len(shares) >= FEWEST_HEADS}
    figure = Figure(figsize=(6, 1.2 + 0.2 * min(MOST_SHOWN, len(study.names))), layout="constrained")
    axes = figure.subplots()
    if SAMPLES in d:
        order = np.argsort(-np.abs(np.nan_to_num(d[SAMPLES])), kind="stable")[:MOST_SHOWN][::-1]
        for name, marker in ((FLOOR, "o"), (SAMPLES, "D")):
            if name in d:
                colour = "none" if name == FLOOR else "tab:red"
                axes.scatter(
                    d[name][order], range(len(order)), marker=marker, facecolors=colour, edgecolors="k", label=name
                )
        axes.set_yticks(range(len(order)), [study.names[each] for each in order], fontsize=7)
        axes.legend(fontsize=7)
    axes.axvspan(-SMALL, SMALL, color="0.9", zorder=0)
    axes.axvline(0.0, color="0.5", linewidth=0.8)
    axes.set_xlabel("Cohen's d of the volume relative to the brain, against people never seen", fontsize=8)
    return figure


def _plot_labels(material, study) -> Figure:
    """Returns labels that were found in a never-seen person and in a sample."""
    colours = np.random.default_rng(0).random((int(study.segmenter.ids.max()) + 1, 4)) * [1, 1, 1, 0] + [0, 0, 0, 0.45]
    colours[0] = 0.0
    shown = [(name, *study.shown[name]) for name in (UNSEEN, SAMPLES) if name in study.shown]
    figure = Figure(figsize=(7.5, 2.6 * max(1, len(shown))), layout="constrained")
    panels = figure.subplots(max(1, len(shown)), 3, squeeze=False)
    for row, (name, index, found) in zip(panels, shown, strict=False):
        heads = material.unseen if name == UNSEEN else material.contenders[name]
        volume = study.segmenter.on_working_grid(heads.volumes[index])
        for axis, panel in enumerate(row):
            place = int(np.median(np.nonzero(found.labels)[axis])) if found.labels.any() else volume.shape[axis] // 2
            aspect = [zoom * step for zoom, step in zip(material.zooms, study.segmenter.step, strict=True)]
            del aspect[axis]
            picture, marks = (np.take(each, place, axis).T for each in (volume, found.labels))
            panel.imshow(picture, cmap="gray", origin="lower", vmin=0, vmax=1, aspect=aspect[1] / aspect[0])
            panel.imshow(colours[marks], origin="lower", aspect=aspect[1] / aspect[0], interpolation="nearest")
            panel.set_axis_off()
        row[1].set_title(f"labels carried to {'a person never seen' if name == UNSEEN else 'a sample'}", fontsize=8)
    return figure
