"""How much a cross-validated figure owes to who was learned from, beside who was tested.

Everybody is tested in some folds and teaches in the others. Person i adds phi_i = f_i + sum_k h_ik to the error of a
figure when tested, and psi_i = g_i + sum_k h_ki + ... when learned from, where h_ik is what i's test owes to k as a
teacher (Hoeffding's decomposition). The variance of the figure is

    sum f_i^2 + sum h_ik^2 + 2 sum f_i g_i + sum h_ik h_ki + ...
    = sum phi_i^2 + (2 sum phi_i psi_i - sum h_ik h_ki) + ...

Inside folds only the first sum is seen. It is nearly all there is to a strong signal in few features; at chance the
rest is as large, and of many weak features nearly. So no factor serves all. To leave each person out of the probe would
take hours, so the ratio of the whole to the first sum is found for a STAND-IN, from which people are left out in closed
form: kernel ridge regression on what the probe learns from, in the same folds, with the penalty that makes its scores
go best with the probe's own.

What is left out: what teachers add whoever is tested (sum g^2) and what they do among themselves, of which one cohort
shows noise. In simulations of ridge regressions (60 to 300 people, 16 to 2,000 features, chance to .94, twins) the
ratio is .9 to 2.2, and what is found 1 (its bound) to 2.1, in the mean 5 % above, at worst 10 % below. Of 400 features
that a regression without penalty interpolates it is 2.4, and 2.0 is found.

References:
    Hoeffding 1948, A class of statistics with asymptotically normal distribution, Ann. Math. Stat. 19. Efron and Stein
    1981, The jackknife estimate of variance, Ann. Stat. 9 (what deletions say of each order).
    Bengio and Grandvalet 2004, No unbiased estimator of the variance of k-fold cross-validation, JMLR 5 (why the folds'
    own figures cannot tell).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr
from sklearn.preprocessing import StandardScaler

from mrigen.probing.intervals import repeated_variance
from mrigen.probing.targets import Target

# Of the mean squared norm of a person.
PENALTIES = 10.0 ** np.arange(4.0, -2.5, -0.5)
# The strongest penalty whose scores go with the probe's by that much less than the best does.
NEARLY_THE_BEST = 0.002
# Width of the step of a smooth figure, in standard deviations of scores within a class.
BANDWIDTH = 0.7
# Beyond, families are deleted in groups: n^2 numbers a figure are kept.
MOST_GROUPS = 400
# Bounds of the ratio: the test part alone, and one and a half times what the two parts are at chance.
LEAST_RATIO, LARGEST_RATIO = 1.0, 3.0

Fold = tuple[int, np.ndarray, np.ndarray]  # repeat, training rows, test rows


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Inner products of people.

    Attributes:
        values: (n, n).
    """

    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Contributions:
    """What people add to the error of one figure of a stand-in, the mean over folds.

    Attributes:
        influences: by fold, (m,) of the test people.
        families, strata, repeats: by fold, see `intervals.repeated_variance`.
        test, training: (groups,) as tested and as learned from, groups of families.
        both: (groups, groups) what the test of the first owes to the second.
        pairs: (groups, groups) what two test people add together, beside what each adds; zero but for the ROC AUC.
    """

    influences: tuple[np.ndarray, ...]
    families: tuple[np.ndarray, ...]
    strata: tuple[np.ndarray, ...]
    repeats: tuple[int, ...]
    test: np.ndarray
    training: np.ndarray
    both: np.ndarray
    pairs: np.ndarray

    def __sub__(self, other: "Contributions") -> "Contributions":
        """Returns those of the paired difference of two figures of the same people in the same folds."""
        return dataclasses.replace(
            self,
            influences=tuple(a - b for a, b in zip(self.influences, other.influences, strict=True)),
            **{name: getattr(self, name) - getattr(other, name) for name in ("test", "training", "both", "pairs")},
        )

    def matches(self, other: "Contributions") -> bool:
        """Returns whether both are of the same people in the same folds."""
        return len(self.families) == len(other.families) and all(
            np.array_equal(a, b) for a, b in zip(self.families, other.families, strict=True)
        )

    def ratio(self) -> float:
        """Returns the variance of the figure over its test part, within `LEAST_RATIO` and `LARGEST_RATIO`."""
        tested = repeated_variance(self.influences, self.families, self.strata, self.repeats)
        if not tested > 0.0:
            return LARGEST_RATIO
        # Pairs of test people are in the test part twice: with either of them.
        twice = float((self.pairs**2).sum()) / 2.0
        other = 2.0 * float(self.test @ self.training) - float((self.both * self.both.T).sum()) - twice
        return float(np.clip(1.0 + other / tested, LEAST_RATIO, LARGEST_RATIO))


def contributions(
    learned_from: "np.ndarray | Kernel",
    target: Target,
    targets: np.ndarray,
    families: np.ndarray,
    folds: Sequence[Fold],
    scores: Sequence[np.ndarray],
) -> dict[str, Contributions]:
    """Returns metric -> `Contributions` of a stand-in; {} where a fold has one family of a class, or scores are alike.

    Args:
        learned_from: features (n, d), which the probe standardises, or inner products of what it learns from.
        target: what is predicted.
        targets: (n,).
        families: (n,) str.
        folds: of all repeats.
        scores: by fold, those of the probe, (m,) or (m, classes).
    """
    strata = np.zeros(len(targets), int) if target.classes is None else targets.astype(int)
    shares = [_family_share(families[test], strata[test]) for _, _, test in folds]
    if any(share is None for share in shares) or all(np.ptp(score) == 0.0 for score in scores):
        return {}
    fit = _StandIn(learned_from, target, targets)
    penalty = fit.penalty_like([fold for fold in folds if fold[0] == folds[0][0]], scores)
    group = np.unique(families, return_inverse=True)[1] % MOST_GROUPS
    sums = np.zeros((len(targets), int(group.max()) + 1))
    sums[np.arange(len(targets)), group] = 1.0
    found: dict[str, _Sums] = {metric: _Sums(len(targets), len(folds)) for metric in target.metrics}
    for (_, train, test), share in zip(folds, shares, strict=True):
        predicted, changes = fit.deletions(penalty, train, test)
        truth = fit.numbers[test] if target.classes is None else targets[test]
        for metric, part in _smooth_figures(target, truth, predicted, changes).items():
            found[metric].add(part, train, test, share, strata[train])
    people = {
        "families": tuple(families[test] for _, _, test in folds),
        "strata": tuple(strata[test] for _, _, test in folds),
        "repeats": tuple(repeat for repeat, _, _ in folds),
    }
    return {metric: part.grouped(sums, people) for metric, part in found.items()}


@dataclasses.dataclass(frozen=True)
class _Smooth:
    """A smooth figure of test people, and how it and what each adds to it change when each teacher is deleted."""

    influence: np.ndarray  # (m,)
    change: np.ndarray  # (teachers,)
    influence_changes: np.ndarray  # (m, teachers)
    pairs: np.ndarray | None = None  # (m, m)


class _Sums:
    """Means over folds, by person."""

    def __init__(self, num_people: int, num_folds: int):
        self._num_folds, self._influences = num_folds, []
        self._test, self._training = np.zeros((2, num_people))
        self._both, self._pairs = np.zeros((2, num_people, num_people), np.float32)

    def add(self, part: _Smooth, train, test, share: np.ndarray, strata: np.ndarray) -> None:
        """Adds a fold; what any teacher of a class adds (strata: their classes) is no error, and taken off."""
        centred = np.concatenate([part.change[None], part.influence_changes])
        for label in np.unique(strata):
            centred[:, strata == label] -= centred[:, strata == label].mean(axis=1, keepdims=True)
        self._influences.append(part.influence)
        self._test[test] += share * part.influence / self._num_folds
        self._training[train] -= centred[0] / self._num_folds
        self._both[np.ix_(test, train)] -= share[:, None] * centred[1:] / self._num_folds
        if part.pairs is not None:
            self._pairs[np.ix_(test, test)] += part.pairs / self._num_folds

    def grouped(self, sums: np.ndarray, people: dict) -> Contributions:
        both, pairs = (sums.T @ matrix @ sums for matrix in (self._both, self._pairs))
        for matrix in (both, pairs):
            np.fill_diagonal(matrix, 0.0)
        return Contributions(
            influences=tuple(self._influences), test=sums.T @ self._test, training=sums.T @ self._training,
            both=both, pairs=pairs, **people,
        )  # fmt: skip


class _StandIn:
    """Kernel ridge regression of the classes (all of the same weight) or the numbers, without intercept for classes:
    people are centred between classes, and a deletion does not tilt their balance."""

    def __init__(self, learned_from: "np.ndarray | Kernel", target: Target, targets: np.ndarray):
        count = len(targets)
        self._features = None
        if isinstance(learned_from, Kernel):
            kernel = learned_from.values
        else:
            self._features = StandardScaler().fit_transform(np.asarray(learned_from, np.float64))
            kernel = self._features @ self._features.T
        if target.classes is None:
            weight, away = np.full(count, 1.0 / count), targets - targets.mean()
            self._outputs, self._ridge = (away / (targets.std() or 1.0))[:, None], np.ones(count)
        else:
            labels, numbers, sizes = np.unique(targets, return_inverse=True, return_counts=True)
            weight = 1.0 / (len(labels) * sizes[numbers])
            chosen = labels[1:] if target.task == "binary" else np.arange(len(target.classes))
            self._outputs, self._ridge = 2.0 * (targets[:, None] == chosen) - 1.0, sizes[numbers] * len(labels) / count
        mean = kernel @ weight
        self._kernel = kernel - mean[:, None] - mean + weight @ mean
        self._scale = np.trace(self._kernel) / count or 1.0
        self._kernel /= self._scale
        if self._features is not None:
            self._centred = (self._features - weight @ self._features) / np.sqrt(self._scale)
        if target.classes is None:
            self._kernel = self._kernel + 1.0

    @property
    def numbers(self) -> np.ndarray:
        """The targets (n,) that are predicted, where they are numbers."""
        return self._outputs[:, 0]

    def penalty_like(self, folds: Sequence[Fold], scores: Sequence[np.ndarray]) -> float:
        """Returns the strongest penalty whose scores go with the probe's, in the mean over folds, nearly best."""
        alike = np.zeros(len(PENALTIES))
        for (_, train, test), score in zip(folds, scores, strict=False):
            root = np.sqrt(self._ridge[train])
            values, vectors = np.linalg.eigh(self._kernel[np.ix_(train, train)] / np.outer(root, root))
            left = self._kernel[np.ix_(test, train)] / root @ vectors
            right = vectors.T @ (self._outputs[train] / root[:, None])
            score = score.reshape(len(test), -1)
            for index, penalty in enumerate(PENALTIES):
                predicted = left @ (right / (values + penalty)[:, None])
                alike[index] += np.mean([_correlation(a, b) for a, b in zip(predicted.T, score.T, strict=False)])
        return float(PENALTIES[np.argmax(alike >= alike.max() - NEARLY_THE_BEST * len(folds))])

    def deletions(self, penalty: float, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores (outputs, m) of the test people and their changes (outputs, m, teachers) by one teacher less.

        The coefficients without teacher k are a - A[:, k] a_k / A_kk, where A is the inverse of the penalised kernel.
        """
        inverse = self._kernel[np.ix_(train, train)].copy()
        inverse.flat[:: len(train) + 1] += penalty * self._ridge[train]
        inverse = np.linalg.inv(inverse)
        coefficients = inverse @ self._outputs[train]
        across = self._kernel[np.ix_(test, train)]
        steps = coefficients / np.diag(inverse)[:, None]
        through = across @ inverse
        changes = -through * steps.T[:, None, :]
        if self._features is not None:
            # One teacher less also changes the deviations by which features are divided: d log(1 / sd^2) = ...
            stretch = (self._features[train] ** 2 - 1.0).T / len(train)
            left = self._centred[test] - through @ self._centred[train]
            weights = self._centred[train].T @ coefficients
            changes += np.stack([left @ (weight[:, None] * stretch) for weight in weights.T])
        return (across @ coefficients).T, changes


def _smooth_figures(target: Target, targets: np.ndarray, scores: np.ndarray, changes: np.ndarray) -> dict[str, _Smooth]:
    """Returns metric -> the smooth figure of test people: figures with steps hardly move when one teacher is deleted.

    Args:
        targets: (m,).
        scores: (outputs, m).
        changes: (outputs, m, teachers).
    """
    if target.classes is None:
        return _of_numbers(targets, scores[0], changes[0])
    if target.task == "binary":
        areas = [_area(targets == 1, scores[0], changes[0])]
        sign = 2.0 * targets - 1.0
        margin, margin_changes = sign * scores[0], sign[:, None] * changes[0]
    else:
        present, everyone = np.unique(targets), np.arange(len(targets))
        areas = [_area(targets == label, scores[label], changes[label]) for label in present]
        others = scores.copy()
        others[targets, everyone] = -np.inf
        rival = others.argmax(axis=0)
        margin = scores[targets, everyone] - scores[rival, everyone]
        margin_changes = changes[targets, everyone] - changes[rival, everyone]
    width = BANDWIDTH * _spread(targets, margin)
    right = ndtr(margin / width)
    right_changes = _bell(margin / width)[:, None] / width * margin_changes
    shares = [_mean(right, right_changes, targets == label) for label in np.unique(targets)]
    return {
        "balanced_accuracy": _average(shares),
        "roc_auc": _average(areas),
        "accuracy": _mean(right, right_changes, np.ones(len(targets), bool)),
    }


def _area(is_positive: np.ndarray, scores: np.ndarray, changes: np.ndarray) -> _Smooth:
    up, down = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    width = BANDWIDTH * _spread(is_positive, scores)
    ahead = (scores[up][:, None] - scores[down]) / width
    wins, slopes = ndtr(ahead), _bell(ahead) / width
    value, of_up, of_down = wins.mean(), wins.mean(axis=1), wins.mean(axis=0)
    up_changes = slopes.mean(axis=1)[:, None] * changes[up] - slopes @ changes[down] / len(down)
    down_changes = slopes.T @ changes[up] / len(up) - slopes.mean(axis=0)[:, None] * changes[down]
    change = up_changes.mean(axis=0)
    influence, influence_changes = np.zeros(len(scores)), np.zeros(changes.shape)
    influence[up], influence[down] = (of_up - value) / len(up), (of_down - value) / len(down)
    influence_changes[up] = (up_changes - change) / len(up)
    influence_changes[down] = (down_changes - change) / len(down)
    pairs = np.zeros((len(scores), len(scores)))
    pairs[np.ix_(up, down)] = (wins - of_up[:, None] - of_down + value) / wins.size
    return _Smooth(influence, change, influence_changes, pairs + pairs.T)


def _mean(values: np.ndarray, changes: np.ndarray, chosen: np.ndarray) -> _Smooth:
    count, change = chosen.sum(), changes[chosen].mean(axis=0)
    return _Smooth(
        np.where(chosen, values - values[chosen].mean(), 0.0) / count,
        change,
        np.where(chosen[:, None], changes - change, 0.0) / count,
    )


def _of_numbers(targets: np.ndarray, scores: np.ndarray, changes: np.ndarray) -> dict[str, _Smooth]:
    """See `measures._of_numbers`; targets and scores have one scale."""
    count, everyone = len(targets), np.ones(len(targets), bool)
    error, away = scores - targets, targets - targets.mean()
    variance, mean_error = (away**2).sum() / (count - 1), (error**2).mean()
    errors, unlike = 2.0 * error[:, None] * changes, away**2 - (away**2).mean()
    mean_errors = errors.mean(axis=0)
    x, z = away / targets.std(), (scores - scores.mean()) / (scores.std() or 1.0)
    steps = changes / (scores.std() or 1.0)
    steps = steps - steps.mean(axis=0) - z[:, None] * (z @ steps) / count
    r, slopes = float((x * z).mean()), x @ steps / count
    return {
        "mae": _mean(np.abs(error), np.sign(error)[:, None] * changes, everyone),
        "r": _Smooth(
            (x * z - 0.5 * r * (x**2 + z**2)) / count,
            slopes,
            (x[:, None] * steps - 0.5 * (x**2 + z**2)[:, None] * slopes - r * z[:, None] * steps) / count,
        ),
        "r2": _Smooth(
            -((error**2 - mean_error) / variance - mean_error / variance**2 * unlike) / count,
            -mean_errors / variance,
            -((errors - mean_errors) / variance - unlike[:, None] * mean_errors / variance**2) / count,
        ),
    }


def _average(parts: list[_Smooth]) -> _Smooth:
    pairs = [part.pairs for part in parts if part.pairs is not None]
    return _Smooth(
        *(np.mean([getattr(part, name) for part in parts], axis=0)
          for name in ("influence", "change", "influence_changes")),
        np.sum(pairs, axis=0) / len(parts) if pairs else None,
    )  # fmt: skip


def _family_share(families: np.ndarray, strata: np.ndarray) -> np.ndarray | None:
    """Returns by how much more each test person would add, were the fold's mean that of all people; None if unknown."""
    share = np.ones(len(families))
    for label in np.unique(strata):
        count = len(np.unique(families[strata == label]))
        if count < 2:
            return None
        share[strata == label] = count / (count - 1.0)
    return share


def _spread(strata: np.ndarray, values: np.ndarray) -> float:
    within = np.mean([values[strata == label].var() for label in np.unique(strata)])
    return float(np.sqrt(within)) or 1.0


def _bell(values: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * values**2) / np.sqrt(2.0 * np.pi)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    scale = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / scale) if scale > 0.0 else 0.0
