"""Who is tested together: folds by target, and folds by site. Families are never divided."""

import numpy as np

from mrigen.errors import CohortError
from mrigen.probing.predictors import stratified_group_folds
from mrigen.probing.targets import Target

Fold = tuple[np.ndarray, np.ndarray]  # training rows, test rows


def derived_seed(*parts: int) -> int:
    """Returns a seed for one part of a probe; other numbers give other seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def target_folds(
    targets: np.ndarray, groups: np.ndarray, target: Target, num_folds: int, seed: int, repeat: int
) -> list[Fold]:
    """Returns the folds of one repeat of the cross-validation over all people; see `stratified_group_folds`."""
    return stratified_group_folds(target.strata(targets), groups, num_folds, derived_seed(seed, repeat))


def site_folds(targets: np.ndarray, groups: np.ndarray, site: np.ndarray, target: Target) -> dict[str, Fold]:
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
        if target.can_score(targets[train], targets[test]):
            folds[str(name)] = (train, test)
    if len(folds) < 2:
        what = "both classes" if target.task == "binary" else "people who differ"
        raise CohortError(
            f"got {len(folds)} of {len(np.unique(site))} sites with {what} of {target.name}, expected at least 2. "
            "Leave out `leave_site_out`, or add cohorts of other sites.",
            parameter="leave_site_out",
        )
    return folds
