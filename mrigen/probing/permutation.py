"""Whether the figure of a predictor could be chance: the whole cross-validation again, with permuted labels."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

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
    """

    metric: str
    observed: float
    null: tuple[float, ...]

    @property
    def p_value(self) -> float:
        """(1 + permutations that do as well or better) / (1 + permutations)."""
        # A permutation that gave no figure counts against the finding.
        reached = sum(not value < self.observed - 1e-12 for value in self.null)
        return (1 + reached) / (1 + len(self.null))

    def as_dict(self) -> dict:
        """Returns the test for JSON."""
        return {
            "predictor": "latents",
            "protocol": "transductive",
            "metric": self.metric,
            "observed": self.observed,
            "p": self.p_value,
            "num_permutations": len(self.null),
            "null": list(self.null),
        }


def permute_by_group(targets: np.ndarray, groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns the labels permuted: families of one size exchange theirs, as wholes, and each shuffles its own.

    So relatives who are alike stay together, and people without relatives are permuted freely among themselves.

    References:
        Winkler et al. 2015, Multi-level block permutation, NeuroImage 123.
    """
    permuted = targets.copy()
    _, numbers = np.unique(groups, return_inverse=True)
    families = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    for size in sorted({len(family) for family in families}):
        alike = np.stack([family for family in families if len(family) == size])
        values = targets[alike[generator.permutation(len(alike))]]
        permuted[alike] = generator.permuted(values, axis=1)
    return permuted


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
    seed: int = 0,
    jobs: int = -1,
    progress: Callable[[], None] | None = None,
    known: Sequence[float] = (),
    keep: Callable[[list[float]], None] | None = None,
    **settings: int,
) -> PermutationTest:
    """Returns the permutation test of a predictor over the whole cross-validation, choices of settings included.

    Args:
        predictor: of row numbers; must be picklable by cloudpickle for several jobs.
        targets, groups, target: see `ProbeInputs`.
        num_permutations: of the labels, by family.
        seed: of folds and permutations; the same seed gives the same test whatever `jobs` is.
        jobs: processes; -1 for all processors.
        progress: called after each permutation.
        known: figures of the first permutations, of an earlier call that broke off.
        keep: called with all figures so far after every `KEPT_EACH` permutations, and at the end.
        settings: num_folds, num_repeats.
    """
    figure = functools.partial(cross_validated_figure, groups=groups, target=target, seed=seed, **settings)
    generators = [np.random.default_rng(derived_seed(seed, 20, number)) for number in range(num_permutations)]
    labels = [permute_by_group(targets, groups, generator) for generator in generators]
    null = list(known[:num_permutations])
    if progress is not None:
        for _ in null:
            progress()
    calls = (joblib.delayed(figure)(predictor, permuted) for permuted in labels[len(null) :])
    for value in joblib.Parallel(n_jobs=jobs, return_as="generator")(calls):
        null.append(value)
        if progress is not None:
            progress()
        if keep is not None and (len(null) % KEPT_EACH == 0 or len(null) == num_permutations):
            keep(null)
    return PermutationTest(target.compared[0], figure(predictor, targets), tuple(null))
