"""Whether samples are copies of people that were learned from, by what heads show inside the brain case.

Heads are compared as `mrigen.quality.copies` compares those of a cohort: local contrast, laid onto one common head, so
that a move, a nod, another contrast or a mirror makes no difference. Every person that was learned from is compared.
"""

import functools
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from mrigen.evaluation.heads import FLOOR, SAMPLES, Heads, Material
from mrigen.evaluation.result import HALF, HIGHER, LOWER, ONE, FigureKind, PartResult, Row
from mrigen.imaging.figures import Figure
from mrigen.quality.alignment import place, sample
from mrigen.quality.common_head import CommonHead
from mrigen.quality.copies import NUM_COMMON, Portraits, portray
from mrigen.quality.pictures import picture_strip, plot_strips

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
# Standard deviation, voxels: a head of 8 mm that was moved and nodded on its grid is not found again without it.
SMOOTHING = 0.8
FEWEST, NUM_PERMUTATIONS, NUM_BOOTSTRAPS = 8, 999, 500
# The most extreme heads: this share of them, and at least so many.
EXTREME_SHARE, FEWEST_EXTREME = 0.05, 3
# People that a head is laid onto one by one, and the likeness above which it is.
NUM_JUDGED, LEAST_LIKENESS = 3, 0.3
# A gap this improbable (of all heads of a contender together) makes a copy; distances below the least are that.
CLEAR, LEAST_DISTANCE = 0.01, 1e-3
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
    people = _People(material)
    findings = {name: _Finding(people, name, index) for index, name in enumerate(material.contenders)}
    rows = [finding.rows()[figure] for figure in FIGURES for finding in findings.values()]
    found = findings[SAMPLES]
    facts = {name: finding.facts() for name, finding in findings.items()}
    return PartResult(tuple(rows), tuple(_notes(people, found)), {"copying": found.plot()}, {"copying": facts})


def _notes(people: "_People", found: "_Finding") -> list[str]:
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


class _People:
    """The real people of an evaluation, those learned from first, and the portraits of all heads."""

    def __init__(self, material: Material):
        self.zooms, self.contenders, self.seed = material.zooms, material.contenders, material.seed
        real = [material.taught, material.unseen]
        table = pd.concat([heads.people[["participant_id", "family"]] for heads in real], ignore_index=True)
        self.names, self.families = (table[name].to_numpy(dtype=str) for name in ("participant_id", "family"))
        self.num_taught = len(material.taught)
        self.is_taught = np.arange(len(table)) < self.num_taught
        self.heads = volumes = [levels(head) for heads in real for head in heads.volumes]
        compared = [smooth(head) for head in volumes]
        rng = np.random.default_rng([self.seed, 31])
        # Who makes the common head does not depend on who was learned from.
        chosen = rng.permutation(len(volumes))[:NUM_COMMON]
        self.common = CommonHead(np.stack([compared[row] for row in chosen]), self.zooms)
        compared += [smooth(levels(head)) for heads in self.contenders.values() for head in heads.volumes]
        self.portraits = Portraits(self.common, portray(self.common, compared), len(volumes))
        self.rows: dict[str, range] = {}
        start = len(volumes)
        for name, heads in self.contenders.items():
            self.rows[name] = range(start, start + len(heads))
            start += len(heads)
        self.distances, self.mirrored = self.distances_to(range(len(volumes)))
        self.distances[self.families[:, None] == self.families[None]] = np.inf
        self.sides = self._permuted(rng)
        groups = np.unique(self.families, return_inverse=True)[1]
        self.allowed = self.portraits.largest_difference(groups, self.zooms)

    def distances_to(self, rows: range, others: range | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns 1 - correlation of portraits `rows` and those of `others` (all people), or of their mirror images
        where that is less: distances, and whether mirrored; both (rows, others)."""
        others = range(len(self.heads)) if others is None else others
        plain, mirrored = (self.portraits.likeness(rows, others, turned) for turned in (False, True))
        return 1.0 - np.maximum(plain, mirrored).astype(float), mirrored > plain

    def _permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Returns who is on the side of the taught: (permutations + 1, people) bool, the first as it is."""
        # A family with members on both sides changes sides as two.
        keys = np.char.add(self.families, np.where(self.is_taught, "/taught", "/unseen"))
        _, first, family = np.unique(keys, return_index=True, return_inverse=True)
        sides = [self.is_taught[first], *(rng.permutation(self.is_taught[first]) for _ in range(NUM_PERMUTATIONS))]
        return np.stack(sides)[:, family]

    @functools.cached_property
    def gap(self) -> float:
        """The mean log gap between a person's nearest and next person."""
        return float(np.mean(gaps(self.distances, self.families)[0]))

    @functools.cached_property
    def farthest(self) -> float:
        """The largest distance of a person to the nearest other one."""
        return float(self.distances.min(axis=1).max())

    @functools.cached_property
    def sides_p(self) -> float:
        """The p that people learned from and people never seen are alike: whether the nearest of each of the former is
        one of them."""
        shares = []
        for side in self.sides:
            near, other = (self.distances[side][:, chosen].min(axis=1) for chosen in (side, ~side))
            shares.append(weighted_share(near, other, side.sum() - 1, (~side).sum()))
        return float((np.array(shares) >= shares[0] - 1e-12).mean())


class _Finding:
    """What is found about the heads of one contender."""

    def __init__(self, people: _People, name: str, index: int):
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
        interval = stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
        return Row(figure, self.name, float(values.mean()), float(interval.low), float(interval.high), n=len(values))

    def _ratio(self, figure: str, values: np.ndarray, real: np.ndarray) -> Row:
        """Returns the row of a ratio of medians, with its bootstrap."""
        values, real = (each[np.isfinite(each)] for each in (values, real))
        if not (len(values) and len(real) and np.median(real) > 0.0):
            return Row(figure, self.name, None, n=len(self.heads), note="all people are one family or one image")
        top, below = (np.median(self._rng.choice(each, (NUM_BOOTSTRAPS, len(each))), axis=1) for each in (values, real))
        low, high = np.percentile(top / np.maximum(below, LEAST_DISTANCE), [2.5, 97.5])
        value = float(np.median(values) / np.median(real))
        return Row(figure, self.name, value, float(low), float(high), n=len(self.heads))

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
        """Returns the worst pairs: the head, the person on whom it lies, and what is left between them."""
        strips, titles, verdicts = [], [], []
        for row in self.worst[:MOST_SHOWN]:
            person = self.person[row]
            verdict = "wrong" if self.is_copied[row] else "fine"
            head = levels(self.heads.volumes[row])
            if self.mirrored[row, person]:
                head = head[::-1]
            made, real = (self._laid(each) for each in (head, self.people.heads[person]))
            scale = float((made * real).sum() / max(float((made * made).sum()), 1e-6))
            difference = np.clip(127.5 + (scale * made - real), 0, 255)
            side = "learned from" if self.people.is_taught[person] else "never seen"
            titles += [
                str(self.heads.people["participant_id"].iloc[row]),
                f"{self.people.names[person]} ({side})",
                f"difference, correlation {self.correlation[row]:.3f}",
            ]
            spacing = (self._spacing,) * 3
            strips += [picture_strip(np.rint(each).astype(np.uint8), spacing) for each in (made, real, difference)]
            verdicts += [verdict] * 3
        return plot_strips(strips, titles, verdicts, columns=3)

    @property
    def _spacing(self) -> float:
        return max(1.0, float(min(self.people.zooms)))

    def _laid(self, head: np.ndarray) -> np.ndarray:
        """Returns a head where the common one is, around its brain case: no face is seen."""
        common = self.people.common
        lattice = common.brain.lattice(self._spacing, margin=8.0)
        places = place(common.pose_of(smooth(head)), lattice.reshape(-1, 3))
        laid = sample(head.astype(np.float32), self.people.zooms, places).reshape(lattice.shape[:3])
        return np.clip(laid, 0, 255)


def levels(volume: np.ndarray) -> np.ndarray:
    """Returns a head (x, y, z) in [0, 1] as uint8."""
    return np.rint(255.0 * np.clip(volume, 0.0, 1.0)).astype(np.uint8)


def smooth(head: np.ndarray) -> np.ndarray:
    """Returns a head (x, y, z) uint8 without the detail that it loses by being moved on its grid."""
    return np.rint(ndimage.gaussian_filter(head.astype(np.float32), SMOOTHING, mode="nearest")).astype(np.uint8)


def gaps(distances: np.ndarray, families: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns log(distance of the next person over that of the nearest), and who they are: three of (n,).

    The next person is of another family than the nearest. Where people scatter smoothly the gaps are exponential.

    References:
        Facco et al. 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood information.

    Example:
        >>> gap, nearest, following = gaps(np.array([[1.0, 1.5, 2.0]]), np.array(["a", "a", "b"]))
        >>> float(np.exp(gap[0])), int(nearest[0]), int(following[0])
        (2.0, 0, 2)
    """
    nearest = distances.argmin(axis=1)
    others = np.where(families[None] == families[nearest][:, None], np.inf, distances)
    following = others.argmin(axis=1)
    rows = np.arange(len(distances))
    near, far = distances[rows, nearest], others[rows, following]
    known = np.isfinite(far)
    gap = np.log(np.maximum(np.where(known, far, 1.0), LEAST_DISTANCE) / np.maximum(np.where(known, near, 1.0), 1e-3))
    return np.maximum(gap, 0.0), nearest, following


def weighted_share(near: np.ndarray, other: np.ndarray, num: int, num_other: int) -> float:
    """Returns the share of heads that are nearer to one side than to the other, if both had as many people.

    Args:
        near, other: (n,) distance to the nearest person of each side; equal ones count by half.
        num, num_other: people of each side.

    Example:
        >>> weighted_share(np.array([1.0, 1, 1, 2]), np.array([2.0, 2, 2, 1]), 30, 10)
        0.5
    """
    share = float((near < other).mean() + 0.5 * (near == other).mean())
    weight, other_weight = share / max(num, 1), (1.0 - share) / max(num_other, 1)
    return float(weight / max(weight + other_weight, 1e-12))
