"""Who is tested together: folds by target, and folds by site. Families are never divided."""

import numpy as np

from mrigen.errors import CohortError
from mrigen.probing.predictors import stratified_group_folds
from mrigen.probing.targets import Target

Fold = tuple[np.ndarray, np.ndarray]  # training rows, test rows


def derived_seed(*parts: int) -> int:
    """Returns a seed for one place of a probe; other parts give other seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def target_folds(
    target: np.ndarray, groups: np.ndarray, meaning: Target, num_folds: int, seed: int, repeat: int
) -> list[Fold]:
    """Returns the folds of one repeat of the cross-validation over all people; see `stratified_group_folds`."""
    return stratified_group_folds(meaning.strata(target), groups, num_folds, derived_seed(seed, repeat))


def site_folds(target: np.ndarray, groups: np.ndarray, site: np.ndarray, meaning: Target) -> dict[str, Fold]:
    """Returns site -> fold that tests its people, for each site whose people can be scored.

    Training people are those of all other sites but for relatives of the people who are tested.

    Raises:
        CohortError: fewer than two sites can be scored.
    """
    folds = {}
    for name in np.unique(site):
        is_test = site == name
        train = np.flatnonzero(~is_test & ~np.isin(groups, groups[is_test]))
        test = np.flatnonzero(is_test)
        if meaning.can_score(target[train], target[test]):
            folds[str(name)] = (train, test)
    if len(folds) < 2:
        what = "both classes" if meaning.kind == "binary" else "people who differ"
        raise CohortError(
            f"--leave-site-out: got {len(folds)} of {len(np.unique(site))} sites with {what} of {meaning.name}, "
            "expected at least 2. Leave out --leave-site-out, or add cohorts of other sites."
        )
    return folds
