"""Rows of the table of scores as figures with intervals, by what their protocol lets vary."""

import dataclasses

import numpy as np
import pandas as pd

from mrigen.probing import intervals
from mrigen.probing.intervals import Estimate, json_float
from mrigen.probing.measures import Figure, columns_of, measure
from mrigen.probing.score_table import DRAW, LEAVE_SITE_OUT, NESTED, TRANSDUCTIVE
from mrigen.probing.targets import Target
from mrigen.probing.training_variance import Contributions

# What they are where everyone has the same score, in any study.
_OF_CONSTANT_SCORES = frozenset({"roc_auc", "balanced_accuracy", "r"})

# What intervals are made of, in words.
INTERVALS = {
    "deletions": "who was tested, and by how much more a stand-in varies with who was learned from",
    "overlap": "who was tested, and Nadeau and Bengio's factor for who was learned from",
    "sites": "the spread of sites",
    "people": "who was tested",
}


@dataclasses.dataclass(frozen=True)
class FoldFigures:
    """The figures of one predictor in one fold.

    Attributes:
        participant_ids: (n,) str, sorted; repeats of a cross-validation have the same people in other folds.
        families, strata: (n,) see `intervals.family_variance`.
        scores: as `measure` takes them, those of several draws one after the other.
        figures: by metric.
    """

    participant_ids: np.ndarray
    families: np.ndarray
    strata: np.ndarray
    scores: np.ndarray
    figures: dict[str, Figure]


@dataclasses.dataclass(frozen=True)
class Summary:
    """The figures of one predictor in one protocol.

    Attributes:
        protocol: that the rows are of.
        folds: (repeat, fold) -> figures, of the folds whose people can be scored.
        num_subjects, num_families: scored.
        num_training: people that a fold learns from, on average; None where that does not matter.
        stand_in: metric -> what people add to a stand-in of the predictor, where there is one.
    """

    protocol: str
    folds: dict[tuple[int, int], FoldFigures]
    num_subjects: int
    num_families: int
    num_training: float | None
    stand_in: dict[str, Contributions] = dataclasses.field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """Returns the mean over folds, None where no fold could be scored."""
        if not self.folds:
            return None
        return json_float(np.mean([fold.figures[metric].value for fold in self.folds.values()]))

    def interval(self, metric: str, confidence: float = intervals.CONFIDENCE) -> list[float | None]:
        """Returns the interval [low, high], [None, None] where no fold could be scored."""
        value = self.value(metric)
        if value is None:
            return [None, None]
        if metric in _OF_CONSTANT_SCORES and self._is_constant:
            return [value, value]
        return intervals.interval(metric, self._estimate(metric), confidence)

    def _estimate(self, metric: str) -> Estimate:
        return self._of({key: fold.figures[metric] for key, fold in self.folds.items()}, self.stand_in.get(metric))

    @property
    def _is_constant(self) -> bool:
        return all(np.ptp(fold.scores) == 0.0 for fold in self.folds.values())

    @property
    def interval_by(self) -> str:
        """What the intervals are made of: see `INTERVALS`."""
        if self.protocol in (TRANSDUCTIVE, NESTED):
            return "deletions" if self.stand_in else "overlap"
        return "sites" if self.protocol == LEAVE_SITE_OUT else "people"

    def difference(self, other: "Summary", metric: str, confidence: float = intervals.CONFIDENCE) -> dict:
        """Returns the paired difference from another predictor of the same people in the same folds.

        Returns:
            difference, ci [low, high], p (two-sided); None where no fold could be scored.
        """
        if self.value(metric) is None or other.value(metric) is None or self.folds.keys() != other.folds.keys():
            return {"difference": None, "ci": [None, None], "p": None}
        estimate = self._of(
            {k: self.folds[k].figures[metric] - other.folds[k].figures[metric] for k in self.folds},
            self._stand_in_of_difference(other, metric),
        )
        ends = intervals.difference_interval(metric, estimate, confidence)
        alike = all(np.array_equal(self.folds[key].scores, other.folds[key].scores) for key in self.folds)
        if not alike and (self._is_at_the_end(metric) or other._is_at_the_end(metric)):
            ends = self._square_and_add(other, metric, estimate.value, confidence)
        return {
            "difference": json_float(estimate.value),
            "ci": [json_float(end) for end in ends],
            "p": intervals.p_of_difference(estimate),
        }

    def _stand_in_of_difference(self, other: "Summary", metric: str) -> Contributions | None:
        mine, others = self.stand_in.get(metric), other.stand_in.get(metric)
        for one, stand_in in ((self, others), (other, mine)):
            if metric in _OF_CONSTANT_SCORES and one._is_constant:  # Such a figure owes nothing to anyone.
                return stand_in
        if mine is None or others is None or not mine.matches(others):
            return None
        return mine - others

    def _is_at_the_end(self, metric: str) -> bool:
        return metric in intervals.SHARES and self.value(metric) in (0.0, 1.0)

    def _square_and_add(self, other: "Summary", metric: str, difference: float, confidence: float) -> list[float]:
        """Returns Newcombe's interval of a difference, which needs no variance: that of a perfect figure is unknown.

        References:
            Newcombe 1998, Interval estimation for the difference between independent proportions, Stat. Med. 17.
        """
        mine, others = self.value(metric), other.value(metric)
        (low, high), (other_low, other_high) = (part.interval(metric, confidence) for part in (self, other))
        return [
            difference - np.hypot(mine - low, other_high - others),
            difference + np.hypot(high - mine, others - other_low),
        ]

    def _of(self, figures: dict[tuple[int, int], Figure], stand_in: Contributions | None) -> Estimate:
        folds = [self.folds[key] for key in figures]
        values = [figure.value for figure in figures.values()]
        variances = [
            intervals.family_variance(figure.influence, fold.families, fold.strata)
            for figure, fold in zip(figures.values(), folds, strict=True)
        ]
        people = [intervals.independent_people(fold.families, fold.strata) for fold in folds]
        if self.protocol == TRANSDUCTIVE and stand_in is not None:
            tested = intervals.repeated_variance(
                [figure.influence for figure in figures.values()],
                [fold.families for fold in folds],
                [fold.strata for fold in folds],
                [repeat for repeat, _ in figures],
            )
            if np.isfinite(tested):
                per_repeat = len(folds) / len({repeat for repeat, _ in figures})
                inside, everyone = float(np.mean(variances)) / per_repeat, float(np.mean(people)) * per_repeat
                return intervals.of_deletions(float(np.mean(values)), tested, inside, stand_in.ratio(), everyone)
        if self.protocol in (TRANSDUCTIVE, NESTED):
            tested = float(np.mean([len(fold.participant_ids) for fold in folds]))
            training = self.num_training or max(self.num_subjects - tested, 1.0)
            return intervals.of_cross_validation(values, variances, people, tested / training)
        if self.protocol == LEAVE_SITE_OUT:
            return intervals.of_sites(values, variances, people)
        return intervals.of_test_people(values[0], variances[0], people[0])


def summarize(
    table: pd.DataFrame,
    target: Target,
    num_training: float | None = None,
    stand_in: dict[str, Contributions] | None = None,
) -> Summary:
    """Returns the figures of ONE predictor in one protocol.

    A figure is the mean over folds of the figure inside the fold: people of different folds were scored by different
    fits, and pooled, their scores lie on the wrong side of one another (at chance the ROC AUC is then below 0.5).
    Inside a fold it is the mean over draws, where there are several.

    Args:
        table: rows of `ProbeResult.scores`.
        target: what is predicted.
        num_training: people that a fold learns from, on average, where they are not all the others.
        stand_in: see `Summary`; of the same people.
    """
    folds = {}
    for key, of_fold in table.groupby(["repeat", "fold"]):
        draws = [rows for _, rows in of_fold.groupby(DRAW)] if DRAW in table else [of_fold]
        draws = [rows.sort_values("participant_id") for rows in draws]
        found = [measure(target, *columns_of(rows, target)) for rows in draws]
        if found[0] is not None:
            figures = {metric: Figure.mean([one[metric] for one in found]) for metric in found[0]}
            targets = columns_of(draws[0], target)[0]
            scores = np.concatenate([columns_of(rows, target)[1] for rows in draws])
            strata = np.zeros(len(targets), int) if target.classes is None else targets
            ids, families = (draws[0][name].to_numpy(dtype=str) for name in ("participant_id", "family"))
            folds[key] = FoldFigures(ids, families, strata, scores, figures)
    return Summary(
        protocol=str(table["protocol"].iloc[0]) if len(table) else "",
        folds=folds,
        num_subjects=table["participant_id"].nunique(),
        num_families=table["family"].nunique(),
        num_training=num_training,
        stand_in=stand_in or {},
    )
