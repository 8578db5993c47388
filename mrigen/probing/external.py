"""A probe on people of another cohort: fitted to those of the run, scored elsewhere, nothing refitted."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.cache import VolumeCache
from mrigen.data.pipeline import read_volumes
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError, Fault, UsageError
from mrigen.generation.encoding import open_new_people
from mrigen.probing.collapse_notes import collapse_notes, join_notes
from mrigen.probing.confounds import read_confounds
from mrigen.probing.gathering import draw_latents, know_brain_volume, notes_of_brains, of_confounds
from mrigen.probing.harmonise import SiteHarmonizer
from mrigen.probing.inputs import ProbeInputs, checked
from mrigen.probing.plan import ProbePlan, takes_plan
from mrigen.probing.protocol import one_thread, score_tasks
from mrigen.probing.reliability import read_reliability
from mrigen.probing.result import ProbeResult
from mrigen.probing.rows import build_rows, describe_rows, learner_of
from mrigen.probing.score_table import EXTERNAL
from mrigen.probing.targets import read_column, read_target
from mrigen.quality.copies import find_copies
from mrigen.runs import Run
from mrigen.runs.encoding import encode_cache
from mrigen.system.progress import progress_bar
from mrigen.system.wording import some

logger = logging.getLogger(__name__)


@takes_plan
def probe_external(
    run: Run,
    data: str | os.PathLike,
    *,
    mask: str | None = None,
    overrides: Sequence[str] = (),
    plan: ProbePlan,
    seed: int = 0,
) -> ProbeResult:
    """Predicts the sex, or another target, of people of another cohort, beside baselines.

    Every predictor is fitted once, on all people of the run: nobody of them is scored, and from those that the encoder
    did not see the probe learns what latents of unseen images are like. Nothing is learned from the other cohort, with
    one exception: `latents_harmonised` takes location and scale of its latents from its images, never from its target.

    Nothing is written; `ProbeResult.write` writes probe_external-<cohort>.json and so on.

    Args:
        run: a finished run.
        data: a BIDS folder, a table with a column of paths, or a folder of NIfTI.
        mask, overrides: see `mrigen.generation.encoding.encode`.
        target, confounds, classifiers, untrained, cnn, harmonise: see `ProbePlan`; its other fields are not for this
            protocol.
        plan: the fields, all together.
        seed: of inner folds.

    Raises:
        CohortError: somebody is in both cohorts (by id, family or image), or there is nobody to be scored.
        UsageError: the plan asks for what this protocol does not have, or for an unknown column.
    """
    _refuse_other_protocols(plan)
    own = run.open_dataset().cache
    other = open_new_people(
        run, data, mask, overrides, lambda table: _refuse_shared_ids(own.table, table["participant_id"], data)
    )
    inputs = gather_external(run, own, other, data, seed, plan)
    rows = tuple(np.flatnonzero(inputs.split == name) for name in ("train", "heldout"))
    with progress_bar("Probing", 1, "fits") as advance, one_thread():
        predictors = build_rows(inputs, dataclasses.replace(plan, harmonise=None))
        predictors.pop("latents_size_matched", None)  # Pairs across cohorts mean nothing.
        if _is_stripped(other.table) != _is_stripped(own.table):
            inputs = dataclasses.replace(inputs, notes=(
                *inputs.notes, "One cohort is stripped, the other is not: head volumes are not alike, and have no row."
            ))  # fmt: skip
            predictors.pop("head_volume", None)
        if plan.harmonise:
            predictors["latents_harmonised"] = learner_of(inputs.target)(harmonised_by_all(inputs))
        scores, settings = score_tasks(
            inputs, [(EXTERNAL, 0, 0, *rows)], predictors, seed,
            lambda done, total: advance(0, completed=done, total=total),
        )  # fmt: skip
    notes, row_notes = describe_rows(inputs, dataclasses.replace(plan, harmonise=None))
    return ProbeResult(
        scores=scores,
        notes=(*inputs.notes, *notes),
        row_notes=join_notes(collapse_notes(run, predictors, plan), row_notes, predictors),
        folds=pd.DataFrame({"repeat": 0, "fold": 0, "participant_id": inputs.participant_ids[rows[1]]}),
        settings=settings,
        predictors=tuple(predictors),
        num_subjects={EXTERNAL: len(rows[1])},
        seed=seed,
        target=inputs.target,
        plan=plan,
        cohort=cohort_name(data),
        directory=run.directory,
    )


def cohort_name(data: str | os.PathLike) -> str:
    """Returns the name of a cohort in file names.

    Example:
        >>> cohort_name("/data/ds000011"), cohort_name("/data/people.tsv")
        ('ds000011', 'people')
    """
    return Path(data).resolve().name.split(".")[0]


def gather_external(
    run: Run, own: VolumeCache, other: VolumeCache, data: str | os.PathLike, seed: int, plan: ProbePlan
) -> ProbeInputs:
    """Returns the people of the run (split "train") and those of the other cohort ("heldout") whose target is known."""
    tables = [own.table, other.table]
    table = pd.concat(tables, ignore_index=True)
    is_own = np.arange(len(table)) < len(own.table)
    if plan.target not in ("sex", "age", "site", "head_size") and plan.target not in other.table:
        raise UsageError(
            f"got a column that {data} does not have, expected one of both cohorts. Name another.",
            parameter=f"target={plan.target!r}",
        )
    target, values = read_target(table, plan.target)
    rows = np.flatnonzero(~np.isnan(values) & first_visits(table))
    _refuse_shared_families(table, is_own, data)
    volumes = [read_volumes(cache, np.arange(len(cache.table))) for cache in (own, other)]
    _refuse_shared_images(*tables, *volumes, run.recipe.preprocess.zooms, data)
    taught, scored = values[rows[is_own[rows]]], values[rows[~is_own[rows]]]
    if not target.can_score(taught, scored):
        raise CohortError(
            f"got {len(scored)} people with a known {target.name}, expected at least one of each of two "
            f"{'classes' if target.classes else 'values'}, all of them known to the run. Name another cohort.",
            parameter=_about(data),
        )
    encoded = [run.load_latents(), encode_cache(run.load_model(), other)]
    encoded = {
        name: np.concatenate([part[name] for part in encoded]) for name in ("loc", "scale") if name in encoded[0]
    }
    untrained = None
    if plan.untrained:
        model = run.build_model()
        untrained = np.concatenate([encode_cache(model, cache)["loc"] for cache in (own, other)])[rows]
    people = table.iloc[rows]
    groups = people["family"].fillna(people["participant_id"]).to_numpy(dtype=str)
    cohort = np.where(is_own[rows], "run", "other")
    with_brains = know_brain_volume(people)
    notes, found = [], {}
    if plan.confounds:
        refused = _refuse_confounds(with_brains, is_own[rows], plan.confounds, data)
        if refused is None:
            confounds = read_confounds(with_brains, plan.confounds, np.flatnonzero(is_own[rows]))
            reliability, said = read_reliability(know_brain_volume(own.table), np.flatnonzero(first_visits(own.table)),
                                                 plan.reliability)  # fmt: skip
            found = of_confounds(confounds, reliability)
            notes += [*confounds.notes, *said, *notes_of_brains(people, with_brains, plan.confounds)]
            notes += _notes_of_texts(people, is_own[rows], plan.confounds, data)
        else:
            found = {"confounds_refused": refused}
    return checked(
        ProbeInputs(
            participant_ids=people["participant_id"].to_numpy(dtype=str),
            targets=values[rows].astype(float if target.classes is None else int),
            groups=groups,
            # Another cohort is another site, even where both call theirs "1".
            site=np.char.add(np.char.add(cohort, ":"), people["site"].fillna("").to_numpy(dtype=str)),
            split=np.where(is_own[rows], "train", "heldout"),
            latents=encoded["loc"][rows],
            latents_draw=draw_latents(encoded, seed, rows),
            volumes=np.concatenate([part.reshape(len(part), -1) for part in volumes])[rows],
            head_volume=people["head_volume_ml"].to_numpy(dtype=float),
            brain_volume=_brain_volume(with_brains),
            latents_untrained=untrained,
            target=target,
            volume_shape=own.volume_shape,
            zooms=tuple(run.recipe.preprocess.zooms),
            notes=tuple(notes),
            **found,
        ),
        2, 1,
    )  # fmt: skip


def harmonised_by_all(inputs: ProbeInputs) -> np.ndarray:
    """Returns latents (n, d) brought to one location and scale for all sites of both cohorts, without the target."""
    levels = np.unique(inputs.site)
    matrix = np.concatenate([inputs.latents, inputs.site[:, None] == levels], axis=1)
    return SiteHarmonizer(len(levels)).fit(matrix).transform(matrix)


def _is_stripped(table: pd.DataFrame) -> bool:
    return "skull_stripped" in table and bool((table["skull_stripped"] == "y").any())


def _brain_volume(people: pd.DataFrame) -> np.ndarray | None:
    volume = people["brain_volume_ml"].to_numpy(dtype=float)
    if np.isnan(volume).any():
        logger.info("Brain volume is not known in both cohorts, so its row is left out")
        return None
    return volume


def _refuse_confounds(people: pd.DataFrame, is_own: np.ndarray, names: Sequence[str], data) -> str | None:
    """Returns why nothing can be said of confounds, if so."""
    reasons = []
    for name in names:
        known = read_column(people, name, "confounds").notna().to_numpy()
        for which, whose in ((~is_own, f"of {data} who are scored"), (is_own, "of the run, who teach")):
            if not known[which].any():
                reasons.append(f"{name} is not known of any of the {which.sum()} people {whose}")
    stripped = [_is_stripped(people[which]) for which in (is_own, ~is_own)]
    if stripped[0] != stripped[1]:
        reasons += [
            f"{name} is of heads in one cohort and of stripped brains in the other (`brain_volume_ml` is of brains in "
            "both, where the heads have masks)"
            for name in names
            if name in ("head_size", "head_volume_ml")
        ]
    return f"{'; '.join(reasons)}. Leave out these confounds." if reasons else None


def _notes_of_texts(people: pd.DataFrame, is_own: np.ndarray, names: Sequence[str], data) -> list[str]:
    notes = []
    for name in names:
        values = read_column(people, name, "confounds")
        if pd.api.types.is_numeric_dtype(values):
            continue
        taught = set(values[is_own].dropna())
        strangers = int((~values[~is_own].isin(taught)).sum())
        if strangers:
            notes.append(
                f"{strangers} of {(~is_own).sum()} people of {data} have a {name} that nobody of the run has: nothing "
                f"that goes with it is taken out of theirs."
            )
    return notes


def _refuse_other_protocols(plan: ProbePlan) -> None:
    faults = [
        Fault("got it beside `data`, expected it of the run's own people. Leave it out.", name)
        for name in ("leave_site_out", "permutations", "learning_curve", "against", "registration")
        if getattr(plan, name)
    ]
    if faults:
        raise UsageError(faults)


def _refuse_shared_ids(own: pd.DataFrame, ids: pd.Series, data) -> None:
    shared = sorted(set(own["participant_id"]) & set(ids))
    if shared:
        raise CohortError(
            f"got {some(shared)}, who {'is' if len(shared) == 1 else 'are'} of the run, expected other people. "
            "Leave them out with `data.exclude=[...]`; if only the ids are alike, rename them.",
            parameter=_about(data),
        )


def _refuse_shared_families(table: pd.DataFrame, is_own: np.ndarray, data) -> None:
    families = [set(table["family"][chosen].dropna()) for chosen in (is_own, ~is_own)]
    shared = sorted(map(str, families[0] & families[1]))
    if shared:
        raise CohortError(
            f"got the families {some(shared)}, of which the run has members, expected strangers. Leave their people "
            "out with `data.exclude=[...]`; if only the names are alike, rename them.",
            parameter=_about(data),
        )


def _refuse_shared_images(own: pd.DataFrame, other: pd.DataFrame, own_volumes, other_volumes, zooms, data) -> None:
    volumes = (np.rint(255.0 * volumes).astype(np.uint8) for volumes in (own_volumes, other_volumes))
    # Copies inside one of the two are not asked for here.
    copies = find_copies(volumes, zooms)
    alike = [(copy.second - len(own), copy.first) for copy in copies if copy.first < len(own) <= copy.second]
    if alike:
        pairs = [f"{other['scan_id'].iloc[i]} (in the run {own['scan_id'].iloc[j]})" for i, j in sorted(alike)]
        raise CohortError(
            f"got the image of {some(pairs)} again, expected images that the run does not have. "
            "Leave them out with `data.exclude=[...]`.",
            parameter=_about(data),
        )


def _about(data: str | os.PathLike) -> str:
    return f"data={str(data)!r}"
