"""What else predicts the target: confounds as a matrix, latents without them, and people matched in head size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, TransformerMixin, clone

from mrigen.errors import CohortError, Fault, UsageError
from mrigen.probing.predictors import FoldScores, Predictor
from mrigen.probing.targets import MOST_CLASSES, read_column

# People are matched where their head sizes differ by less than this many standard deviations.
CALIPER = 0.2
FEWEST_PAIRS = 10


def encode_confounds(table: pd.DataFrame, names: Sequence[str], fitted: np.ndarray | None = None) -> np.ndarray:
    """Returns confounds as numbers, (n, c) float64: a number is a column, a text a column for each value but the first.

    Unknown numbers are the mean of the known ones, and a column says that they are unknown; an unknown text is a value
    of its own.

    Args:
        table: one row a person.
        names: columns, or covariates such as head_size.
        fitted: rows whose mean stands for unknown numbers; all of them if None.

    Raises:
        UsageError: no such column, or a text with too many values. CohortError: everyone is alike in one.
    """
    parts, faults = [], []
    fitted = np.arange(len(table)) if fitted is None else fitted
    for name in names:
        values = read_column(table, name, "confounds")
        if values.nunique(dropna=False) < 2:
            text = f"got the same value for everyone, expected people who differ. Leave {name} out."
            faults.append(Fault(text, f"confounds={name!r}"))
        elif pd.api.types.is_numeric_dtype(values) and values.notna().any():
            numbers = values.to_numpy(dtype=float)
            unknown = np.isnan(numbers)
            known = numbers[fitted][~unknown[fitted]]
            mean, deviation = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
            parts.append(np.where(unknown, 0.0, (numbers - mean) / deviation)[:, None])
            if unknown.any():
                parts.append(unknown[:, None].astype(float))
        else:
            texts = values.astype(object).where(values.notna(), "n/a").astype(str)
            levels = sorted(texts.unique())
            if len(levels) > MOST_CLASSES:
                raise UsageError(
                    f"got {len(levels)} different texts, expected numbers or at most {MOST_CLASSES} values. "
                    "Name another column.",
                    parameter=f"confounds={name!r}",
                )
            parts.append(np.stack([texts == level for level in levels[1:]], axis=1).astype(float))
    if faults:
        raise CohortError(faults)
    return np.concatenate(parts, axis=1)


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
        predictor: of two classes.
        rows: of these people.
    """

    def __init__(self, predictor: Predictor, rows: np.ndarray):
        self._predictor, self._rows = predictor, rows

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        own_train, among = train[np.isin(train, self._rows)], np.isin(test, self._rows)
        score, prediction = np.full(len(test), np.nan), np.zeros(len(test), int)
        if not among.any() or len(np.unique(targets[own_train])) < 2:
            return FoldScores(score, prediction, "nobody")
        own = self._predictor.fit_score(targets, groups, own_train, test[among], seed)
        score[among], prediction[among] = own.score, own.prediction
        return FoldScores(score, prediction, own.setting)
