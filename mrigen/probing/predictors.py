"""Predictors of a binary label; each learns everything it learns from the training people of the fold."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from scipy.special import expit
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mrigen.probing.measures import roc_auc
from mrigen.probing.training_variance import Kernel
from mrigen.statistics.pca import gram_matrix, gram_scores

LOGISTIC_C = tuple(10.0 ** np.arange(-4.0, 2.5, 0.5))
# For kernels whose training people have a mean squared norm of 1: beyond 100 a separable problem is hard-margin.
SVM_C = tuple(10.0 ** np.arange(-2.0, 2.5, 0.5))
RBF_GAMMA_MULTIPLES = (1 / 16, 1 / 4, 1.0)
MAX_DEVIATION = np.float32(5.0)
NUM_INNER_FOLDS = 5
_MOST_NEWTON_STEPS = 50
_SMALLEST_GRADIENT = 1e-6  # of a person, on average
_CHUNK_VOXELS = 4096  # columns of one working block: a few MB for some hundreds of people


@dataclasses.dataclass(frozen=True)
class FoldScores:
    """What one predictor says of the test people of one fold.

    Attributes:
        score: (m,) float64, larger means class 1.
        prediction: (m,) int, 0 or 1.
        setting: the regularisation that was chosen inside the training part, for the record.
    """

    score: np.ndarray
    prediction: np.ndarray
    setting: str


class Predictor(Protocol):
    """Fits on the people `train` and scores the people `test` (row numbers); must not look at targets[test].

    One that knows it has a method `learned_from(count)`, which returns what all `count` people are to it, as
    `training_variance.contributions` takes it, or None.
    """

    def fit_score(
        self, targets: np.ndarray, groups: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> FoldScores: ...


class DrawsPredictor:
    """A predictor of one draw from each person's posterior, to be tried with every draw there is: its figures are the
    means over draws.

    Args:
        learn: makes a predictor of features (n, latent_size).
        draws: (n, draws * latent_size), a draw beside the other.
        latent_size: latent variables.

    Attributes:
        num_draws: how many.
    """

    def __init__(self, learn: Callable[[np.ndarray], "Predictor"], draws: np.ndarray, latent_size: int):
        self.num_draws = draws.shape[1] // latent_size
        self._learn, self._draws = learn, np.split(draws, self.num_draws, axis=1)

    def of_draw(self, number: int) -> "Predictor":
        """Returns the predictor of one draw."""
        return self._learn(self._draws[number])

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        return self.of_draw(0).fit_score(targets, groups, train, test, seed)

    def learned_from(self, count: int) -> np.ndarray:
        return np.concatenate(self._draws, axis=1)


class MajorityPredictor:
    """Predicts the more frequent class of the training people for everyone; all scores are equal."""

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        majority = int(targets[train].mean() > 0.5)
        return FoldScores(np.zeros(len(test)), np.full(len(test), majority), "")


class LogisticPredictor:
    """Standardised features and L2 logistic regression; the score is the log-odds.

    C is chosen by the log loss of inner stratified group folds of the training people, where the features themselves
    are fitted anew, then everything is refitted on all training people. Both classes weigh the same, in the fit and
    in the choice, because balanced accuracy is the figure that is read.

    Args:
        features: function of the training row numbers that returns features (n, d) of ALL people, fitted on the
            training people alone; or an array (n, d) of features that need no fit.
    """

    def __init__(self, features: np.ndarray | Callable[[np.ndarray], np.ndarray]):
        self._features = features if callable(features) else lambda train: features

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        losses = np.zeros(len(LOGISTIC_C))
        for inner_train, inner_test in inner_folds(targets, groups, train, seed):
            inputs, outputs = self._standardized(inner_train, inner_test)
            weight = _class_weight(targets[train])[targets[inner_test]]
            sign = 2 * targets[inner_test] - 1
            for index, log_odds in enumerate(_logistic_path(inputs, targets[inner_train], outputs, LOGISTIC_C)):
                losses[index] += weight @ np.logaddexp(0.0, -sign * log_odds)
        # argmin takes the first, the strongest regularisation, where several do as well (or none could be tried).
        c = LOGISTIC_C[int(np.argmin(losses))] if losses.any() else 1e-2
        inputs, outputs = self._standardized(train, test)
        (log_odds,) = _logistic_path(inputs, targets[train], outputs, (c,))
        return FoldScores(log_odds, (log_odds > 0.0).astype(int), f"C={c:.2g}")

    def learned_from(self, count: int) -> np.ndarray:
        return self._features(np.arange(count))

    def _standardized(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = np.asarray(self._features(train), np.float64)
        scaler = StandardScaler().fit(features[train])
        return scaler.transform(features[train]), scaler.transform(features[test])


class PrincipalComponents:
    """Scores on the principal components of the training people, from one Gram matrix for all folds.

    Args:
        volumes: (n, D) float32.
        num_components: capped below the number of training people of the fold.
    """

    def __init__(self, volumes: np.ndarray, num_components: int):
        self._gram = gram_matrix(volumes)
        self._num_components = num_components

    def __call__(self, train: np.ndarray) -> np.ndarray:
        scores = gram_scores(self._gram, train, self._num_components)
        return scores if scores.shape[1] else np.zeros((len(scores), 1))


class StandardizedVoxels:
    """Inner products of volumes whose voxels are standardised with the mean and sd of the training people.

    Voxels that are constant among the training people are dropped, and standardised values are cut off at +-5: in the
    air around the head the training sd can be so small that a few such voxels of one test person outweigh the head
    (squared norms of 40 where training people have 1; it costs the RBF kernel 0.03 of AUC on 124 heads). The last
    result is kept, so that two predictors in one fold share it.

    Args:
        volumes: (n, D) float32.
    """

    def __init__(self, volumes: np.ndarray):
        self._volumes = volumes
        self._train: np.ndarray | None = None
        self._gram: np.ndarray | None = None

    def gram(self, train: np.ndarray) -> np.ndarray:
        """Returns inner products (n, n) float64 divided by the number of voxels kept."""
        if self._train is None or not np.array_equal(self._train, train):
            self._train, self._gram = train.copy(), self._compute(train)
        return self._gram

    def _compute(self, train: np.ndarray) -> np.ndarray:
        num_people, num_voxels = self._volumes.shape
        gram, num_kept = np.zeros((num_people, num_people)), 0
        for start in range(0, num_voxels, _CHUNK_VOXELS):
            block = self._volumes[:, start : start + _CHUNK_VOXELS]
            mean = block[train].mean(axis=0)
            block = block - mean
            centred = block[train]
            sd = np.sqrt(np.einsum("ij,ij->j", centred, centred) / len(train))
            # Equal float32 values may leave a rounding error in the mean.
            kept = sd > 1e-6 * np.abs(mean)
            block *= np.divide(1.0, sd, out=np.zeros_like(sd), where=kept)
            np.clip(block, -MAX_DEVIATION, MAX_DEVIATION, out=block)
            gram += block @ block.T
            num_kept += int(kept.sum())
        return gram / max(num_kept, 1)


class KernelSVMPredictor:
    """Support vector machine on standardised voxels with a precomputed kernel.

    C (and for `rbf` a multiple of gamma = 1 / number of voxels) is chosen inside the training part by inner
    stratified group folds, by balanced accuracy (pooled) plus AUC (mean over the inner folds): an AUC alone accepts a
    C so small that all people fall on one side. The inner folds re-use the kernel of the whole training part: its
    standardisation saw the inner test people, which may only make the choice of C a little worse. Both classes weigh
    the same.

    The score is the decision value over the standard deviation of the out-of-fold decision values of the inner folds.
    Decision values of folds with another C have another scale, and those of the training people themselves would be a
    bad ruler: with far fewer people than voxels nearly all lie on the margin. The zero (the class boundary) stays.

    Args:
        voxels: shared between the predictors of one fold.
        kernel: 'linear' or 'rbf'.
    """

    def __init__(self, voxels: StandardizedVoxels, kernel: str):
        self._voxels, self._kernel = voxels, kernel

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        gram = self._voxels.gram(train)
        folds = list(inner_folds(targets, groups, train, seed))
        multiples = RBF_GAMMA_MULTIPLES if self._kernel == "rbf" else (1.0,)
        best = (-np.inf, 1.0, multiples[-1], 1.0)
        labels = np.concatenate([targets[inner_test] for _, inner_test in folds]) if folds else None
        for multiple in multiples if folds else ():
            kernel = self._kernel_values(gram, multiple)
            for c in SVM_C:
                decisions = [_svm_decision(kernel, targets, *fold, c) for fold in folds]
                pooled = np.concatenate(decisions)
                inner = zip(folds, decisions, strict=True)
                areas = [_auc(targets[inner_test], values) for (_, inner_test), values in inner]
                merit = _balanced_accuracy(labels, pooled) + np.mean(areas)
                # The first of equals, the strongest regularisation, is taken.
                if merit > best[0] + 1e-9:
                    best = (merit, c, multiple, float(pooled.std()))
        _, c, multiple, scale = best
        decision = _svm_decision(self._kernel_values(gram, multiple), targets, train, test, c)
        setting = f"C={c:.2g}" + (f" gamma={multiple:g}/voxels" if self._kernel == "rbf" else "")
        return FoldScores(decision / (scale or 1.0), (decision > 0.0).astype(int), setting)

    def learned_from(self, count: int) -> Kernel:
        gram = self._voxels.gram(np.arange(count))
        return Kernel(self._kernel_values(gram, RBF_GAMMA_MULTIPLES[len(RBF_GAMMA_MULTIPLES) // 2]))

    def _kernel_values(self, gram: np.ndarray, multiple: float) -> np.ndarray:
        if self._kernel == "linear":
            return gram
        norms = np.diag(gram)
        return np.exp(-multiple * np.maximum(norms[:, None] + norms - 2.0 * gram, 0.0))


def _balanced_accuracy(targets: np.ndarray, decision: np.ndarray) -> float:
    return 0.5 * float((decision[targets == 1] > 0.0).mean() + (decision[targets == 0] <= 0.0).mean())


def _auc(targets: np.ndarray, score: np.ndarray) -> float:
    """Returns the ROC AUC; 0.5 where a small inner fold has one class only."""
    return roc_auc(targets == 1, score).value if targets.min() != targets.max() else 0.5


def stratified_group_folds(
    targets: np.ndarray, groups: np.ndarray, num_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns folds (training rows, test rows) that keep groups whole and classes in proportion.

    The number of folds is reduced to the number of groups of the rarest class. Every training part holds all classes.

    Args:
        targets: (n,) int, the classes.
        groups: (n,) str; people of one group are always in one fold.
        num_folds: wanted number of folds.
        seed: of the shuffle.

    Returns:
        A list of folds; empty when a class has fewer than two groups, so that no fold is possible.
    """
    labels = np.unique(targets)
    most = min(len(np.unique(groups[targets == label])) for label in labels) if len(labels) > 1 else 0
    alone = len(np.unique(groups)) == len(groups)
    for count in range(min(num_folds, most), 1, -1):
        # The greedy group splitter may put a rare class into one fold alone; another shuffle helps.
        for attempt in range(1 if alone else 10):
            random_state = (seed + 7919 * attempt) % 2**32
            splitter = StratifiedKFold if alone else StratifiedGroupKFold
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                splits = splitter(count, shuffle=True, random_state=random_state).split(targets, targets, groups)
                folds = [(np.asarray(train), np.asarray(test)) for train, test in splits]
            if all(len(test) and len(np.unique(targets[train])) == len(labels) for train, test in folds):
                return folds
    return []


def inner_folds(
    targets: np.ndarray, groups: np.ndarray, train: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields folds (row numbers of all people) inside the training people, for choices such as that of C."""
    for inner_train, inner_test in stratified_group_folds(targets[train], groups[train], NUM_INNER_FOLDS, seed):
        yield train[inner_train], train[inner_test]


def _class_weight(targets: np.ndarray) -> np.ndarray:
    """Returns the weights (2,) of the classes that make both weigh the same, with mean 1 over people."""
    return len(targets) / (2.0 * np.bincount(targets, minlength=2))


def _logistic_path(inputs, targets, outputs, values_of_c) -> list[np.ndarray]:
    """Returns the log-odds of the rows of `outputs` for each C, each fit started at the one before.

    L2 logistic regression by Newton's method: both classes weigh the same, the intercept is not penalised. A table with
    permutations takes a million such fits, of some dozens of features each, where scikit-learn's solvers take ten times
    as long for the same minimum. Of more features than people only the directions along which people differ count.
    """
    if inputs.shape[1] > len(inputs):
        directions = np.linalg.qr(inputs.T)[0]
        inputs, outputs = inputs @ directions, outputs @ directions
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    weight, sign = _class_weight(targets)[targets], 2.0 * targets - 1.0
    penalised = np.append(np.ones(inputs.shape[1]), 0.0)
    solution, log_odds = np.zeros(design.shape[1]), []
    for c in values_of_c:
        solution = _newton(design, sign, weight, penalised / c, solution)
        log_odds.append(outputs @ solution[:-1] + solution[-1])
    return log_odds


def _newton(design, sign, weight, penalty, solution) -> np.ndarray:
    """Returns the minimum of weight @ log(1 + exp(-sign * design @ s)) + penalty @ s**2 / 2 over s."""

    def loss(values):
        return weight @ np.logaddexp(0.0, -sign * (design @ values)) + 0.5 * penalty @ values**2

    value = loss(solution)
    for _ in range(_MOST_NEWTON_STEPS):
        wrong = expit(-sign * (design @ solution))
        gradient = penalty * solution - design.T @ (weight * sign * wrong)
        if np.abs(gradient).max() < _SMALLEST_GRADIENT * weight.sum():
            break
        curvature = (design.T * (weight * wrong * (1.0 - wrong))) @ design
        curvature.flat[:: len(penalty) + 1] += penalty + 1e-12
        step = np.linalg.solve(curvature, gradient)
        length = 1.0
        while (next_value := loss(solution - length * step)) > value and length > 1e-6:
            length /= 2.0
        solution, value = solution - length * step, next_value
    return solution


def _svm_decision(kernel, targets, train, test, c) -> np.ndarray:
    model = SVC(C=c, kernel="precomputed", class_weight="balanced")
    model.fit(kernel[np.ix_(train, train)], targets[train])
    return model.decision_function(kernel[np.ix_(test, train)])
