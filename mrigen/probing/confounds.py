"""What else predicts the target: confounds as a matrix, latents without them, and people matched in head size."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, TransformerMixin, clone

from mrigen.errors import CohortError, Fault, UsageError
from mrigen.probing.predictors import FoldScores, Predictor
from mrigen.probing.targets import MOST_CLASSES, SEX, Target, read_column

# People are matched where their head sizes differ by less than this many standard deviations.
CALIPER = 0.2
# Within classes, at least this share of a combination of confounds is taken to be true: slopes stay finite.
LEAST_TRUE = 0.2
FEWEST_PAIRS = 10


@dataclasses.dataclass(frozen=True)
class Confounds:
    """Confounds of people as numbers, and what was not known of them.

    Attributes:
        values: (n, c) float64: a number is a column, a text a column for each value but the first. Unknown numbers are
            the mean of the known ones, and a column says that they are unknown; an unknown text is a value of its own.
        names: (c,) the confound that each column is of.
        is_measure: (c,) bool, columns of numbers of more than two values.
        known: (n,) bool, whose numbers are all known.
        notes: what a reader has to know.
    """

    values: np.ndarray
    names: tuple[str, ...]
    is_measure: np.ndarray
    known: np.ndarray
    notes: tuple[str, ...]


def read_confounds(table: pd.DataFrame, names: Sequence[str], fitted: np.ndarray | None = None) -> Confounds:
    """Returns confounds as numbers.

    Args:
        table: one row a person.
        names: columns, or covariates such as head_size.
        fitted: rows whose mean stands for unknown numbers; all of them if None.

    Raises:
        UsageError: no such column, or a text with too many values. CohortError: everyone is alike in one.
    """
    parts, owners, measures, notes, faults = [], [], [], [], []
    fitted = np.arange(len(table)) if fitted is None else fitted
    all_known = np.ones(len(table), bool)
    for name in names:
        values = read_column(table, name, "confounds")
        if values.nunique(dropna=False) < 2:
            text = f"got the same value for everyone, expected people who differ. Leave {name} out."
            faults.append(Fault(text, f"confounds={name!r}"))
            continue
        unknown = values.isna().to_numpy()
        if pd.api.types.is_numeric_dtype(values) and not unknown.all():
            numbers = values.to_numpy(dtype=float)
            known = numbers[fitted][~unknown[fitted]]
            mean, deviation = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
            columns = [np.where(unknown, 0.0, (numbers - mean) / deviation)]
            measures.append(values.nunique() > 2)
            if unknown.any():
                columns.append(unknown.astype(float))
                measures.append(False)
                all_known &= ~unknown
                notes.append(
                    f"{name} is not known of {unknown.sum()} of {len(table)} people ({unknown.mean():.0%}): rows "
                    "without confounds leave them out, and in the rows `confounds` and `confounds_and_latents` the "
                    "mean of the others stands for it."
                )
        else:
            texts = values.astype(object).where(values.notna(), "n/a").astype(str)
            levels = sorted(texts.unique())
            if len(levels) > MOST_CLASSES:
                raise UsageError(
                    f"got {len(levels)} different texts, expected numbers or at most {MOST_CLASSES} values. "
                    "Name another column.",
                    parameter=f"confounds={name!r}",
                )
            columns = [(texts == level).to_numpy(dtype=float) for level in levels[1:]]
            measures += [False] * len(columns)
            if unknown.any():
                notes.append(
                    f"{name} is not known of {unknown.sum()} of {len(table)} people ({unknown.mean():.0%}), who count "
                    "as alike in it."
                )
        parts += columns
        owners += [name] * len(columns)
    if faults:
        raise CohortError(faults)
    return Confounds(np.stack(parts, axis=1), tuple(owners), np.array(measures, bool), all_known, tuple(notes))


def encode_confounds(table: pd.DataFrame, names: Sequence[str], fitted: np.ndarray | None = None) -> np.ndarray:
    """Returns the values of `read_confounds`, (n, c) float64."""
    return read_confounds(table, names, fitted).values


class ConfoundRegressor(TransformerMixin, BaseEstimator):
    """Takes out of features what a linear regression on confounds explains.

    Args:
        num_confounds: the last columns of the matrix (n, features + confounds) are confounds; they are not returned.

    References:
        Snoek, Miletic and Scholte 2019, How to control for confounds in decoding analyses, NeuroImage 184: the
        regression belongs inside the cross-validation.
    """

    def __init__(self, num_confounds: int = 1):
        self.num_confounds = num_confounds

    def fit(self, matrix, y=None):
        """Fits the regression on these people; `y` is not used."""
        features, design = self._parts(matrix)
        self.coefficients_ = np.linalg.lstsq(design, features, rcond=None)[0]
        return self

    def transform(self, matrix) -> np.ndarray:
        """Returns the residuals (n, features)."""
        features, design = self._parts(matrix)
        return features - design @ self.coefficients_

    def _parts(self, matrix) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.asarray(matrix, np.float64)
        features, confounds = np.split(matrix, [matrix.shape[1] - self.num_confounds], axis=1)
        return features, np.concatenate([np.ones((len(matrix), 1)), confounds], axis=1)


class FittedFeatures:
    """Features that a scikit-learn transformer makes of a matrix, fitted on the training people alone.

    Args:
        transformer: is copied before each fit.
        matrix: (n, columns) of all people.
    """

    def __init__(self, transformer, matrix: np.ndarray):
        self._transformer, self._matrix = transformer, np.asarray(matrix, np.float64)

    def __call__(self, train: np.ndarray) -> np.ndarray:
        return clone(self._transformer).fit(self._matrix[train]).transform(self._matrix)


def deconfounded(latents: np.ndarray, confounds: np.ndarray) -> FittedFeatures:
    """Returns features for a predictor: latents without what confounds explain, the regression fitted in each fold."""
    return FittedFeatures(ConfoundRegressor(confounds.shape[1]), np.concatenate([latents, confounds], axis=1))


def calibrated_size(targets: np.ndarray, size: np.ndarray, reliability: float) -> np.ndarray:
    """Returns the true size that is to be expected of people of two classes with a measured size, (n,).

    Of two people with one measured size, one of each class, the one of the larger class is the larger in truth: each
    is expected nearer to the mean of the own class, by the share of the variance within classes that is error.

    Args:
        targets: (n,) int, 0 or 1.
        size: (n,) as measured.
        reliability: share of the variance of `size` over people that is true.

    References:
        Carroll, Ruppert, Stefanski and Crainiceanu 2006, Measurement error in nonlinear models, chapter 4.
    """
    means = np.array([size[targets == label].mean() for label in (0, 1)])[targets]
    within = (size - means).var()
    share = 1.0 - (1.0 - reliability) * size.var() / within if within > 0 else 1.0
    return means + max(share, LEAST_TRUE) * (size - means)


def match_sizes(targets: np.ndarray, head_volume: np.ndarray) -> np.ndarray:
    """Returns the rows of people of two classes who are matched in head size, sorted; latents are not looked at.

    Pairs of one person of each class differ by less than `CALIPER` standard deviations; there are as many as
    possible, and then as near as possible.
    """
    first, second = np.flatnonzero(targets == 0), np.flatnonzero(targets == 1)
    distance = np.abs(head_volume[first, None] - head_volume[second]) / (head_volume.std() or 1.0)
    # One pair more is worth more than any nearness.
    cost = np.where(distance < CALIPER, distance, CALIPER * (1 + min(len(first), len(second))))
    rows, columns = linear_sum_assignment(cost)
    kept = distance[rows, columns] < CALIPER
    return np.sort(np.concatenate([first[rows[kept]], second[columns[kept]]]))


class AmongPredictor:
    """A predictor that learns from, and scores, some people only; the score of the others is NaN.

    Args:
        predictor: what learns and scores.
        rows: of these people.
        target: what is predicted.
    """

    def __init__(self, predictor: Predictor, rows: np.ndarray, target: Target = SEX):
        self._predictor, self._rows, self._target = predictor, rows, target

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        own_train, among = train[np.isin(train, self._rows)], np.isin(test, self._rows)
        shape = (len(test), len(self._target.classes)) if self._target.task == "multiclass" else (len(test),)
        score, prediction = np.full(shape, np.nan), np.zeros(len(test), targets.dtype)
        if not among.any() or len(np.unique(targets[own_train])) < 2:
            return FoldScores(score, prediction, "nobody")
        own = self._predictor.fit_score(targets, groups, own_train, test[among], seed)
        score[among], prediction[among] = own.score, own.prediction
        return FoldScores(score, prediction, own.setting)

    def learned_from(self, count: int):
        own = getattr(self._predictor, "learned_from", None)
        return None if own is None else own(count)
