"""Predictors that know nothing of confounds, though confounds are measured with error.

Latents know the true size of a head; a table has a measured one. A regression on the measured size takes away too
little (its slope is too flat by the reliability of the measure), and, where the target goes with the size, some of the
target itself. So slopes are those of a regression on confounds AND target, made steeper for what is error in the
measure, and the confounds' part alone is taken away.

With dozens of features the errors of so many slopes add up to one direction that tells the target, in test people too.
The features are therefore only a first step: what a classifier makes of them, one number a person, is freed of the
confounds again, with slopes of people that the classifier has not seen.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mrigen.probing import learners, predictors
from mrigen.probing.confounds import LEAST_TRUE
from mrigen.probing.predictors import FoldScores, StandardizedVoxels, _logistic_path, stratified_group_folds
from mrigen.probing.targets import Target
from mrigen.probing.training_variance import Kernel

# How large a squared effect beside the confounds, in squared standard errors, counts as none.
CERTAIN = 4.0


def true_part(confounds: np.ndarray, beside: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Returns the inverse covariance (c, c) of what is true of confounds, among people who are alike in `beside`.

    Error has the variance (1 - reliability) x variance of the confound over all these people; what is left within
    classes is true: in one dimension (1 - (1 - reliability) x variance / variance within) of the variance within.

    Args:
        confounds: (n, c).
        beside: (n, q), the target, centred or as columns of classes.
        reliability: (c,), the share of each confound's variance over people that is true, 0 to 1.

    References:
        Fuller 1987, Measurement error models, section 2.2. Carroll, Ruppert, Stefanski and Crainiceanu 2006,
        Measurement error in nonlinear models, section 3.4.
    """
    error = np.diag((1.0 - reliability) * confounds.var(axis=0))
    within = _within(confounds, beside)
    values, vectors = np.linalg.eigh(within.T @ within / len(within))
    kept = values > 1e-9 * max(values.max(initial=0.0), 1e-12)
    # In these coordinates the covariance within classes is the identity; constant and doubled confounds have none.
    whitening = vectors[:, kept] / np.sqrt(values[kept])
    shares, axes = np.linalg.eigh(np.eye(int(kept.sum())) - whitening.T @ error @ whitening)
    axes = whitening @ axes
    return (axes / np.maximum(shares, LEAST_TRUE)) @ axes.T


def true_share(confounds: np.ndarray, beside: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Returns the share of each confound's variance that is true among people who are alike in `beside`, (c,).

    See `true_part`; not above 0 where the classes differ by more than a measure of that reliability lets them.
    """
    within = _within(confounds, beside).var(axis=0)
    ratio = np.divide(confounds.var(axis=0), within, out=np.ones_like(within), where=within > 0)
    return 1.0 - (1.0 - reliability) * ratio


def expected_truth(confounds: np.ndarray, beside: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Returns the true confounds (n, c) that are to be expected of these people, given measures and target.

    The regression calibration of Carroll et al. 2006, chapter 4, among people who are alike in `beside`.
    """
    within = _within(confounds, beside)
    covariance = within.T @ within / len(within)
    truth = np.linalg.pinv(true_part(confounds, beside, reliability), hermitian=True)
    return confounds - within + within @ np.linalg.pinv(covariance, hermitian=True) @ truth


def slope_operator(confounds: np.ndarray, beside: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Returns the matrix (c, n) that makes slopes on the true confounds, (c, d), of features (n, d) of these people."""
    within = _within(confounds, beside)
    return true_part(confounds, beside, reliability) @ within.T / len(within)


def _within(confounds: np.ndarray, beside: np.ndarray) -> np.ndarray:
    design = np.concatenate([np.ones((len(confounds), 1)), beside], axis=1)
    return confounds - design @ np.linalg.lstsq(design, confounds, rcond=None)[0]


def beside_target(targets: np.ndarray, target: Target) -> np.ndarray:
    """Returns the target as columns of a regression, (n, q): numbers, or a column for each class but the first."""
    if target.classes is None:
        return (targets - targets.mean())[:, None]
    return (targets[:, None] == np.arange(1, len(target.classes))).astype(float)


class Slopes:
    """Slopes of scores on true confounds, which leave a score as much of the target as is certain.

    A regression on confounds and target keeps all of the target's own part, but where the two go together its slopes
    are loose. One on confounds alone has steadier slopes, and is right where the target has no part of its own. The
    former counts by w = max(0, 1 - 4 q / chi2), where chi2 is the Wald statistic of the target's q coefficients beside
    the confounds (for two classes, from two standard errors on): the positive-part shrinkage of James and Stein,
    stronger than theirs.

    Args:
        confounds: (n, c).
        beside: (n, q), see `true_part`.
        reliability: (c,).
    """

    def __init__(self, confounds: np.ndarray, beside: np.ndarray, reliability: np.ndarray):
        nothing = beside[:, :0]
        self._confounds, self._beside = confounds - confounds.mean(axis=0), beside - beside.mean(axis=0)
        self._with, self._alone = (slope_operator(confounds, columns, reliability) for columns in (beside, nothing))
        self._inverse = np.linalg.pinv(self._beside.T @ self._beside)
        along = self._inverse @ self._beside.T @ self._confounds  # (q, c)
        # Over the variance of what is left of a score: the covariance of the target's coefficients.
        self._precision = np.linalg.pinv(self._inverse + along @ self._with @ self._with.T @ along.T)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Returns the slopes (c, k) of scores (n, k)."""
        both, alone = self._with @ scores, self._alone @ scores
        left = scores - scores.mean(axis=0) - self._confounds @ both
        effects = self._inverse @ self._beside.T @ left
        variance = ((left - self._beside @ effects) ** 2).mean(axis=0)
        wald = np.einsum("qk,qr,rk->k", effects, self._precision, effects) / np.maximum(variance, 1e-300)
        weight = np.maximum(0.0, 1.0 - CERTAIN * self._beside.shape[1] / np.maximum(wald, 1e-12))
        return weight * both + (1.0 - weight) * alone


class LinearModel:
    """Standardised features and logistic or ridge regression, at every strength of regularisation.

    Args:
        features: see `LogisticPredictor`.
        target: what is predicted.
    """

    def __init__(self, features, target: Target):
        self._features, self._target = features if callable(features) else lambda train: features, target

    def without(self, confounds: np.ndarray) -> np.ndarray:
        """Returns the features of everyone without what confounds (n, c) explain of them; see `Predictor`."""
        everyone = np.arange(len(confounds))
        nothing = np.zeros((len(confounds), 0))
        taken = Taken(confounds, slope_operator(confounds, nothing, np.ones(confounds.shape[1])))
        return taken.of_features(np.asarray(self._features(everyone), np.float64), everyone)

    @property
    def settings(self) -> tuple[str, ...]:
        """The strengths, the strongest first."""
        values = learners.RIDGE_ALPHA if self._target.classes is None else predictors.LOGISTIC_C
        return tuple(f"{'alpha' if self._target.classes is None else 'C'}={value:.2g}" for value in values)

    def path(self, everyone, train, outputs, targets, taken) -> list[np.ndarray]:
        """Returns the scores of the people `outputs`, (m,) or (m, classes), for each setting.

        Args:
            everyone: the training people of the fold.
            train: those of them to learn from.
            outputs: rows.
            targets: (n,) of all people.
            taken: see `Taken`.
        """
        features = np.asarray(self._features(train), np.float64)
        inputs = taken.of_features(features, train)[train]
        scaler = StandardScaler().fit(inputs)
        # Scores of the features as they are: they go with the true confounds alone, not with the measured ones.
        inputs, others = scaler.transform(inputs), scaler.transform(features[outputs])
        if self._target.task == "binary":
            return _logistic_path(inputs, targets[train], others, predictors.LOGISTIC_C)
        if self._target.task == "multiclass":
            learner = learners.SoftmaxPredictor(None, len(self._target.classes))
            return learner._path(inputs, targets[train], others, predictors.LOGISTIC_C)
        return [Ridge(alpha).fit(inputs, targets[train]).predict(others) for alpha in learners.RIDGE_ALPHA]

    def merit(self, targets: np.ndarray, scores: np.ndarray) -> float:
        """Returns how good the scores of people are; larger is better."""
        if self._target.classes is None:
            return -float(((scores - targets) ** 2).sum())
        weight = len(targets) / np.maximum(1, np.bincount(targets, minlength=len(self._target.classes)))
        if self._target.task == "binary":
            return -float(weight[targets] @ np.logaddexp(0.0, (1 - 2 * targets) * scores))
        own = scores[np.arange(len(targets)), targets]
        return float(weight[targets] @ (own - logsumexp(scores, axis=1)))

    def scale(self, scores: np.ndarray) -> float:
        """Returns by what scores are divided."""
        return 1.0


class KernelModel:
    """A support vector machine with the linear kernel of voxels, at every strength of regularisation.

    Args:
        voxels: shared between the predictors of one fold.
    """

    def __init__(self, voxels: StandardizedVoxels):
        self._voxels = voxels

    def without(self, confounds: np.ndarray) -> Kernel:
        """See `LinearModel.without`."""
        everyone = np.arange(len(confounds))
        nothing = np.zeros((len(confounds), 0))
        taken = Taken(confounds, slope_operator(confounds, nothing, np.ones(confounds.shape[1])))
        return Kernel(taken.of_grams(self._voxels.gram(everyone), everyone)[0])

    @property
    def settings(self) -> tuple[str, ...]:
        """The strengths, the strongest first."""
        return tuple(f"C={value:.2g}" for value in predictors.SVM_C)

    def path(self, everyone, train, outputs, targets, taken) -> list[np.ndarray]:
        """See `LinearModel.path`."""
        gram = self._voxels.gram(everyone)
        own, others = taken.of_grams(gram, train)
        return [
            SVC(C=c, kernel="precomputed", class_weight="balanced")
            .fit(own[np.ix_(train, train)], targets[train])
            .decision_function(others[np.ix_(outputs, train)])
            for c in predictors.SVM_C
        ]

    def merit(self, targets: np.ndarray, scores: np.ndarray) -> float:
        """Returns balanced accuracy plus AUC, as `KernelSVMPredictor` chooses."""
        return predictors._balanced_accuracy(targets, scores) + predictors._auc(targets, scores)

    def scale(self, scores: np.ndarray) -> float:
        """Returns the standard deviation: decision values of another C have another scale."""
        return float(scores.std()) or 1.0


class Taken:
    """What confounds explain, taken out of features.

    Args:
        confounds: (n, c) of all people.
        operator: of `slope_operator` for the people that are learned from.
    """

    def __init__(self, confounds: np.ndarray, operator: np.ndarray):
        self._confounds, self._operator = confounds, operator

    def of_features(self, features: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Returns features (n, d) without it."""
        return features - self._confounds @ (self._operator @ features[train])

    def of_grams(self, gram: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inner products (n, n) of such features, and those of features as they are (rows) with them."""
        mixing = np.eye(len(gram))
        mixing[:, train] -= self._confounds @ self._operator
        half = gram @ mixing.T
        return mixing @ half, half


def _centred(values: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Returns values (n, k) without the mean of each part."""
    means = np.stack([values[part == number].mean(axis=0) for number in range(part.max() + 1)])
    return values - means[part]


class DeconfoundedPredictor:
    """Scores that do not go with confounds among people who are alike in the target.

    In each inner fold a model learns from features without what the confounds explain of them. The people that it has
    not seen, all inner folds together, say how its score still goes with the confounds; that is taken away, from
    theirs (for the choice of the setting) and from the mean score that the models give a test person.

    Args:
        model: `LinearModel` or `KernelModel`.
        confounds: (n, c), see `encode_confounds`.
        reliability: (c,), see `true_part`.
        target: what is predicted.
        learned_with: the reliability with which features are freed, before a model learns from them; the same if None.
            A bound needs the same models as the row that it is a bound of: from features of which too much was taken
            a model learns that very excess.
    """

    def __init__(
        self,
        model,
        confounds: np.ndarray,
        reliability: np.ndarray | Sequence[float],
        target: Target,
        learned_with: Sequence[float] | None = None,
    ):
        self._model, self._target = model, target
        self._learned_with = np.asarray(reliability if learned_with is None else learned_with, np.float64)
        self._confounds, self._reliability = np.asarray(confounds, np.float64), np.asarray(reliability, np.float64)

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        strata = self._target.strata(targets[train])
        folds = stratified_group_folds(strata, groups[train], predictors.NUM_INNER_FOLDS, seed)
        if not folds:  # Of so few people of a class nobody can be kept from the model.
            folds = [(np.arange(len(train)), np.arange(len(train)))]
        own, others, part = [], 0.0, np.empty(len(train), int)
        for number, (inner_train, inner_test) in enumerate(folds):
            learned = train[inner_train]
            taken = Taken(self._confounds, self._operator(targets, learned))
            outputs = np.concatenate([train[inner_test], test])
            path = np.stack(self._model.path(train, learned, outputs, targets, taken))  # (settings, m)
            own.append(path[:, : len(inner_test)])
            others = others + path[:, len(inner_test) :] / len(folds)
            part[inner_test] = number
        order = np.concatenate([inner_test for _, inner_test in folds])
        own = np.concatenate(own, axis=1)[:, np.argsort(order, kind="stable")]
        # The mean score of a model is that of whom it learned from: where they have more of the target, and so of the
        # confounds, the others have less. Only differences inside a fold say how scores go with confounds.
        centred = functools.partial(_centred, part=part)
        confounds = centred(self._confounds[train])
        slopes_of = Slopes(confounds, centred(beside_target(targets[train], self._target)), self._reliability)
        middle = self._confounds[train].mean(axis=0)
        best = (-np.inf, None)
        for index, setting in enumerate(self._model.settings):
            scores = own[index].reshape(len(train), -1)
            slopes = slopes_of(centred(scores))
            left = (centred(scores) - confounds @ slopes).reshape(own[index].shape)
            shift = self._middle(targets[train], left)
            merit = self._model.merit(targets[train], left - shift)
            if merit > best[0] + 1e-9:
                moved = (self._confounds[test] - middle) @ slopes + scores.mean(axis=0)
                left_test = others[index] - moved.reshape(others[index].shape) - shift
                best = (merit, left_test / self._model.scale(left), setting)
        _, scores, setting = best
        return FoldScores(scores, self._predictions(scores), setting)

    def learned_from(self, count: int):
        return self._model.without(self._confounds)

    def _operator(self, targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return slope_operator(self._confounds[rows], beside_target(targets[rows], self._target), self._learned_with)

    def _middle(self, targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if self._target.classes is None:
            return scores.mean() - targets.mean()
        return np.mean([scores[targets == label].mean(axis=0) for label in np.unique(targets)], axis=0)

    def _predictions(self, scores: np.ndarray) -> np.ndarray:
        if self._target.classes is None:
            return scores
        return scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0.0).astype(int)
