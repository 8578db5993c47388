"""Whether what is learned from samples holds for real people: sex and age, as from as many real people."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mrigen.evaluation.heads import FLOOR, SAMPLES, Heads, Material
from mrigen.evaluation.random_filters import coarsened, shrinking
from mrigen.evaluation.result import HIGHER, LOWER, FigureKind, PartResult, Row
from mrigen.probing.intervals import Estimate, difference_interval, family_variance, independent_people, interval
from mrigen.probing.learners import RidgePredictor
from mrigen.probing.measures import Figure, measure
from mrigen.probing.predictors import LogisticPredictor, PrincipalComponents
from mrigen.probing.targets import Target

NUM_COMPONENTS = 50
# Fewer heads than this, or than this of a sex, teach nothing and test nothing.
FEWEST, FEWEST_OF_SEX = 8, 3
# Parts of the heads that are learned from, each of which is left out once to see how much depends on who they are.
NUM_PARTS = 10
GUESS = "guess"
NO_LABELS, NO_SAMPLE_LABELS = "no labels", "samples without labels: give sex and age, or use a conditional run"
TARGETS = (Target("sex", ("F", "M")), Target("age", None))
# Metrics of `mrigen.probing.measures` that are reported of each target -> how figures call them.
METRICS = {"sex": {"roc_auc": "sex_auc"}, "age": {"mae": "age_mae", "r": "age_r"}}
# Those of which differences are reported, too.
COMPARED = frozenset({"roc_auc", "mae"})

FIGURES: Mapping[str, FigureKind] = {
    "useful_sex_auc": FigureKind("AUC of never-seen people's sex, learned from these heads alone", HIGHER),
    "useful_sex_auc_lead": FigureKind("the same, minus that learned from as many training people", HIGHER),
    "added_sex_auc": FigureKind("what these heads add to the AUC learned from as many training people", HIGHER),
    "useful_age_mae": FigureKind("error of never-seen people's age, learned from these heads alone, years", LOWER),
    "useful_age_mae_lead": FigureKind("the same, minus that learned from as many training people, years", LOWER),
    "added_age_mae": FigureKind("what these heads add to the error learned from as many training people, years", LOWER),
    "useful_age_r": FigureKind("correlation of predicted and true age, learned from these heads alone", HIGHER),
}


@dataclasses.dataclass(frozen=True)
class Taught:
    """Heads whose label is known.

    Attributes:
        volumes: (n, voxels), coarsened where they are large.
        values: (n,) the label: 0 or 1 of sex, years of age.
        families: (n,) str.
    """

    volumes: np.ndarray
    values: np.ndarray
    families: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, heads: Heads, target: Target) -> "Taught":
        """Returns those of `heads` whose `target` is known."""
        column = heads.column(target.name)
        if target.classes is None:
            values = np.array(column, float)
            known = np.isfinite(values)
        else:
            known = np.isin(column.astype(str), target.classes)
            values = (column.astype(str) == target.classes[1]).astype(int)
        factor = shrinking(heads.volumes.shape[1:])
        volumes = [coarsened(heads.volumes[row], factor).ravel() for row in np.flatnonzero(known)]
        return cls(np.array(volumes), values[known], heads.families[known])

    def some(self, count: int, seed: int) -> "Taught":
        """Returns `count` of them."""
        rows = np.sort(np.random.default_rng([seed, 14]).permutation(len(self))[:count])
        return Taught(self.volumes[rows], self.values[rows], self.families[rows])

    def fault(self, target: Target) -> str:
        """Returns why nothing can be learned from them, or an empty text."""
        if len(self) < FEWEST:
            return f"fewer than {FEWEST}"
        if target.classes is None:
            return "" if np.ptp(self.values) > 0.0 else "all of one age"
        fewest = np.bincount(self.values, minlength=2).min()
        return "" if fewest >= FEWEST_OF_SEX else f"fewer than {FEWEST_OF_SEX} of a sex"


def judge(material: Material) -> PartResult:
    """Returns how well sex and age of never-seen people are predicted by what was learned from each contender.

    A linear probe on principal components is fitted to the heads of a contender, to as many training people, and to
    both together. Labels of samples are what was asked for; of heads without labels nothing is learned. What training
    people themselves lead by, and add, is what as many others of them do, where there are others.

    Intervals hold for other people to test and for other heads of both kinds to learn from.

    References:
        Shmelkov, Schmid and Alahari 2018, How good is my GAN?, ECCV.
    """
    rows, notes, facts = [], [], {}
    for target in TARGETS:
        unseen = Taught.of(material.unseen, target)
        floor = material.contenders.get(FLOOR) or material.taught.take(np.arange(len(material.unseen)))
        real = Taught.of(floor, target)
        rest = material.taught.take(~np.isin(material.taught.families, floor.families))
        fault = unseen.fault(target) or real.fault(target)
        if fault:
            notes.append(f"{target.name}: nothing is learned from people or tested, {fault} with a label.")
        elif target.classes is None:
            guess = float(np.abs(unseen.values - real.values.mean()).mean())
            rows.append(Row("useful_age_mae", GUESS, guess, n=len(unseen), note="the mean age of training people"))
        for name, heads in material.contenders.items():
            other = Taught.of(rest if name == FLOOR else heads, target)
            rows += _rows(target, name, unseen, real, other, fault, material.seed)
        facts[target.name] = {"num_tested": len(unseen), "num_training_people": len(real)}
    if all(row.value is None for row in rows if row.of == SAMPLES):
        notes.append("Of the samples nothing is learned: they are too few, or nobody asked for a sex or an age.")
    return PartResult(tuple(rows), tuple(notes), facts=facts)


class _Probe:
    """A linear probe that learns from some sources of heads and is tested on never-seen people.

    Args:
        target: what is predicted.
        unseen: never-seen people.
        sources: name -> heads to learn from.
        seed: of folds and parts.
    """

    def __init__(self, target: Target, unseen: Taught, sources: Mapping[str, Taught], seed: int):
        heads = [unseen, *sources.values()]
        self._target, self._seed = target, seed
        self._values = np.concatenate([each.values for each in heads])
        self._families = np.concatenate([each.families for each in heads])
        ends = np.cumsum([len(each) for each in heads])
        self._test = np.arange(ends[0])
        self._rows = {name: np.arange(*ends[index : index + 2]) for index, name in enumerate(sources)}
        self._parts = {name: self._parts_of(rows) for name, rows in self._rows.items()}
        components = PrincipalComponents(np.concatenate([each.volumes for each in heads]), NUM_COMPONENTS)
        self._model = LogisticPredictor(components) if target.classes else RidgePredictor(components, target)
        self._known: dict[tuple, dict[str, Figure]] = {}

    def estimate(self, metric: str, plus: tuple[str, ...], minus: tuple[str, ...] = ()) -> Estimate:
        """Returns the figure learned from the sources `plus`, less that learned from `minus`."""

        def figure(left_out: tuple[str, int] | None = None) -> Figure:
            ours = self._figures(plus, left_out)[metric]
            return ours - self._figures(minus, left_out)[metric] if minus else ours

        found, values = figure(), self._values[self._test]
        strata = values if self._target.classes else np.zeros(len(values), int)
        tested = np.nan_to_num(family_variance(found.influence, self._families[self._test], strata))
        taught, freedom = 0.0, 1.0
        for name in dict.fromkeys(plus + minus):
            left = [figure((name, part)).value for part in range(len(self._parts[name]))]
            if len(left) > 1:
                taught, freedom = taught + (len(left) - 1) * np.var(left), len(left) - 1.0
        people = independent_people(self._families[self._test], strata)
        return Estimate(found.value, tested + taught, people, _freedom((tested, people - 2.0), (taught, freedom)))

    def _parts_of(self, rows: np.ndarray) -> list[np.ndarray]:
        """Returns the rows of each part of a source, whole families, without which all classes are still there."""
        families = np.unique(self._families[rows])
        shuffled = np.random.default_rng([self._seed, 15]).permutation(families)
        parts = [rows[np.isin(self._families[rows], part)] for part in np.array_split(shuffled, NUM_PARTS)]
        spread = [part for part in parts if np.ptp(self._values[np.setdiff1d(rows, part)]) > 0]
        return [part for part in spread if len(part)]

    def _figures(self, names: tuple[str, ...], left_out: tuple[str, int] | None) -> dict[str, Figure]:
        left_out = left_out if left_out is not None and left_out[0] in names else None
        if (names, left_out) not in self._known:
            train = np.concatenate([self._rows[name] for name in names])
            if left_out is not None:
                train = np.setdiff1d(train, self._parts[left_out[0]][left_out[1]])
            scored = self._model.fit_score(self._values, self._families, train, self._test, self._seed)
            figures = measure(self._target, self._values[self._test], scored.score, scored.prediction)
            self._known[names, left_out] = figures
        return self._known[names, left_out]


def _rows(target, name, unseen, real, other, fault, seed) -> list[Row]:
    """Returns the figures of one contender, whose labelled heads are `other`; of training people, others of them."""
    alone = real if name == FLOOR else other
    missing = NO_SAMPLE_LABELS if name == SAMPLES else NO_LABELS
    note = fault or (alone.fault(target) if len(alone) else missing)
    compared = note or other.fault(target)
    if compared and not note:
        compared = "no other training people"
    probe = None if note else _Probe(target, unseen, {"alone": alone}, seed)
    count = min(len(real), len(other))
    both = None
    if not compared:
        both = _Probe(target, unseen, {"real": real.some(count, seed), "other": other.some(count, seed)}, seed)
    rows = []
    for metric, key in METRICS[target.name].items():
        rows.append(_row(f"useful_{key}", name, note, len(alone), metric, probe and probe.estimate(metric, ("alone",))))
        if metric in COMPARED:
            lead = both and both.estimate(metric, ("other",), ("real",))
            added = both and both.estimate(metric, ("real", "other"), ("real",))
            rows.append(_row(f"useful_{key}_lead", name, compared, count, metric, lead, True))
            rows.append(_row(f"added_{key}", name, compared, count, metric, added, True))
    return rows


def _row(figure, name, note, count, metric, estimate, is_difference=False) -> Row:
    if estimate is None:
        return Row(figure, name, None, note=note)
    ends = (difference_interval if is_difference else interval)(metric, estimate)
    return Row(figure, name, estimate.value, *ends, n=count)


def _freedom(*parts: tuple[float, float]) -> float:
    """Returns the degrees of freedom of a sum of independent variances, each with its own (Satterthwaite 1946)."""
    total = sum(variance for variance, _ in parts)
    if total == 0.0:
        return max(1.0, parts[0][1])
    return max(1.0, total**2 / sum(variance**2 / max(freedom, 1.0) for variance, freedom in parts))
