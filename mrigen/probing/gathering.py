"""What a probe of a run is run on: the people of its cohort, their latents and volumes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import read_volumes
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError, Fault, RunError, UsageError
from mrigen.probing.confounds import Confounds, read_confounds
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.plan import ProbePlan
from mrigen.probing.registrations import COLUMN, registration_log_det
from mrigen.probing.reliability import of_columns, read_reliability
from mrigen.probing.targets import read_target
from mrigen.quality.checking import cohort_copies, unrelated_copies
from mrigen.runs import Run, open_run
from mrigen.runs.encoding import encode_cache
from mrigen.system.wording import some

logger = logging.getLogger(__name__)

# Draws from each person's posterior, over which the row `latents_draw` is a mean.
NUM_DRAWS = 20
# Spatial latents are many: as many draws of them as fit in 512 MiB.
MOST_NUMBERS = 2**27


def gather_inputs(run: Run, dataset: Dataset, seed: int = 0, plan: ProbePlan | None = None) -> ProbeInputs:
    """Returns one row for each person whose target is known (the first visit), in the order of the cohort's table.

    Raises:
        CohortError: nobody has a known sex, all are alike in what is asked, or an image is there under two ids.
        UsageError: the plan names a column that is not there.
    """
    plan = plan or ProbePlan()
    table, names = dataset.cache.table, plan.confounds
    if plan.registration:
        table = table.assign(**{COLUMN: registration_log_det(table, plan.registration)})
        names = tuple(dict.fromkeys((*names, COLUMN)))
    target, values = read_target(table, plan.target)
    rows = np.flatnonzero(~np.isnan(values) & first_visits(table))
    _refuse_copies(run, dataset, rows)
    people = table.iloc[rows]
    latents = run.load_latents()
    if list(latents["scan_id"]) != list(table["scan_id"]):
        raise RunError(f"{run.directory}: latents.npz is of other images, expected those of the run. Fit again.")
    notes = []
    brain_volume = people["brain_volume_ml"].to_numpy(dtype=float)
    if np.isnan(brain_volume).any():
        if not np.isnan(brain_volume).all():
            notes.append(
                f"Brain volume is not known of {np.isnan(brain_volume).sum()} of {len(people)} people, so its row is "
                "left out."
            )
        brain_volume = None
    found = {}
    if names:
        with_brains = know_brain_volume(people)
        confounds = read_confounds(with_brains, names)
        reliability, said = read_reliability(know_brain_volume(table), rows, plan.reliability)
        found = of_confounds(confounds, reliability)
        notes += [*confounds.notes, *said, *notes_of_brains(people, with_brains, names)]
    volumes = read_volumes(dataset.cache, rows)
    against = None if plan.against is None else latents_against(run, Path(plan.against), people)
    return ProbeInputs(
        participant_ids=people["participant_id"].to_numpy(dtype=str),
        targets=values[rows].astype(float if target.classes is None else int),
        groups=people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        site=people["site"].to_numpy(dtype=str),
        split=dataset.splits_of_rows()[rows],
        latents=latents["loc"][rows],
        latents_draw=draw_latents(latents, seed, rows),
        volumes=volumes.reshape(len(rows), -1),
        head_volume=people["head_volume_ml"].to_numpy(dtype=float),
        brain_volume=brain_volume,
        latents_untrained=encode_cache(run.build_model(), dataset.cache)["loc"][rows] if plan.untrained else None,
        latents_against=against,
        target=target,
        volume_shape=dataset.cache.volume_shape,
        zooms=tuple(run.recipe.preprocess.zooms),
        notes=tuple(notes),
        **found,
    )


def of_confounds(confounds: Confounds, reliability: Mapping[str, float]) -> dict:
    """Returns the fields of `ProbeInputs` that are of confounds."""
    return {
        "confounds": confounds.values,
        "confounds_known": None if confounds.known.all() else confounds.known,
        "confound_names": confounds.names,
        "reliability": of_columns(confounds.names, confounds.is_measure, reliability),
    }


def know_brain_volume(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table that has brain volumes of stripped images too: what is left of them is the brain."""
    volume = table["brain_volume_ml"].astype(float)
    if "skull_stripped" not in table:
        return table
    stripped = volume.isna() & (table["skull_stripped"] == "y")
    return table.assign(brain_volume_ml=volume.where(~stripped, table["head_volume_ml"].astype(float)))


def notes_of_brains(people: pd.DataFrame, with_brains: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Returns what has to be said of `know_brain_volume` where brain volume is a confound."""
    count = int((people["brain_volume_ml"].isna() & with_brains["brain_volume_ml"].notna()).sum())
    if not count or "brain_volume_ml" not in names:
        return []
    whose = f"{count} of {len(people)} people, who have no mask,"
    return [f"The brain volume of {whose} is what is left of their stripped image."]


def draw_latents(latents: dict[str, np.ndarray], seed: int, rows: np.ndarray) -> np.ndarray | None:
    """Returns draws from the posteriors of some rows, (rows, draws * d) float32, a draw beside the other; None for
    plain autoencoders.

    One draw of latents that say nothing is one matrix of noise, and what is found in it that matrix's own luck, the
    same for every run: so there are `NUM_DRAWS`.
    """
    if "scale" not in latents:
        return None
    generator = np.random.default_rng(seed)
    loc, scale = latents["loc"][rows], latents["scale"][rows]
    num_draws = min(NUM_DRAWS, max(1, MOST_NUMBERS // loc.size))
    noise = (generator.standard_normal(latents["loc"].shape, np.float32)[rows] for _ in range(num_draws))
    return np.concatenate([loc + scale * values for values in noise], axis=1, dtype=np.float32)


def _refuse_copies(run: Run, dataset: Dataset, rows: np.ndarray) -> None:
    """Refuses people of `rows` whose images show one head; those of one family stay together in every fold."""
    table, own = dataset.cache.table, set(rows)
    faults = []
    for copy in unrelated_copies(table, cohort_copies(dataset.cache, run.recipe.preprocess.zooms)):
        if {copy.first, copy.second} <= own:
            ids = table["participant_id"].iloc[[copy.first, copy.second]].tolist()
            faults.append(
                f"probe: got one image as {ids[0]} and as {ids[1]} ({copy.describe()}), expected a head to be there "
                f"once: it would be tested by what it taught. Fit again with {ids[1]} in data.exclude, or, if they are "
                "two people, with `data.copies=tell`."
            )
    if faults and run.recipe.data.copies == "refuse":
        raise CohortError(faults)
    for fault in faults:
        logger.warning("%s", fault)


def latents_against(run: Run, directory: Path, people: pd.DataFrame) -> np.ndarray:
    """Returns the latents (n, d) that another run has of the same people.

    Args:
        run: the run that is probed.
        directory: of the other run.
        people: rows of the cohort's table that are probed.

    Raises:
        RunError: not a finished run. UsageError: it is the same run, lacks people, or divides them otherwise.
    """
    other = open_run(directory)
    if other.directory.resolve() == run.directory.resolve():
        raise UsageError("got the run itself, expected another. Name another run.", f"against={str(directory)!r}")
    latents = other.load_latents()
    rows = pd.Index(latents["scan_id"]).get_indexer(people["scan_id"])
    names = people["participant_id"]
    splits = [part.split.set_index("participant_id")["split"].reindex(names) for part in (run, other)]
    lacking = names[rows < 0].tolist()
    moved = names[(splits[0] != splits[1].to_numpy()).to_numpy() & (rows >= 0)].tolist()
    faults = [
        Fault(
            f"{what} {some(who)}, expected {wanted}. Fit it on the same data with "
            f"data.split.file={run.directory / 'split.tsv'}.",
            f"against={str(directory)!r}",
        )
        for what, who, wanted in (
            ("got no latents of", lacking, f"everyone who is probed in {run.directory}"),
            ("got another split of", moved, "its encoder to have seen the same people"),
        )
        if who
    ]
    if faults:
        raise UsageError(faults)
    return latents["loc"][rows]
