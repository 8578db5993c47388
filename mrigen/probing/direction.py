"""The way through the latent space along which the sex changes."""

import dataclasses

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from mrigen.errors import CohortError
from mrigen.probing.predictors import LOGISTIC_C, stratified_group_folds

NUM_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Direction:
    """The way through the latent space along which the sex changes.

    Attributes:
        middle: (latent,) mean latents of the people it was fitted on.
        weights: (latent,) of the logistic probe: its score is `weights @ (latents - middle)`, in log-odds without bias,
            of latents that are `adjusted`.
        pattern: (latent,) what goes with a score of 1 in the latents of people.
        ends: mean scores of women and of men.
        c: inverse regularisation of the probe.
        confound_slopes: (confounds, latent) what goes with a confound in the latents of the people it was fitted on.
        confound_means: (confounds,) of these people.
    """

    middle: np.ndarray
    weights: np.ndarray
    pattern: np.ndarray
    ends: tuple[float, float]
    c: float
    confound_slopes: np.ndarray | None = None
    confound_means: np.ndarray | None = None

    def adjusted(self, latents: np.ndarray, confounds: np.ndarray | None = None) -> np.ndarray:
        """Returns `latents` (n, latent) as they would be with the mean `confounds` (n, confounds)."""
        if self.confound_slopes is None:
            return latents
        return latents - (confounds - self.confound_means) @ self.confound_slopes

    def scores(self, latents: np.ndarray, confounds: np.ndarray | None = None) -> np.ndarray:
        """Returns the score of each of `latents` (n, latent), of people with these `confounds` (n, confounds)."""
        return (self.adjusted(latents, confounds) - self.middle) @ self.weights

    def at(self, scores) -> np.ndarray:
        """Returns the latents (n, latent) on the way through the middle that have these scores."""
        return self.middle + np.asarray(scores)[:, None] * self.pattern


def fit_direction(
    latents: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    c: float | None = None,
    confounds: np.ndarray | None = None,
) -> Direction:
    """Returns the direction of a logistic probe, as the pattern that goes with its score.

    The weights of a probe also undo what other latents have in common, so that a walk along them shows changes that no
    person has; the regression of the latents on the score does not.

    Args:
        latents: (n, latent).
        targets: (n,) int, 0 (F) or 1 (M).
        groups: (n,) str, families; undivided where `c` is chosen.
        c: inverse regularisation; chosen by log loss in cross-validation if None.
        confounds: (n, confounds) whose linear share is taken out of the latents first, or None.

    References:
        Haufe et al. 2014, On the interpretation of weight vectors of linear models, NeuroImage 87.
    """
    slopes, means = None, None
    if confounds is not None:
        means = confounds.mean(axis=0)
        slopes = np.linalg.lstsq(confounds - means, latents - latents.mean(axis=0), rcond=None)[0]
        latents = latents - (confounds - means) @ slopes
    scaler = StandardScaler().fit(latents)
    inputs = scaler.transform(latents)
    options = {"class_weight": "balanced", "max_iter": 1000}
    if c is None:
        folds = stratified_group_folds(targets, groups, NUM_FOLDS, 0)
        if not folds:
            raise CohortError(
                "sex: got too few women or men (families counted once), expected at least 2 of each among the people "
                "that are not held out. Fit again with more people whose sex is known."
            )
        search = GridSearchCV(
            LogisticRegression(**options), {"C": LOGISTIC_C}, scoring="neg_log_loss", cv=folds, refit=False
        )
        c = float(search.fit(inputs, targets).best_params_["C"])
    weights = LogisticRegression(C=c, **options).fit(inputs, targets).coef_[0] / scaler.scale_
    middle = latents.mean(axis=0)
    scores = (latents - middle) @ weights
    # A probe that found nothing leads nowhere.
    spread = max(float(scores @ scores), np.finfo(np.float64).tiny)
    pattern = (latents - middle).T @ scores / spread
    ends = (float(scores[targets == 0].mean()), float(scores[targets == 1].mean()))
    return Direction(middle, weights, pattern, ends, c, slopes, means)
