"""What says which sex, age or head size heads show, by ridge regression on principal components."""

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

from mrigen.data.covariates import COLUMNS
from mrigen.evaluation.heads import Heads, Material
from mrigen.statistics.pca import gram_scores

NAMES = ("sex", "age", "head_size")
FOLDS, FEWEST = 5, 8
# Where real people themselves are told with a smaller correlation than this, nothing can be judged.
LEAST_CORRELATION = 0.3
VOXELS_AT_A_TIME = 2**18


class CovariateJudge:
    """What says which sex, age or head size heads show; taught by the never-seen people.

    Args:
        name: of `NAMES`.
        material: of the evaluation.

    Attributes:
        is_known: whether enough of them are known. count: how many. rows: which.
        own: (n,) what is said of each of them by those of other families; nan where it is unknown.
        real: what is said of training people (told, true, families): the same judge has never seen them either. Of the
            never-seen people themselves, where too few training people are known.
        correlation, slope: of what is told with, and on, the truth, of `real`.
    """

    def __init__(self, name: str, material: Material):
        self.name = name
        self.values = values_of(name, material.unseen)
        self.rows = np.flatnonzero(np.isfinite(self.values))
        self.count, families = len(self.rows), material.unseen.families
        self.own, self.correlation, self.slope = np.full(len(self.values), np.nan), 0.0, 0.0
        differ = self.count >= FEWEST and np.ptp(self.values[self.rows]) > 0
        self.is_known = bool(differ and len(set(families[self.rows])) >= FOLDS)
        if not self.is_known:
            return
        self._seen = self._shown(material.unseen.volumes, material.unseen.brains)
        self._products = _products(self._seen, self._seen)
        for train, test in GroupKFold(FOLDS).split(self.rows, groups=families[self.rows]):
            self.own[self.rows[test]] = self._told(self._products, self.rows[train])[self.rows[test]]
        true = values_of(name, material.taught)
        known = np.isfinite(true)
        if known.sum() >= FEWEST and np.ptp(true[known]) > 0:
            told = self.tell(material.taught.volumes, material.taught.brains)
            self.real = told[known], true[known], material.taught.families[known]
        else:
            self.real = self.own[self.rows], self.values[self.rows], families[self.rows]
        self.correlation, self.slope = line(*self.real[:2])

    @property
    def has_power(self) -> bool:
        """Whether it tells real people well enough."""
        return self.is_known and self.correlation >= LEAST_CORRELATION and self.slope > 0

    def tell(self, volumes: np.ndarray, brains: np.ndarray) -> np.ndarray:
        """Returns what is said of other heads (n, x, y, z) and their brains, (n,)."""
        both = np.concatenate([self._products, _products(self._shown(volumes, brains), self._seen)])
        return self._told(both, self.rows)[len(self._products) :]

    def _shown(self, volumes, brains) -> np.ndarray:
        # Of 25 people of `ixi-hh`, a judge of whole heads learned ages with a correlation of .52 (89 others), of brains
        # .58; sexes .80 and .74.
        return volumes * brains if self.name == "age" else volumes

    def _told(self, products, train) -> np.ndarray:
        # Of a Gram matrix, only the columns of the people that teach are ever read.
        scores = gram_scores(products, train, len(train))
        scale = np.square(scores[train]).sum(axis=1).mean()
        ridge = RidgeCV(scale * np.logspace(-4, 1, 16)).fit(scores[train], self.values[train])
        return ridge.predict(scores)


def _products(volumes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the inner products (n, m) float64 of heads, some voxels at a time."""
    first, second = (each.reshape(len(each), -1) for each in (volumes, others))
    products = np.zeros((len(first), len(second)))
    for start in range(0, first.shape[1], VOXELS_AT_A_TIME):
        part = slice(start, start + VOXELS_AT_A_TIME)
        products += first[:, part].astype(np.float64) @ second[:, part].astype(np.float64).T
    return products


def values_of(name: str, heads: Heads) -> np.ndarray:
    """Returns a covariate as numbers, (n,): sex is 1 (M) or -1 (F), nan where it is unknown."""
    values = heads.column(COLUMNS[name])
    if name == "sex":
        return np.array([{"M": 1.0, "F": -1.0}.get(value, np.nan) for value in values])
    return pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)


def line(told, asked) -> tuple[float, float]:
    """Returns the correlation of what is told and asked, and the slope of the former on the latter."""
    away = asked - asked.mean()
    slope = float(away @ (told - told.mean()) / max(float(away @ away), 1e-12))
    if np.ptp(told) <= 1e-12:
        return 0.0, slope
    return float(np.corrcoef(told, asked)[0, 1]), slope
