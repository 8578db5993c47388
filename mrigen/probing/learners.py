"""Predictors of numbers and of three or more classes, and other classifiers than logistic regression."""

import warnings
from collections.abc import Callable

import numpy as np
import sklearn
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mrigen.probing import predictors
from mrigen.probing.predictors import FoldScores, inner_folds, stratified_group_folds
from mrigen.probing.targets import Target

RIDGE_ALPHA = tuple(10.0 ** np.arange(5.0, -2.5, -0.5))
NUM_TREES = 100
# Predictions that follow the truth by less are not corrected for regression to the mean.
LEAST_SLOPE = 0.1
# Classifiers that a linear stand-in resembles.
LINEAR = ("logistic", "svm_linear", "lda")
_LEAST_PROBABILITY = 1e-6


class _StandardizedFeatures:
    """Standardised features of training and test people, each time fitted on the training people alone."""

    def __init__(self, features: np.ndarray | Callable[[np.ndarray], np.ndarray]):
        self._features = features if callable(features) else lambda train: features

    def of_everyone(self, count: int) -> np.ndarray:
        """Returns the features of `count` people, fitted on all of them, as they are."""
        return self._features(np.arange(count))

    def __call__(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = np.asarray(self._features(train), np.float64)
        scaler = StandardScaler().fit(features[train])
        return scaler.transform(features[train]), scaler.transform(features[test])


class MeanPredictor:
    """Predicts the mean of the training people for everyone."""

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        guess = np.full(len(test), targets[train].mean())
        return FoldScores(guess, guess, "")


class RidgePredictor:
    """Standardised features and ridge regression; the score is the prediction.

    The penalty is chosen by the squared error of inner group folds of the training people, stratified by fifths of
    the target, where the features themselves are fitted anew.

    Args:
        features: see `LogisticPredictor`.
        target: what is predicted.
        bias_corrected: whether to take back the regression to the mean: predictions of inner test people are regressed
            on their true values, and intercept and slope taken out of the test people's predictions. No true value of
            a test person is used.

    References:
        Cole 2020, Multimodality neuroimaging brain-age in UK Biobank, Neurobiology of Aging 92. Butler et al. 2021,
        Pitfalls in brain age analyses, Human Brain Mapping 42(13): corrections that use the test person's age.
    """

    def __init__(self, features, target: Target, bias_corrected: bool = False):
        self._standardized, self._target, self._bias_corrected = _StandardizedFeatures(features), target, bias_corrected

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        errors = np.zeros(len(RIDGE_ALPHA))
        truth, inner = [], []
        strata = self._target.strata(targets[train])
        for inner_train, inner_test in stratified_group_folds(strata, groups[train], predictors.NUM_INNER_FOLDS, seed):
            inputs, outputs = self._standardized(train[inner_train], train[inner_test])
            truth.append(targets[train[inner_test]])
            inner.append(
                [Ridge(alpha).fit(inputs, targets[train[inner_train]]).predict(outputs) for alpha in RIDGE_ALPHA]
            )
            errors += ((inner[-1] - truth[-1]) ** 2).sum(axis=1)
        # argmin takes the first, the strongest regularisation, where several do as well (or none could be tried).
        best = int(np.argmin(errors))
        alpha = RIDGE_ALPHA[best]
        inputs, outputs = self._standardized(train, test)
        predicted, setting = Ridge(alpha).fit(inputs, targets[train]).predict(outputs), f"alpha={alpha:.2g}"
        if self._bias_corrected and inner:
            slope, intercept = np.polyfit(np.concatenate(truth), np.concatenate([part[best] for part in inner]), 1)
            # Predictions that hardly follow would be blown up.
            if slope >= LEAST_SLOPE:
                predicted = (predicted - intercept) / slope
                setting += f" slope={slope:.2g}"
            else:
                setting += " not corrected"
        return FoldScores(predicted, predicted, setting)

    def learned_from(self, count: int) -> np.ndarray:
        return self._standardized.of_everyone(count)


class MajorityClassPredictor:
    """Predicts the most frequent class of the training people for everyone; all scores are equal.

    Args:
        num_classes: three or more.
    """

    def __init__(self, num_classes: int):
        self._num_classes = num_classes

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        majority = int(np.bincount(targets[train]).argmax())
        return FoldScores(np.zeros((len(test), self._num_classes)), np.full(len(test), majority), "")


class SoftmaxPredictor:
    """Standardised features and multinomial logistic regression; the scores are log-probabilities of the classes.

    As `LogisticPredictor`: C by the log loss of inner folds, all classes of the same weight.

    Args:
        features: see `LogisticPredictor`.
        num_classes: three or more.
    """

    def __init__(self, features, num_classes: int):
        self._standardized, self._num_classes = _StandardizedFeatures(features), num_classes

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        values_of_c = predictors.LOGISTIC_C
        losses = np.zeros(len(values_of_c))
        weights = len(train) / np.maximum(1, np.bincount(targets[train], minlength=self._num_classes))
        for inner_train, inner_test in inner_folds(targets, groups, train, seed):
            inputs, outputs = self._standardized(inner_train, inner_test)
            labels = targets[inner_test]
            for index, scores in enumerate(self._path(inputs, targets[inner_train], outputs, values_of_c)):
                losses[index] -= weights[labels] @ scores[np.arange(len(labels)), labels]
        c = values_of_c[int(np.argmin(losses))] if losses.any() else 1e-2
        inputs, outputs = self._standardized(train, test)
        (scores,) = self._path(inputs, targets[train], outputs, (c,))
        return FoldScores(scores, scores.argmax(axis=1), f"C={c:.2g}")

    def learned_from(self, count: int) -> np.ndarray:
        return self._standardized.of_everyone(count)

    def _path(self, inputs, targets, outputs, values_of_c) -> list[np.ndarray]:
        model = LogisticRegression(class_weight="balanced", warm_start=True, max_iter=1000)
        path = []
        with (
            warnings.catch_warnings(),
            sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        ):
            warnings.simplefilter("ignore", ConvergenceWarning)
            for c in values_of_c:
                model.C = c  # set_params would inspect the signature each time
                model.fit(inputs, targets)
                path.append(_spread(_log_probability(model, outputs), model.classes_, self._num_classes))
        return path


class ClassifierPredictor:
    """A scikit-learn classifier on standardised latents, its settings chosen inside the training part.

    The choice is by balanced accuracy in inner stratified group folds; of equals the first, the simplest, is taken.
    Scores are log-odds, or decision values of a support vector machine over the standard deviation of those of inner
    test people (see `KernelSVMPredictor`), so that they can be pooled over folds.

    Args:
        name: one of `mrigen.probing.plan.CLASSIFIERS`.
        features: (n, d).
        num_classes: two or more.
    """

    def __init__(self, name: str, features: np.ndarray, num_classes: int):
        self._name, self._features, self._num_classes = name, np.asarray(features, np.float64), num_classes

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        inputs, labels = self._features[train], targets[train]
        folds = stratified_group_folds(labels, groups[train], predictors.NUM_INNER_FOLDS, seed)
        estimator, grid = _ESTIMATORS[self._name](seed, min((len(part) for part, _ in folds), default=len(train)))
        model = Pipeline([("scale", StandardScaler()), ("model", estimator)])
        setting, scale = "", 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence, and classes that an inner fold does not have
            if folds:
                search = GridSearchCV(
                    model, {f"model__{key}": values for key, values in grid.items()}, scoring="balanced_accuracy",
                    cv=folds, refit=False,
                ).fit(inputs, labels)  # fmt: skip
                model.set_params(**search.best_params_)
                setting = " ".join(f"{k.removeprefix('model__')}={_short(v)}" for k, v in search.best_params_.items())
                if self._is_machine:
                    inner = cross_val_predict(model, inputs, labels, cv=folds, method="decision_function")
                    scale = float(inner.std()) or 1.0
            else:
                model.set_params(**{f"model__{key}": values[0] for key, values in grid.items()})
            model.fit(inputs, labels)
            predictions = model.predict(self._features[test])
            scores = self._scores(model, self._features[test]) / scale
        return FoldScores(scores, predictions, setting)

    def learned_from(self, count: int) -> np.ndarray | None:
        return self._features if self._name in LINEAR else None

    @property
    def _is_machine(self) -> bool:
        return self._name.startswith("svm")

    def _scores(self, model, outputs) -> np.ndarray:
        if self._num_classes == 2:
            if self._is_machine:
                return model.decision_function(outputs)
            probability = model.predict_proba(outputs)[:, 1].clip(1e-3, 1.0 - 1e-3)
            return np.log(probability) - np.log1p(-probability)
        if self._is_machine and len(model.classes_) > 2:
            return _spread(model.decision_function(outputs), model.classes_, self._num_classes)
        if self._is_machine:
            decision = model.decision_function(outputs)
            return _spread(np.stack([-decision, decision], axis=1), model.classes_, self._num_classes)
        return _spread(_log_probability(model, outputs), model.classes_, self._num_classes)


def _log_probability(model, outputs) -> np.ndarray:
    return np.log(np.maximum(model.predict_proba(outputs), _LEAST_PROBABILITY))


def _spread(scores: np.ndarray, present: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns scores (m, num_classes); classes without training people score below all others."""
    everyone = np.full((len(scores), num_classes), scores.min(initial=0.0) + np.log(_LEAST_PROBABILITY))
    everyone[:, present.astype(int)] = scores
    return everyone


def _short(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


_SVM_C = [0.01, 0.1, 1.0, 10.0]
# Name -> function of a seed and the number of people to learn from: the classifier, and settings, the simplest first.
_ESTIMATORS: dict[str, Callable[[int, int], tuple[object, dict[str, list]]]] = {
    "logistic": lambda seed, count: (
        LogisticRegression(class_weight="balanced", max_iter=1000),
        {"C": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]},
    ),
    "svm_linear": lambda seed, count: (
        SVC(kernel="linear", class_weight="balanced"),
        {"C": [1e-4, 1e-3, *_SVM_C]},
    ),
    "svm_rbf": lambda seed, count: (
        SVC(kernel="rbf", gamma="scale", class_weight="balanced"),
        {"C": [*_SVM_C, 100.0]},
    ),
    "forest": lambda seed, count: (
        RandomForestClassifier(NUM_TREES, class_weight="balanced", random_state=seed),
        {"min_samples_leaf": [5, 1]},
    ),
    "knn": lambda seed, count: (
        KNeighborsClassifier(),
        {"n_neighbors": [k for k in (25, 15, 9, 5, 3) if k <= count] or [1]},
    ),
    "lda": lambda seed, count: (
        LinearDiscriminantAnalysis(solver="lsqr"),
        {"shrinkage": [0.9, 0.5, 0.1, "auto"]},
    ),
}
