"""Whether the figure of a predictor could be chance: the whole cross-validation again, with permuted labels."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

from mrigen.probing.deconfounding import DeconfoundedPredictor, LinearModel, beside_target, expected_truth
from mrigen.probing.folds import derived_seed, target_folds
from mrigen.probing.measures import measure
from mrigen.probing.predictors import Predictor
from mrigen.probing.targets import Target

# How many permutations a probe that is killed loses at most.
KEPT_EACH = 10


@dataclasses.dataclass(frozen=True)
class PermutationTest:
    """What permuted labels gave.

    Attributes:
        metric: the figure.
        observed: with the true labels.
        null: with permuted labels, one a permutation.
        predictor: the row.
    """

    metric: str
    observed: float
    null: tuple[float, ...]
    predictor: str = "latents"

    @property
    def p_value(self) -> float:
        """(1 + permutations that do as well or better) / (1 + permutations)."""
        # A permutation that gave no figure counts against the finding.
        reached = sum(not value < self.observed - 1e-12 for value in self.null)
        return (1 + reached) / (1 + len(self.null))

    def as_dict(self) -> dict:
        """Returns the test for JSON."""
        return {
            "predictor": self.predictor,
            "protocol": "transductive",
            "metric": self.metric,
            "observed": self.observed,
            "p": self.p_value,
            "num_permutations": len(self.null),
            "null": list(self.null),
        }


def exchange_order(groups: np.ndarray, generator: np.random.Generator, site: np.ndarray | None = None) -> np.ndarray:
    """Returns whose value each person gets, (n,) row numbers: families are exchanged as wholes.

    Families of one size (and, with `site`, of the same sites) exchange theirs, and each shuffles its own (those of
    one site among themselves). So relatives who are alike stay together, and people without relatives are exchanged
    freely among themselves.

    References:
        Winkler et al. 2015, Multi-level block permutation, NeuroImage 123.
    """
    order = np.arange(len(groups))
    site = np.zeros(len(groups), int) if site is None else np.unique(site, return_inverse=True)[1]
    _, numbers = np.unique(groups, return_inverse=True)
    members = np.split(np.lexsort((site, numbers)), np.cumsum(np.bincount(numbers))[:-1])
    kinds: dict[tuple, list[np.ndarray]] = {}
    for family in members:
        kinds.setdefault((len(family), *site[family]), []).append(family)
    for kind in sorted(kinds):
        alike = np.stack(kinds[kind])
        given = alike[generator.permutation(len(alike))]
        for place in np.unique(kind[1:]):
            columns = np.flatnonzero(np.array(kind[1:]) == place)
            given[:, columns] = generator.permuted(given[:, columns], axis=1)
        order[alike] = given
    return order


def permute_by_group(
    targets: np.ndarray, groups: np.ndarray, generator: np.random.Generator, site: np.ndarray | None = None
) -> np.ndarray:
    """Returns the labels permuted by family, and within sites where they are given; see `exchange_order`."""
    return targets[exchange_order(groups, generator, site)]


def exchange_beside_confounds(
    latents: np.ndarray, confounds: np.ndarray, beside: np.ndarray, reliability: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Returns latents (n, d) that know of the target what the true confounds tell, and nothing beside.

    What a regression on the confounds explains of the latents stays with each person, and what it leaves is exchanged.
    Where confounds are measured with error, it is a regression on the true confounds that are to be expected of someone
    with these measures and this target.

    Args:
        latents: (n, d).
        confounds, beside, reliability: see `true_part`.
        order: of `exchange_order`.

    References:
        Freedman and Lane 1983, A nonstochastic interpretation of reported significance levels, Journal of Business and
        Economic Statistics 1(4). Winkler et al. 2014, Permutation inference for the general linear model, NeuroImage
        92.
    """
    design = np.concatenate([np.ones((len(latents), 1)), expected_truth(confounds, beside, reliability)], axis=1)
    explained = design @ np.linalg.lstsq(design, latents, rcond=None)[0]
    return explained + (latents - explained)[order]


def cross_validated_figure(
    predictor: Predictor,
    targets: np.ndarray,
    groups: np.ndarray,
    target: Target,
    *,
    num_folds: int = 5,
    num_repeats: int = 5,
    seed: int = 0,
) -> float:
    """Returns the figure that the transductive protocol has for `predictor`, NaN where there are no folds.

    Folds are drawn for these labels, so that true and permuted labels go through the same procedure.
    """
    values = []
    with threadpool_limits(1, user_api="blas"):
        for repeat in range(num_repeats):
            folds = target_folds(targets, groups, target, num_folds, seed, repeat)
            if not folds:
                return float("nan")
            for fold, (train, test) in enumerate(folds):
                found = predictor.fit_score(targets, groups, train, test, derived_seed(seed, repeat, fold + 1))
                figures = measure(target, targets[test], found.score, found.prediction)
                if figures is not None:
                    values.append(figures[target.compared[0]].value)
    return float(np.mean(values)) if values else float("nan")


def permutation_test(
    predictor: Predictor,
    targets: np.ndarray,
    groups: np.ndarray,
    target: Target,
    num_permutations: int,
    *,
    site: np.ndarray | None = None,
    seed: int = 0,
    **options,
) -> PermutationTest:
    """Returns the permutation test of a predictor over the whole cross-validation, choices of settings included.

    Args:
        predictor: of row numbers; must be picklable by cloudpickle for several jobs.
        targets, groups, target: see `ProbeInputs`.
        num_permutations: of the labels, by family.
        site: (n,) str, within which labels are permuted; None: they are permuted over all people.
        seed: of folds and permutations; the same seed gives the same test whatever `jobs` is.
        options: jobs, processes, -1 for all processors. progress, called after each permutation. known, figures of the
            first permutations, of an earlier call that broke off. keep, called with all figures so far after every
            `KEPT_EACH` permutations, and at the end. num_folds, num_repeats.
    """
    cases = ((predictor, targets[order]) for order in _orders(groups, site, seed, num_permutations))
    return _test("latents", (predictor, targets), cases, groups, target, num_permutations, seed, **options)


def deconfounded_permutation_test(
    latents: np.ndarray,
    confounds: np.ndarray,
    reliability: np.ndarray | Sequence[float],
    targets: np.ndarray,
    groups: np.ndarray,
    target: Target,
    num_permutations: int,
    *,
    site: np.ndarray | None = None,
    seed: int = 0,
    **options,
) -> PermutationTest:
    """Returns the permutation test of the row `latents_deconfounded`: is there anything beside the confounds?

    Labels and confounds stay together, and what confounds leave of the latents is exchanged; see
    `exchange_beside_confounds`.

    Args:
        latents, confounds, targets, groups: see `ProbeInputs`.
        reliability: (c,), see `true_part`.
        target, num_permutations, site, seed, options: see `permutation_test`.
    """
    latents, reliability = np.asarray(latents, np.float64), np.asarray(reliability, np.float64)
    beside = beside_target(targets, target)

    def predictor(matrix: np.ndarray) -> Predictor:
        return DeconfoundedPredictor(LinearModel(matrix, target), confounds, reliability, target)

    cases = (
        (predictor(exchange_beside_confounds(latents, confounds, beside, reliability, order)), targets)
        for order in _orders(groups, site, seed, num_permutations)
    )
    true = (predictor(latents), targets)
    return _test("latents_deconfounded", true, cases, groups, target, num_permutations, seed, **options)


def _orders(groups, site, seed: int, count: int) -> Iterator[np.ndarray]:
    generators = (np.random.default_rng(derived_seed(seed, 20, number)) for number in range(count))
    return (exchange_order(groups, generator, site) for generator in generators)


def _test(
    row: str,
    true: tuple[Predictor, np.ndarray],
    cases: Iterable[tuple[Predictor, np.ndarray]],
    groups: np.ndarray,
    target: Target,
    num_permutations: int,
    seed: int,
    *,
    jobs: int = -1,
    progress: Callable[[], None] | None = None,
    known: Sequence[float] = (),
    keep: Callable[[list[float]], None] | None = None,
    **settings: int,
) -> PermutationTest:
    figure = functools.partial(cross_validated_figure, groups=groups, target=target, seed=seed, **settings)
    null = list(known[:num_permutations])
    if progress is not None:
        for _ in null:
            progress()
    calls = (joblib.delayed(figure)(*case) for case in itertools.islice(cases, len(null), None))
    for value in joblib.Parallel(n_jobs=jobs, return_as="generator")(calls):
        null.append(value)
        if progress is not None:
            progress()
        if keep is not None and (len(null) % KEPT_EACH == 0 or len(null) == num_permutations):
            keep(null)
    return PermutationTest(target.compared[0], figure(*true), tuple(null), row)
