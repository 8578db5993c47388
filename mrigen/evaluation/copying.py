"""Whether samples are copies of people that were learned from, by what heads show inside the brain case.

Heads are compared as `mrigen.quality.copies` compares those of a cohort: local contrast, laid onto one common head, so
that a move, a nod, another contrast or a mirror makes no difference. Every person that was learned from is compared.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mrigen.evaluation.bootstrap import redrawn_interval, share_interval
from mrigen.evaluation.copying_people import LEAST_DISTANCE, People, gaps, weighted_share
from mrigen.evaluation.copying_pictures import Pair, plot_pairs
from mrigen.evaluation.heads import FLOOR, SAMPLES, Heads, Material
from mrigen.evaluation.result import HALF, HIGHER, LOWER, ONE, FigureKind, PartResult, Row

FIGURES = {
    "new_share": FigureKind("share of heads that are like people, like no other head, and no copy", HIGHER),
    "copied_share": FigureKind("share of heads that are copies of people that were learned from", LOWER),
    "nearest_taught": FigureKind("share of heads whose nearest person was learned from, sides weighted alike", HALF),
    "nearest_ratio": FigureKind(
        "distance to the nearest person learned from over that to the nearest never seen, where they differ most; 1 is "
        "what sides drawn at random have",
        ONE,
    ),
    "widest_gap": FigureKind(
        "smallest ratio of the distance to a nearest person, who was learned from, over that to the next", HIGHER
    ),
    "person_distance": FigureKind("median distance to the nearest person, over that of people never seen", ONE),
    "self_distance": FigureKind("median distance to the nearest other head, over that of people never seen", ONE),
    "alike_share": FigureKind("share of heads that are the same head as another one", LOWER),
}
FEWEST, NUM_REDRAWS = 8, 500
# The most extreme heads: this share of them, and at least so many.
EXTREME_SHARE, FEWEST_EXTREME = 0.05, 3
# People that a head is laid onto one by one, and the likeness above which it is.
NUM_JUDGED, LEAST_LIKENESS = 3, 0.3
# A gap this improbable (of all heads of a contender together) makes a copy.
CLEAR = 0.01
# Gaps of samples are at most so much wider than those of people, as a rule.
MOST_WIDENED = 3.0
MOST_SHOWN, MOST_LISTED = 6, 40


def judge(material: Material) -> PartResult:
    """Returns whether heads of each contender are copies, of people or of each other."""
    if min(len(material.unseen), len(material.samples)) < FEWEST:
        num = min(len(material.unseen), len(material.samples))
        note = f"{num} heads, expected at least {FEWEST}"
        rows = [Row(figure, name, None, n=num, note=note) for figure in FIGURES for name in material.contenders]
        return PartResult(tuple(rows), (f"Nobody is looked for as a copy: {note} of each side.",))
    people = People(material)
    findings = {name: _Finding(people, name, index) for index, name in enumerate(material.contenders)}
    by_name = [finding.rows() for finding in findings.values()]
    rows = [each[figure] for figure in FIGURES for each in by_name]
    found = findings[SAMPLES]
    facts = {name: finding.facts() for name, finding in findings.items()}
    return PartResult(tuple(rows), tuple(_notes(people, found)), {"copying": found.plot()}, {"copying": facts})


def _notes(people: "People", found: "_Finding") -> list[str]:
    num, num_unseen = people.num_taught, len(people.heads) - people.num_taught
    notes = [
        f"Each head is compared with all {num} people that were learned from and all {num_unseen} never seen.",
        f"The p of `nearest_taught` and `nearest_ratio` are exact: people change sides, by family. With k copies they "
        f"are {num / len(people.heads):.2g} ^ k at least: a few copies are told by `copied_share` and by `widest_gap`, "
        "whose p compares the gap with those between people, by an exponential tail.",
    ]
    if people.sides_p < 0.05:
        notes.append(
            f"People learned from and people never seen differ by themselves (p = {people.sides_p:.3f}): samples may "
            "lean to either side without copying anybody."
        )
    copies = int(found.is_copied.sum())
    if copies:
        worst = "; ".join(found.describe(row) for row in found.worst[: min(3, copies)])
        notes.append(f"{copies} of {len(found.heads)} samples are copies of people that were learned from: {worst}.")
    if (found.is_far.mean()) > 0.05:
        notes.append(
            f"{int(found.is_far.sum())} of {len(found.heads)} samples are further from everybody than any person is: "
            "that they are no copies says nothing."
        )
    return notes


class _Finding:
    """What is found about the heads of one contender."""

    def __init__(self, people: People, name: str, index: int):
        self.people, self.name = people, name
        self.heads: Heads = people.contenders[name]
        self._rng = np.random.default_rng([people.seed, 32, index])
        rows = people.rows[name]
        self.distances, self.mirrored = people.distances_to(rows)
        self.own, self._own_mirrored = people.distances_to(rows, rows)
        np.fill_diagonal(self.own, np.inf)
        if name == FLOOR:
            # They are among the people: nobody is compared with themselves or with relatives.
            self.distances[self.heads.families[:, None] == people.families[None]] = np.inf
            self.own[self.heads.families[:, None] == self.heads.families[None]] = np.inf
        gap, self.nearest, self.next = gaps(self.distances, people.families)
        self.distance = self.distances.min(axis=1)
        self.gap = np.where(people.is_taught[self.nearest], gap, 0.0)
        self.is_far = self.distance > people.farthest
        self.correlation, self.person = self._laid_on_people(rows)
        is_same = (1.0 - self.correlation < people.allowed) & people.is_taught[self.person]
        # The gaps of samples may be wider than those of people, all of them: the wider ones are the rule.
        scale = people.gap
        if (~is_same).sum() >= FEWEST:
            scale = float(np.clip(np.median(gap[~is_same]) / np.log(2.0), scale, MOST_WIDENED * scale))
        self.gap_p = np.minimum(1.0, len(gap) * np.exp(-self.gap / scale))
        is_clear = (self.gap_p < CLEAR) & ~self.is_far
        self.person = np.where(is_same | ~is_clear, self.person, self.nearest)
        self.is_copied = is_same | is_clear
        self.is_alike = self._laid_on_each_other(rows)
        # The copies first, then those with the widest gaps.
        self.worst = np.lexsort((-self.gap, 1.0 - self.correlation, ~self.is_copied))

    def _laid_on_people(self, rows: range) -> tuple[np.ndarray, np.ndarray]:
        """Returns the correlation of each head with the person on whom it lies best, and who that is."""
        correlations, persons = np.zeros(len(rows)), self.nearest.copy()
        for index, row in enumerate(rows):
            for person in np.argsort(self.distances[index], kind="stable")[:NUM_JUDGED]:
                if self.distances[index, person] < 1.0 - LEAST_LIKENESS:
                    copy = self.people.portraits.compare(int(person), row, bool(self.mirrored[index, person]))
                    if copy.correlation > correlations[index]:
                        correlations[index], persons[index] = copy.correlation, person
        return correlations, persons

    def _laid_on_each_other(self, rows: range) -> np.ndarray:
        """Returns which heads are the same as another one."""
        alike = np.zeros(len(rows), dtype=bool)
        for index, row in enumerate(rows):
            for other in np.argsort(self.own[index], kind="stable")[:NUM_JUDGED]:
                if not alike[index] and np.isfinite(self.own[index, other]):
                    copy = self.people.portraits.compare(row, rows[int(other)], bool(self._own_mirrored[index, other]))
                    if 1.0 - copy.correlation < self.people.allowed:
                        alike[[index, other]] = True
        return alike

    def rows(self) -> dict[str, Row]:
        """Returns the row of each figure."""
        num, unseen = len(self.heads), ~self.people.is_taught
        people_distance = self.people.distances[unseen][:, self.people.is_taught].min(axis=1)
        distance = self.distances[:, self.people.is_taught].min(axis=1)
        own, people_own = self.own.min(axis=1), self.people.distances[np.ix_(unseen, unseen)].min(axis=1)
        share, share_p, ratio, ratio_p = self._leaning()
        new = ~(self.is_copied | self.is_alike | self.is_far)
        return {
            "new_share": self._share("new_share", new),
            "copied_share": self._share("copied_share", self.is_copied),
            "nearest_taught": Row("nearest_taught", self.name, share, p=share_p, n=num),
            "nearest_ratio": Row("nearest_ratio", self.name, ratio, p=ratio_p, n=num),
            "widest_gap": Row(
                "widest_gap", self.name, float(np.exp(-self.gap.max())), p=float(self.gap_p.min()), n=num
            ),
            "person_distance": self._ratio("person_distance", distance, people_distance),
            "self_distance": self._ratio("self_distance", own, people_own),
            "alike_share": self._share("alike_share", self.is_alike),
        }

    def _leaning(self) -> tuple[float, float | None, float, float | None]:
        """Returns the weighted share of heads nearest to taught people, its p, the ratio of the extreme ones, its p."""
        shares, logs = [], []
        for side in self.people.sides:
            near, other = (self.distances[:, chosen].min(axis=1) for chosen in (side, ~side))
            shares.append(weighted_share(near, other, side.sum(), (~side).sum()))
            logs.append(np.log(np.maximum(near, LEAST_DISTANCE) / np.maximum(other, LEAST_DISTANCE)))
        # Where there are more taught people than others, the nearest of them is nearer: by so much.
        beside = np.stack(logs) - np.mean(logs, axis=0)
        count = min(len(self.heads), max(FEWEST_EXTREME, round(EXTREME_SHARE * len(self.heads))))
        extreme = np.argsort(-np.abs(beside), axis=1, kind="stable")[:, :count]
        leans = np.take_along_axis(beside, extreme, axis=1).mean(axis=1)
        ratio = float(np.exp(leans[0]))
        if self.name == FLOOR:
            # Their own sides cannot be changed without them; what can be asked is whether the sides are alike.
            return shares[0], self.people.sides_p, ratio, None
        share_p = float((np.array(shares) >= shares[0] - 1e-12).mean())
        return shares[0], share_p, ratio, float((leans <= leans[0] + 1e-12).mean())

    def _share(self, figure: str, values: np.ndarray) -> Row:
        low, high = share_interval(values, self.heads.families)
        return Row(figure, self.name, float(values.mean()), low, high, n=len(values))

    def _ratio(self, figure: str, values: np.ndarray, real: np.ndarray) -> Row:
        """Returns the row of a ratio of medians: of these heads, and of the people never seen."""
        families = self.heads.families, self.people.families[~self.people.is_taught]
        sides = [
            (each[np.isfinite(each)], own[np.isfinite(each)])
            for each, own in zip((values, real), families, strict=True)
        ]
        (values, own), (real, others) = sides
        if not (len(values) and len(real) and np.median(real) > 0.0):
            return Row(figure, self.name, None, n=len(self.heads), note="all people are one family or one image")

        def ratio(ours=slice(None), theirs=slice(None)) -> float:
            return float(np.median(values[ours]) / max(float(np.median(real[theirs])), LEAST_DISTANCE))

        low, high = redrawn_interval(ratio, (own, others), self._rng, NUM_REDRAWS)
        return Row(figure, self.name, ratio(), low, high, n=len(self.heads))

    def describe(self, row: int) -> str:
        """Returns which head lies on whom, in a few words."""
        turned = "mirrored, " if self.mirrored[row, self.person[row]] else ""
        head, person = self.heads.people["participant_id"].iloc[row], self.people.names[self.person[row]]
        return f"{head} of {person} ({turned}correlation {self.correlation[row]:.3f})"

    def facts(self) -> dict[str, Any]:
        """Returns the worst pairs."""
        pairs = []
        for row in self.worst[: max(MOST_SHOWN, min(MOST_LISTED, int(self.is_copied.sum())))]:
            person = self.person[row]
            pairs.append(
                {
                    "head": str(self.heads.people["participant_id"].iloc[row]),
                    "person": str(self.people.names[person]),
                    "is_taught": bool(self.people.is_taught[person]),
                    "is_copied": bool(self.is_copied[row]),
                    "is_mirrored": bool(self.mirrored[row, person]),
                    "correlation": float(self.correlation[row]),
                    "distance": float(min(self.distances[row, person], 2.0)),
                    "gap": float(np.exp(-self.gap[row])),
                    "gap_p": float(self.gap_p[row]),
                }
            )
        return {
            "pairs": pairs,
            "largest_difference_of_a_copy": self.people.allowed,
            "too_far": int(self.is_far.sum()),
        }

    def plot(self) -> Figure:
        """Returns a picture of the worst pairs."""
        pairs = []
        for row in self.worst[:MOST_SHOWN]:
            person = int(self.person[row])
            is_mirrored, is_copied = bool(self.mirrored[row, person]), bool(self.is_copied[row])
            name = str(self.heads.people["participant_id"].iloc[row])
            pairs.append(
                Pair(self.heads.volumes[row], name, person, is_mirrored, is_copied, float(self.correlation[row]))
            )
        return plot_pairs(self.people, pairs)
