"""What a fit refuses, for all that begin one (check, fit, resume, sweep, submit): told together, one line a fault,
before TensorFlow is loaded and before anything is written.

Not here, because images have to be read or devices found for it: unfit images (`mrigen.quality.admit`), and what
`mrigen.training.devices` and `mrigen.training.warm_start` refuse.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.contents import Contents, is_cache, space_faults
from mrigen.data.covariates import Covariates
from mrigen.data.splits import check_split, split_subjects
from mrigen.data.synthetic import know_cohort
from mrigen.errors import Fault, MrigenError, RunError, UsageError
from mrigen.recipe import Recipe, check_recipe, find_differences
from mrigen.recipe.data_keys import DataRecipe
from mrigen.recipe.detail_keys import DetailRecipe
from mrigen.runs import Run, open_run
from mrigen.runs.detail import detail_folder, has_detail, read_progress
from mrigen.runs.holding import CLAIMS, refuse_busy
from mrigen.runs.naming import COHORT_PREFIX
from mrigen.runs.run import recipe_of_run
from mrigen.system.files import default_cache_directory, existing_parent, read_written_table
from mrigen.system.machine import total_memory
from mrigen.system.wording import some
from mrigen.training.workers import find_cluster

# Of a run that started from another: by whom that one, and those before it, have learned.
SEEN_BEFORE = "seen_before.tsv"
PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}
# A weight, its derivative, and the two moments of Adam, in float32.
BYTES_A_WEIGHT = 16
# Of detail, where a recipe has none.
DETAIL_STEPS = 12000
# What no node of any cluster has.
MOST_BYTES = 2**43


@dataclasses.dataclass(frozen=True)
class People:
    """Who is in the cohort of a recipe, as far as tables and names tell.

    Attributes:
        table: one row an image, None where the cohort has faults. split: of its people, None where it has.
        faults: of both.
    """

    table: pd.DataFrame | None = None
    split: pd.DataFrame | None = None
    faults: tuple[MrigenError, ...] = ()

    @property
    def num_train(self) -> int | None:
        """Images for training."""
        if self.split is None or self.table is None:
            return None
        names = self.split.loc[self.split["split"] == "train", "participant_id"]
        return int(self.table["participant_id"].isin(names).sum())


def refuse_fit(
    recipe: Recipe,
    directory: str | os.PathLike | None = None,
    force: bool = False,
    is_here: bool = True,
    needs_people: bool = True,
) -> None:
    """Refuses a recipe that no fit can be made of.

    Args:
        recipe: the validated recipe.
        directory: of the run; None where that is not known, or where a fit finds one of its own.
        force: whether an older run in `directory` would be replaced.
        is_here: whether the fit would run on this machine, and not as a job elsewhere.
        needs_people: whether it is a fault that no cohort is named.

    Raises:
        MrigenError: one line a fault; of the class of them all, or a `UsageError` of several.
    """
    raise_all(find_refusals([recipe], directory, force, is_here, needs_people))


def detail_settings(recipe: Recipe) -> DetailRecipe:
    """Returns the settings of detail that is asked for after a fit: those of the recipe, and steps if it has none."""
    settings = recipe.detail
    return settings if settings.steps else settings.model_copy(update={"steps": DETAIL_STEPS})


def refuse_detail(run: Run, settings: DetailRecipe, force: bool = False) -> None:
    """Refuses what `learn_detail` would refuse, before anything is loaded.

    Raises:
        UsageError: naming what is there.
    """
    if force:
        return
    if has_detail(run):
        raise UsageError(
            f"{detail_folder(run)}: holds a network of detail already, expected none. Draw with it, or replace it with "
            "`force=True`."
        )
    begun = read_progress(detail_folder(run))
    if begun is not None and begun.get("settings") != settings.model_dump(mode="json"):
        raise UsageError(
            f"{detail_folder(run)}: was begun with other settings of `detail`, expected the same. Go on with those of "
            "recipe.yaml and detail/checkpoint/progress.json, or begin anew with `force=True`."
        )


def find_refusals(
    recipes: Sequence[Recipe],
    directory: str | os.PathLike | None = None,
    force: bool = False,
    is_here: bool = True,
    needs_people: bool = True,
) -> list[MrigenError]:
    """Returns what `refuse_fit` would raise of any of several recipes; each cohort is looked at once."""
    errors: list[MrigenError] = []
    known: dict[str, People] = {}
    looked_at: set[str] = set()
    cluster = None
    for recipe in recipes:
        with _gathering(errors):
            cluster = find_cluster(recipe.training.workers) if is_here else None
        # Workers that have not met yet see each other's folder and cache come into being.
        is_alone = cluster is None
        if directory is not None and is_alone:
            with _gathering(errors):
                check_target(Path(directory), force)
            with _gathering(errors):
                check_place(Path(directory))
        people = People()
        if needs_people or recipe.data.source == "phantom" or recipe.data.root or recipe.data.cohorts:
            key = recipe.data.model_dump_json()
            people = known[key] = known.get(key) or look_at_people(recipe.data)
        errors += [*people.faults, *_faults_of(recipe, people, is_here)]
        # Of many recipes of a sweep these look at the same files.
        begins = f"{recipe.training.start_from} {recipe.model.kind} {recipe.preprocess} {recipe.data}"
        if begins not in looked_at:
            looked_at.add(begins)
            with _gathering(errors):
                _check_start(recipe, people, directory, force)
            if is_alone and people.table is not None:
                with _gathering(errors):
                    check_space(recipe, people.table)
    return errors


def look_at_people(data: DataRecipe) -> People:
    """Returns who is in a cohort and how they are divided; opens no image."""
    errors: list[MrigenError] = []
    table = split = None
    with _gathering(errors):
        table = know_cohort(data)
        divided = split_subjects(table, data.split)
        check_split(table, divided)
        split = divided
    people = People(table, split, tuple(errors))
    if people.num_train is not None and people.num_train < 2:
        fault = UsageError(
            f"data: got {people.num_train} training images, expected at least 2. Add people, or raise data.split.train."
        )
        people = dataclasses.replace(people, faults=(*errors, fault))
    return people


def _faults_of(recipe: Recipe, people: People, is_here: bool) -> list[MrigenError]:
    """Returns what is wrong with the model and the training of a recipe."""
    errors: list[MrigenError] = []
    training = recipe.training
    with _gathering(errors):
        check_trackers(training.trackers)
    with _gathering(errors):
        check_size(recipe, people.num_train, is_here)
    # Of what is found by and by, there is one at least.
    devices = math.prod(number for number in (training.workers, training.devices) if number != "auto")
    if people.num_train is None or people.num_train >= 2:
        with _gathering(errors):
            check_batch(training.batch_size, people.num_train or training.batch_size, devices)
    with _gathering(errors):
        check_precision(training.precision, devices)
    # The head size is known only of images that were read.
    names = [name for name in recipe.model.covariates if name != "head_size"]
    if names and people.table is not None and people.split is not None:
        with _gathering(errors):
            Covariates.of(people.table, people.split, names)
    return errors


def _check_start(recipe: Recipe, people: People, directory: str | os.PathLike | None, force: bool) -> None:
    before = recipe.training.start_from
    if before is None:
        return
    if force and directory is not None and Path(before).resolve() == Path(directory).resolve():
        raise UsageError(
            f"training.start_from: got {before}, which `force=True` would replace, expected another run. "
            "Name another folder with `directory`."
        )
    check_start(recipe, people.table, people.split)


def check_target(directory: Path, force: bool) -> None:
    """Refuses a folder that a new run may not be written into.

    Raises:
        UsageError: another process fits into it; it holds a run, and `force` is not set; or something else.
    """
    if not directory.exists():
        return
    refuse_busy(directory)
    if directory.is_dir() and all(
        path.name.startswith((".tmp-", CLAIMS, COHORT_PREFIX)) for path in directory.iterdir()
    ):
        return  # What a fit that was killed left behind is removed by who holds the folder.
    if directory.is_dir() and (directory / "recipe.yaml").is_file():
        if not force:
            raise UsageError(
                f"{directory}: a run is there already, expected a new folder. Name another with `directory`, "
                f"go on with `mrigen.resume('{directory}')`, or replace it with `force=True`."
            )
        return
    raise UsageError(
        f"{directory}: exists and is no run, expected a new folder. Name another with `directory`; "
        "`force=True` replaces runs only."
    )


def check_place(directory: Path) -> None:
    """Refuses a folder that cannot be made, or not be written into.

    Raises:
        UsageError: what lies above it is a file, or belongs to somebody else.
    """
    parent = existing_parent(directory)
    if not parent.is_dir():
        if parent != Path(os.path.abspath(directory)):  # Else told by `check_target`.
            raise UsageError(f"{directory}: {parent} is a file, expected a folder. Name another with `directory`.")
    elif not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{directory}: {parent} may not be written to, expected a folder that you may write to. Name another with "
            "`directory`."
        )


def check_trackers(names: Sequence[str]) -> None:
    """Raises a UsageError, one line each, for trackers whose package is not installed."""
    faults = [
        f"training.trackers: got {name}, and the package {PACKAGES[name]} is not installed. Install it with python -m "
        f"pip install 'mrigen[{name}]', or leave it out."
        for name in names
        if importlib.util.find_spec(PACKAGES[name]) is None
    ]
    if faults:
        raise UsageError(faults)


def check_size(recipe: Recipe, num_train: int | None = None, is_here: bool = True) -> None:
    """Refuses a model that no machine can hold, or not this one, by what it takes at least.

    Args:
        recipe: of the model.
        num_train: images for training, where known.
        is_here: whether it is to run on this machine.

    Raises:
        UsageError: it is too large.
    """
    model, shape, batch = recipe.model, recipe.preprocess.volume_shape, recipe.training.batch_size
    weights = model.least_weights(shape)
    # What the derivatives of the loss need of a batch: the volumes, at least.
    needed = BYTES_A_WEIGHT * weights + 4 * min(batch, num_train or 1) * math.prod(shape)
    limit, whose = MOST_BYTES, "any machine has"
    if needed <= limit and is_here and shutil.which("nvidia-smi") is None:
        limit, whose = total_memory() or limit, "this machine has"
    if needed > limit:
        raise UsageError(
            f"model: got at least {weights:,} weights on a grid of {' x '.join(map(str, shape))} voxels, which take "
            f"{needed / 2**30:,.0f} GiB to train, expected at most the {limit / 2**30:,.0f} GiB that {whose}. Use "
            "fewer model.channels, a smaller model.latent_dim, or a smaller preprocess.volume_shape."
        )


def check_batch(batch_size: int, num_people: int, num_devices: int) -> None:
    """Raises a UsageError where a batch cannot be divided among the devices of all workers."""
    size = min(batch_size, num_people)
    if size % num_devices:
        nearest = max(1, round(size / num_devices)) * num_devices
        if nearest > num_people:
            nearest -= num_devices
        people = f", with {num_people} training images" if size < batch_size else ""
        advice = f"Set {nearest}" if nearest else "Use fewer devices or workers"
        raise UsageError(
            f"training.batch_size: got {batch_size}{people}, expected a multiple of the {num_devices} devices of all "
            f"workers. {advice}."
        )


def check_precision(precision: str, num_devices: int) -> None:
    """Raises a UsageError where the precision (as a recipe or as Keras calls it) is not for several devices."""
    if precision.endswith("float16") and not precision.endswith("bfloat16") and num_devices > 1:
        raise UsageError(
            "training.precision: got float16 (with loss scaling) on several devices, expected bfloat16 or float32. "
            "Set training.precision=float32."
        )


def check_start(recipe: Recipe, table: pd.DataFrame | None, split: pd.DataFrame | None) -> None:
    """Refuses a `training.start_from` that a fit cannot start from.

    Args:
        recipe: of the fit.
        table: of its cohort, participant_id and family; split: of its people. None where these have faults.

    Raises:
        UsageError: the run is of another grid or field of view, or has learned from people whom this fit holds back.
            RunError: it is no finished run.
    """
    if recipe.training.start_from is None:
        return
    run = _open_start(recipe.training.start_from)
    origin = f"training.start_from: {run.directory}"
    faults = []
    if type(run.recipe.model) is not type(recipe.model):
        faults.append(
            f"{origin}: got a run of the kind {run.recipe.model.kind}, expected {recipe.model.kind}. Name another run."
        )
    extents = [
        np.multiply(shape, zooms)
        for shape, zooms in (
            (run.grid["volume_shape"], run.grid["zooms"]),
            (recipe.preprocess.volume_shape, recipe.preprocess.zooms),
        )
    ]
    if not np.allclose(*extents, atol=0.5 * max(run.grid["zooms"])):
        theirs, own = (" x ".join(f"{side:g}" for side in extent) for extent in extents)
        faults.append(
            f"{origin}: got a field of view of {theirs} mm, expected {own} mm. Set preprocess.volume_shape and "
            "preprocess.zooms so that their products are those of the run."
        )
    names = _known_before(table, split, people_seen(run)) if table is not None and split is not None else []
    if names:
        faults.append(
            f"{origin}: got a run that has learned from {some(names)} "
            f"({len(names)} validation or held-out people of this fit, or their relatives), expected none of them. Set "
            f"data.split.seed and data.split as in {run.directory / 'recipe.yaml'}, or leave these people out."
        )
    if faults:
        raise UsageError(faults)


def _open_start(directory: str) -> Run:
    try:
        return open_run(directory, is_told=False)
    except MrigenError as error:
        faults = [str(fault).replace("`run`", "training.start_from") for fault in error.faults]
        raise RunError([f"training.start_from: {fault}" for fault in faults]) from None


def _known_before(table: pd.DataFrame, split: pd.DataFrame, seen: pd.DataFrame) -> list[str]:
    """Returns the people of validation and heldout whom, or whose relatives, a run has seen."""
    people = table[[name for name in ("participant_id", "family") if name in table]].drop_duplicates("participant_id")
    people = people.merge(split, on="participant_id")
    if "family" not in people:
        people["family"] = None
    names = []
    for held_back, learned_from in (("validation", ["train"]), ("heldout", ["train", "validation"])):
        held, learned = people[people["split"] == held_back], seen[seen["split"].isin(learned_from)]
        known = held["participant_id"].isin(learned["participant_id"]) | held["family"].isin(learned["family"].dropna())
        names += held.loc[known, "participant_id"].tolist()
    return names


def people_seen(run: Run) -> pd.DataFrame:
    """Returns participant_id, family and split of the people by whom a run, or one it started from, has learned (train)
    or chosen its best epoch (validation)."""
    people = run.subjects[["participant_id", "family"]].drop_duplicates("participant_id").merge(run.split)
    tables = [people[people["split"] != "heldout"]]
    before = run.directory / SEEN_BEFORE
    if before.is_file():
        tables.append(read_written_table(before, None))
    return pd.concat(tables, ignore_index=True).drop_duplicates()


def check_space(recipe: Recipe, table: pd.DataFrame) -> None:
    """Refuses a fit whose cache is not there yet and does not fit on its disk.

    Args:
        recipe: of the fit.
        table: of its cohort.

    Raises:
        UsageError: there is too little space, or no right to write.
    """
    directory = default_cache_directory()
    if "path" in table:
        contents = Contents(table, recipe.preprocess, recipe.data.apply_mask, directory)
        key = contents.key()
        if key is not None and is_cache(directory / key):
            return
    faults = space_faults(directory, len(table) * math.prod(recipe.preprocess.volume_shape))
    if faults:
        raise UsageError(faults)


def refuse_resume(directory: str | os.PathLike, recipe: Recipe | None = None, is_here: bool = True) -> None:
    """Refuses to go on with what is no run, or with a run of another recipe.

    Args:
        directory: of the run.
        recipe: what it is thought to be a fit of; its own recipe if None.
        is_here: whether it goes on now, and not as a job by and by.

    Raises:
        MrigenError: one line a fault.
    """
    run = Run(Path(directory))
    if not run.directory.is_dir():
        raise RunError(f"{directory}: no such folder, expected a run made by mrigen fit. Check `resume`.")
    errors: list[MrigenError] = []
    with _gathering(errors):
        if is_here and not run.is_complete and not _meets_others(run.recipe.training.workers):
            refuse_busy(run.directory)
    with _gathering(errors):
        check_changes(run, run.facts if (run.directory / "run.json").is_file() else {}, recipe)
    if not run.is_complete:
        with _gathering(errors):
            check_place(run.directory)
        with _gathering(errors):
            check_trackers(run.recipe.training.trackers)
    raise_all(errors)


def _meets_others(workers: int | str) -> bool:
    """Whether a fit has several workers, of which one may hold the run already."""
    try:
        return find_cluster(workers) is not None
    except UsageError:  # Told where the fit looks for them.
        return False


def check_changes(run: Run, facts: dict, given: Recipe | None) -> None:
    """Raises a RunError, one line a key, where a recipe is not the one that the run began with."""
    began = run.recipe
    if "settings" in facts:
        began = recipe_of_run(check_recipe(facts["settings"], f"{run.directory / 'run.json'}: settings"))
    # A recipe that does not name the version of preparing means that of the run.
    given = None if given is None else recipe_of_run(given, began.preprocess.version)
    for origin, recipe in ((run.directory / "recipe.yaml", run.recipe), ("the recipe given", given)):
        differences = [] if recipe is None else find_differences(recipe, began)
        if differences:
            raise RunError(
                [
                    f"{origin}: {key}: got {now}, expected {before}, with which {run.directory} began. "
                    "Put it back to go on, or fit a new run."
                    for key, now, before in differences
                ]
            )


def raise_all(errors: Sequence[MrigenError]) -> None:
    """Raises several errors as one, each line once; does nothing where there is none."""
    if not errors:
        return
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else UsageError
    faults: dict[str, Fault] = {}
    for error in errors:
        for fault in error.faults:
            faults.setdefault(str(fault), fault)
    raise kind(list(faults.values()))


@contextlib.contextmanager
def _gathering(errors: list[MrigenError]) -> Iterator[None]:
    """Puts what is raised within aside, so that the next thing is looked at all the same."""
    try:
        yield
    except MrigenError as error:
        errors.append(error)
