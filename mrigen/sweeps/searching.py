"""The verbs of this wing: search, and go on with a search."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigen.errors import UsageError
from mrigen.sweeps.space import RecipeLike, plan_sweep
from mrigen.sweeps.study import Sweep, new_sweep_folder


def sweep(
    recipes: RecipeLike | Sequence[RecipeLike],
    over: Mapping[str, Any] | Sequence[str] = (),
    *,
    space: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    search: str | None = None,
    trials: int | None = None,
    objective: str | None = None,
    seed: int = 0,
    prune: bool = False,
    directory: str | os.PathLike | None = None,
    jobs: int = 1,
    take: int | None = None,
) -> Sweep:
    """Fits a recipe with other values of some keys, or several recipes, each fit in a process of its own.

    Args:
        recipes: a shipped name, a path, a dictionary of keys or a `Recipe`; or several, each of which is then a trial
            (with `over`, each with each value). A pattern such as "paper/*" stands for shipped ones.
        over: key -> values: a list, or text as in "1..4" and "0.5..4:log".
        space: YAML file of the same.
        overrides: keys that all trials share, key -> value or strings `key=value`.
        search: "grid" or "tpe" (Optuna's); the grid where it is finite.
        trials: of tpe, in all; 20.
        objective: a figure of validation people, or several with commas: "elbo" (of models with a likelihood), "mse",
            "sex_auc", or figures of `mrigen.evaluate` such as "power_16_8".
        seed: of the search.
        prune: whether to end trials that are worse than the median of the others so far.
        directory: folder to make; sweeps/<recipe>-<time>.
        jobs: fits at a time.
        take: trials to make at most; `resume_sweep` makes the others.

    Returns:
        the sweep: `table()`, `best()`, `complete_runs()`, and `write_results()` for the files of `mrigen sweep`.

    Raises:
        UsageError, RecipeError: it cannot be; nothing is written.

    Example:
        >>> sweep("vae", {"model.latent_dim": [16, 32]}, overrides={"data.root": "/data/bids"})  # doctest: +SKIP
    """
    _check_numbers(jobs, take)
    plan = plan_sweep(
        recipes, over, space=space, overrides=overrides, search=search, trials=trials, objective=objective, seed=seed,
        prune=prune,
    )  # fmt: skip
    study = Sweep.begin(new_sweep_folder(plan.name) if directory is None else Path(directory), plan)
    study.work(jobs, take)
    return study


def resume_sweep(directory: str | os.PathLike, *, jobs: int = 1, take: int | None = None) -> Sweep:
    """Goes on with a sweep, or helps other workers at it, and returns it; see `sweep`.

    Raises:
        UsageError: there is none.
    """
    _check_numbers(jobs, take)
    study = Sweep(directory)
    study.work(jobs, take)
    return study


def _check_numbers(jobs: int, take: int | None) -> None:
    for name, value in (("jobs", jobs), ("take", take)):
        if value is not None and value < 1:
            raise UsageError(f"got {value}, expected an integer >= 1. Leave it out.", name)
