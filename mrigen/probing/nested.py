"""The nested protocol of a probe: the encoder is fitted anew in every fold, by the run's own recipe."""

import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from mrigen.data.dataset import Dataset
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError, UsageError
from mrigen.probing.folds import derived_seed, target_folds
from mrigen.probing.gathering import draw_latents, gather_inputs
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.internal import probe_people
from mrigen.probing.plan import ProbePlan, takes_plan
from mrigen.probing.predictors import stratified_group_folds
from mrigen.probing.protocol import Refit
from mrigen.probing.result import ProbeResult
from mrigen.recipe import SplitRecipe
from mrigen.runs import Run
from mrigen.system.files import read_written_table, write_table
from mrigen.system.stopping import StopRequest
from mrigen.training import fit, resume

logger = logging.getLogger(__name__)

NUM_FOLDS = 5


@takes_plan
def probe_nested(
    run: Run,
    num_folds: int = NUM_FOLDS,
    *,
    plan: ProbePlan,
    seed: int = 0,
    stop: StopRequest | None = None,
) -> ProbeResult:
    """Does what `mrigen.probe` does, and adds the protocol `nested`: nothing saw the people that are tested.

    The folds are those of the first repeat of the transductive protocol. In each of them the encoder is fitted by the
    run's recipe to the fold's training people (some of whom, in the share that the recipe has, validate it), as a run
    of its own under RUN/nested/fold-1 and so on (RUN/nested_<target> for another target than sex). Folds that are
    finished are kept, and one that broke off is gone on with. But for these runs nothing is written.

    Args:
        run: a finished run.
        num_folds: how often the encoder is fitted.
        target, confounds and the others: the fields of `ProbePlan`.
        plan: the fields, all together.
        seed: see `mrigen.probe`.
        stop: asks the fit that is under way to save and end.

    Raises:
        Interrupted: it was asked to stop. UsageError: a fold that is there is of other people, or num_folds is too
            small. CohortError: there are no folds.
    """
    if num_folds < 2:
        raise UsageError(f"got {num_folds}, expected an integer >= 2. Write for example `num_folds=5`.", "num_folds")
    dataset = run.open_dataset()
    inputs = gather_inputs(run, dataset, seed, plan)
    folds = target_folds(inputs.targets, inputs.groups, inputs.target, num_folds, seed, 0)
    if not folds:
        raise CohortError(inputs.target.too_few(inputs.targets, inputs.groups))
    home = run.directory / ("nested" if plan.target == "sex" else f"nested_{plan.target}")
    splits = [split_of_fold(dataset, inputs, train, test, run.recipe.data.split, seed) for train, test in folds]
    _refuse_other_folds(home, splits)
    refits, encoders = [], []
    for number, ((train, test), split) in enumerate(zip(folds, splits, strict=True), start=1):
        logger.info("Nested: fold %d of %d", number, len(folds))
        encoder = fit_fold(run, home / f"fold-{number}", split, stop)
        encoders.append(encoder)
        latents = encoder.load_latents()
        # All runs of one cohort have its images in one order.
        rows = pd.Index(latents["scan_id"]).get_indexer(_scans(dataset, inputs))
        refits.append(Refit(train, test, latents["loc"][rows], draw_latents(latents, seed, rows)))
        keras.backend.clear_session()
    return probe_people(run, inputs, plan, seed, refits, encoders)


def split_of_fold(
    dataset: Dataset, inputs: ProbeInputs, train: np.ndarray, test: np.ndarray, split: SplitRecipe, seed: int
) -> pd.DataFrame:
    """Returns who trains, validates and is kept from the encoder of a fold: participant_id, split, sorted.

    People whose target is unknown train it, unless they have relatives who are tested (they are kept from it) or
    validate it (they do so too).

    Args:
        dataset: everyone.
        inputs: those whose target is known.
        train, test: rows of `inputs`.
        split: of the recipe, for the share of validating people.
        seed: of their choice.
    """
    role = np.full(len(inputs.groups), "train", dtype=object)
    role[test] = "heldout"
    share = split.validation / max(split.train + split.validation, 1e-9)
    if share > 0.0:
        strata = inputs.target.strata(inputs.targets)[train]
        parts = stratified_group_folds(strata, inputs.groups[train], max(2, round(1 / share)), derived_seed(seed, 40))
        if parts:
            role[train[parts[0][1]]] = "validation"
    of_family = dict(zip(inputs.groups, role, strict=True))
    people = dataset.cache.table.drop_duplicates("participant_id").sort_values("participant_id")
    families = people["family"].fillna(people["participant_id"])
    return pd.DataFrame(
        {
            "participant_id": people["participant_id"].to_numpy(),
            "split": [of_family.get(str(family), "train") for family in families],
        }
    )


def fit_fold(run: Run, directory: Path, split: pd.DataFrame, stop: StopRequest | None = None) -> Run:
    """Returns the finished run of one fold: a new one, one that is gone on with, or one that is there.

    Args:
        run: whose recipe is fitted.
        directory: of the fold.
        split: columns participant_id and split.
        stop: asks the fit to save and end.
    """
    if directory.is_dir() and any(directory.iterdir()):
        return resume(directory, stop=stop)
    directory.parent.mkdir(exist_ok=True)
    path = split_path(directory).resolve()
    write_table(path, split)
    data = run.recipe.data
    data = data.model_copy(update={"split": data.split.model_copy(update={"file": str(path)})})
    return fit(run.recipe.model_copy(update={"data": data}), directory, f"nested {directory.name}", stop=stop)


def split_path(directory: Path) -> Path:
    """Returns where the split of a fold is: beside its run."""
    return directory.with_name(f"{directory.name}_split.tsv")


def _scans(dataset: Dataset, inputs: ProbeInputs) -> list[str]:
    table = dataset.cache.table
    first = table[first_visits(table)].set_index("participant_id")
    return first.loc[inputs.participant_ids, "scan_id"].tolist()


def _refuse_other_folds(home: Path, splits: Sequence[pd.DataFrame]) -> None:
    there = sorted(path.name for path in home.glob("fold-*_split.tsv"))
    wanted = {split_path(home / f"fold-{number}").name: split for number, split in enumerate(splits, start=1)}
    for name in there:
        known = read_written_table(home / name, None, na_values=[])
        if name not in wanted or not known.equals(wanted[name].astype(str)):
            raise UsageError(
                f"{home / name}: got other people than the folds that are asked for have ({len(splits)} folds), "
                "expected the same folds, seed and cohort as before. Ask as before, or remove the folder."
            )
