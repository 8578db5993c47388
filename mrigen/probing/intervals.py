"""Confidence intervals of figures: of one set of test people, of a cross-validation, of folds that are sites.

What varies from one study to the next is who was tested and, in a cross-validation, who was learned from.
The first is measured by what each family adds to the error of a figure inside its fold, the second by deletions of
people from a stand-in of the predictor (`mrigen.probing.training_variance`) or, where there is none, by the correction
of Nadeau and Bengio: training parts of folds overlap, and who is tested in one fold teaches the others.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
# Figures that are shares of something, and lie between 0 and 1.
SHARES = frozenset({"balanced_accuracy", "roc_auc", "accuracy"})
# What repeats leave of the variance of who was tested, in the mean over cohorts.
LEAST_TESTED = 0.8


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and what is known of its error.

    Attributes:
        value: the figure.
        variance: of the figure over studies of this kind.
        most_people: how many independent people there are: a bound of the figure's precision, which matters where all
            are told apart and the variance is zero.
        freedom: degrees of freedom of the variance.
    """

    value: float
    variance: float
    most_people: float
    freedom: float


def family_variance(influence: np.ndarray, families: np.ndarray, strata: np.ndarray) -> float:
    """Returns the variance of a figure from what each person adds to its error; relatives count together.

    NaN where a class has one family, of which nothing can be learned about others.

    Args:
        influence: (n,) of a `Figure`.
        families: (n,) whom each person belongs to.
        strata: (n,) the classes; zeros for numbers.

    References:
        Obuchowski 1997, Nonparametric analysis of clustered ROC curve data, Biometrics 53.
    """
    _, numbers = np.unique(families, return_inverse=True)
    scaled = np.array(influence, np.float64)
    for label in np.unique(strata):
        count = len(np.unique(numbers[strata == label]))
        if count < 2:
            return float("nan")
        scaled[strata == label] *= math.sqrt(count / (count - 1))
    return float((np.bincount(numbers, scaled) ** 2).sum())


def repeated_variance(
    influences: Sequence[np.ndarray],
    families: Sequence[np.ndarray],
    strata: Sequence[np.ndarray],
    repeats: Sequence[int],
) -> float:
    """Returns the variance of the mean over folds that is due to who was tested; NaN where it is not known.

    What a person adds is averaged over repeats first: a part that comes and goes with the division into folds is not
    the person's. Folds have means of their own, taken off each person; the product over two repeats has lost by it
    twice, a square once.

    Args:
        influences: by fold, see `family_variance`.
        families, strata: by fold.
        repeats: by fold, which repeat of the cross-validation it is of.
    """
    names, numbers = np.unique(np.concatenate(families), return_inverse=True)
    rows = np.unique(np.asarray(repeats), return_inverse=True)[1]
    num_repeats = int(rows.max()) + 1
    once, twice = np.zeros((2, num_repeats, len(names)))
    ends = np.cumsum([len(part) for part in influences])
    for row, influence, stratum, number in zip(rows, influences, strata, np.split(numbers, ends[:-1]), strict=True):
        for label in np.unique(stratum):
            chosen = stratum == label
            count = len(np.unique(number[chosen]))
            if count < 2:
                return float("nan")
            share = count / (count - 1.0)
            np.add.at(once[row], number[chosen], influence[chosen] * math.sqrt(share))
            np.add.at(twice[row], number[chosen], influence[chosen] * share)
    squares = twice.sum(axis=0) ** 2 - (twice**2).sum(axis=0) + (once**2).sum(axis=0)
    return max(float(squares.sum()), 0.0) / len(influences) ** 2


def independent_people(families: np.ndarray, strata: np.ndarray) -> float:
    """Returns how many people in classes of one size tell as much as these: the families of a class, harmonic mean."""
    labels = np.unique(strata)
    return len(labels) ** 2 / sum(1.0 / len(np.unique(families[strata == label])) for label in labels)


def of_test_people(value: float, variance: float, people: float) -> Estimate:
    """Returns the estimate of one set of test people, for these fitted models and other people."""
    return Estimate(value, _known(variance), people, max(people - 2.0, 1.0))


def of_cross_validation(
    values: Sequence[float], variances: Sequence[float], people: Sequence[float], test_per_training: float
) -> Estimate:
    """Returns the estimate of a cross-validation, for other people to learn from and to test.

    The variance of the mean over folds is (1 / folds + test / training people) times the variance of one fold. The
    latter is found inside the folds, which is steadier than the spread of a few dependent folds.

    Args:
        values: (folds,) the figure in each fold (of all repeats).
        variances: (folds,) of `family_variance`.
        people: (folds,) of `independent_people`.
        test_per_training: people of a fold over people that it learns from.

    References:
        Nadeau and Bengio 2003, Inference for the generalization error, Machine Learning 52.
    """
    known = [variance for variance in variances if math.isfinite(variance)]
    factor = 1.0 / len(values) + test_per_training
    everyone = float(np.mean(people)) * (1.0 + 1.0 / test_per_training)
    variance = factor * float(np.mean(known)) if known else 0.0
    return Estimate(float(np.mean(values)), variance, everyone, max(everyone - 2.0, 1.0))


def of_deletions(value: float, tested: float, inside: float, ratio: float, people: float) -> Estimate:
    """Returns the estimate of a cross-validation of which it is known how much it owes to who is learned from.

    Args:
        value: the mean over folds.
        tested: of `repeated_variance`. Where few features say nothing, folds turn the sign of scores, persons average
            out, and most so in the cohorts whose figure is far below chance: `LEAST_TESTED` of `inside` is the least.
        inside: mean of `family_variance` over folds, over the folds of a repeat.
        ratio: of the whole variance to it, see `mrigen.probing.training_variance`.
        people: of `independent_people`, of all folds of a repeat together.
    """
    return Estimate(value, ratio * max(tested, LEAST_TESTED * inside), people, max(people - 2.0, 1.0))


def of_sites(values: Sequence[float], variances: Sequence[float], people: Sequence[float]) -> Estimate:
    """Returns the estimate of folds that are sites, for other sites: these are what varies, however many people."""
    count = len(values)
    inside = np.mean([_known(variance) for variance in variances]) / count
    variance = max(float(np.var(values, ddof=1)) / count, float(inside)) if count > 1 else float(inside)
    return Estimate(float(np.mean(values)), variance, float(np.sum(people)), max(count - 1.0, 1.0))


def interval(metric: str, estimate: Estimate, confidence: float = CONFIDENCE) -> list[float]:
    """Returns the interval [low, high] of a figure.

    Shares (ROC AUC, accuracies) have Wilson's score interval for as many people as their variance amounts to, so the
    interval of a perfect figure is not a point. A correlation has Fisher's; mean absolute errors, and the share that is
    not explained (1 - r2), are taken as logarithms.

    Args:
        metric: 'roc_auc', 'balanced_accuracy', 'accuracy', 'r', 'r2' or 'mae'.
        estimate: of it.
        confidence: how often it is to hold the truth.

    References:
        Wilson 1927, J. Am. Stat. Assoc. 22; Dean and Pagano 2015, Evaluating confidence interval methods for binomial
        proportions in clustered surveys, J. Surv. Stat. Methodol. 3 (the effective number of people).
        Newcombe 2006, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2,
        Stat. Med. 25 (why not Wald's).
    """
    value, quantile = estimate.value, float(stats.t.ppf(0.5 + confidence / 2.0, estimate.freedom))
    if metric in SHARES:
        people = estimate.most_people
        if estimate.variance > 0.0:
            people = min(people, value * (1.0 - value) / estimate.variance)
        square = quantile**2 / max(people, 1e-9)
        middle = (value + square / 2.0) / (1.0 + square)
        half = math.sqrt(square * value * (1.0 - value) + square**2 / 4.0) / (1.0 + square)
        return [max(0.0, middle - half), 1.0 if value == 1.0 else min(1.0, middle + half)]
    deviation = math.sqrt(estimate.variance)
    if metric == "r":
        bounded = min(max(value, -0.999999), 0.999999)
        spread = max(deviation / (1.0 - bounded**2), 1.0 / math.sqrt(max(estimate.most_people - 3.0, 1.0)))
        return [math.tanh(math.atanh(bounded) + sign * quantile * spread) for sign in (-1.0, 1.0)]
    size = value if metric == "mae" else 1.0 - value
    if size <= 0.0:
        return [value, value]
    ends = [size * math.exp(sign * quantile * deviation / size) for sign in (-1.0, 1.0)]
    return ends if metric == "mae" else [1.0 - ends[1], 1.0 - ends[0]]


def difference_interval(metric: str, estimate: Estimate, confidence: float = CONFIDENCE) -> list[float]:
    """Returns the interval [low, high] of a paired difference; that of shares lies between -1 and 1."""
    half = float(stats.t.ppf(0.5 + confidence / 2.0, estimate.freedom)) * math.sqrt(estimate.variance)
    ends = [estimate.value - half, estimate.value + half]
    return [max(-1.0, ends[0]), min(1.0, ends[1])] if metric in SHARES else ends


def p_of_difference(estimate: Estimate) -> float:
    """Returns the two-sided p-value that a paired difference is zero; 1 where nothing differs."""
    if not estimate.variance > 0.0:
        return 1.0
    return float(2.0 * stats.t.sf(abs(estimate.value) / math.sqrt(estimate.variance), estimate.freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values that hold for all of these comparisons together.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.
    """
    order, corrected, largest = np.argsort(p_values, kind="stable"), [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def json_float(value: float) -> float | None:
    """Returns `value` as a Python float, None for NaN or infinity, which JSON does not know."""
    value = float(value)
    return value if math.isfinite(value) else None


def _known(variance: float) -> float:
    return variance if math.isfinite(variance) else 0.0
