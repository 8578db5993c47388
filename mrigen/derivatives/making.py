"""`prepare`: a cohort of raw scans becomes one of BIDS derivatives."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from mrigen.data.bids import bare_id
from mrigen.data.sources import Source, read_source
from mrigen.derivatives.naming import Scan, list_scans, people_faults, person_of
from mrigen.derivatives.page import render_page
from mrigen.derivatives.result import FAILED, FINE, LOOK, Derivatives
from mrigen.derivatives.scan import MEASURES, Outcome, prepare_scan
from mrigen.derivatives.settings import DEFAULT_STEPS, STEPS, Settings, check_settings
from mrigen.derivatives.tools import needed_tools, require_tools
from mrigen.errors import CohortError, UsageError
from mrigen.recipe import CohortRecipe, DataRecipe
from mrigen.system.claims import Claim, is_dead, this_process
from mrigen.system.files import atomic_path, read_json, remove_leftovers, write_json, write_table, write_text
from mrigen.system.progress import progress_bar
from mrigen.system.wording import counted, some

SETTINGS, TABLE, PAGE = "prepare.json", "prepare.tsv", "prepare.html"
DESCRIPTION = "dataset_description.json"
CLAIMS = ".claims"
BIDS_VERSION = "1.9.0"


def prepare(
    data: str | os.PathLike,
    directory: str | os.PathLike,
    *,
    steps: Sequence[str] = DEFAULT_STEPS,
    deface: bool = False,
    zooms: float | None = None,
    mask: str | None = None,
    suffix: str = "T1w",
    jobs: int = 1,
    force: bool = False,
) -> Derivatives:
    """Makes raw scans ready for a fit, and returns what became of each.

    `directory` becomes a BIDS derivative: images and brain masks on one grid, the brain mask on the scan's own grid,
    transforms with their log-determinants, a JSON beside each, a table, and a page of pictures. What is there and whole
    is not made anew; a scan that fails is a fault of the result, and stops no other.

    Args:
        data: BIDS folder, table with a column of paths, or folder of NIfTI.
        directory: where to write.
        steps: beside the brain mask, any of bias (N4), rigid or affine (alignment with MNI152), deface.
        deface: the same as the step deface.
        zooms: voxel size, mm, of aligned images; each scan's own by default.
        mask: masks that are there, as `data.mask` of a recipe takes them; deepbet makes them by default.
        suffix: BIDS suffix of the images.
        jobs: scans at a time; -1: one a core. The result does not depend on it.
        force: whether what is there is made anew, also where it was made with other settings.

    Raises:
        UsageError: a setting is not valid, a tool is not installed, or the folder holds something else.
        CohortError: there is no scan, or names clash.

    Example:
        >>> prepare("/data/raw", "/data/prepared", jobs=8)  # doctest: +SKIP
    """
    settings = check_settings(steps, deface, zooms, mask, suffix)
    if jobs == 0 or jobs < -1:
        raise UsageError(f"got {jobs}, expected a number >= 1, or -1 for one a core. Set 1 for a start.", "jobs")
    tools = require_tools(needed_tools(settings))
    directory = Path(os.path.abspath(directory))
    source = _read_source(data, settings)
    if os.path.realpath(source.folder) == os.path.realpath(directory):
        raise UsageError(f"got {directory}, which holds the scans, expected another folder. Name one.", "directory")
    scans = list_scans(source)
    _check_folder(directory, settings, force)
    with _held(directory):
        remove_leftovers(directory)
        _write_descriptions(directory, source, settings, tools)
        outcomes = _prepare_all(scans, settings, directory, force, tools, jobs)
        result = _result(directory, outcomes, [*source.notes, *_strangers(directory, scans)])
        write_table(directory / TABLE, result.table.drop(columns="picture"))
        write_text(directory / PAGE, render_page(result.table, result.findings))
    return result


def _read_source(data: str | os.PathLike, settings: Settings) -> Source:
    root = os.fspath(data)
    recipe = DataRecipe(root=root, mask=settings.mask, suffix=settings.suffix, visits="all")
    source = read_source(CohortRecipe(name="raw", root=root, mask=settings.mask), recipe)
    faults = [*source.faults, *people_faults(source)]
    if faults:
        raise CohortError(faults)
    return source


def _check_folder(directory: Path, settings: Settings, force: bool) -> None:
    """Refuses a folder that holds something else, or what other settings made."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory}: is a file, expected a folder. Name another with `directory`.")
    path = directory / SETTINGS
    if not path.is_file():
        others = [] if not directory.is_dir() else [name for name in os.listdir(directory) if name != CLAIMS]
        if others:
            raise UsageError(
                f"{directory}: holds {some(sorted(others), 3)}, expected a new folder, or one that prepare made. "
                "Name another with `directory`."
            )
        return
    try:
        known = read_json(path)["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    wanted = settings.to_dict()
    if known == wanted or force:
        return
    if not isinstance(known, dict):
        raise UsageError(f"{path}: cannot be read, expected what prepare wrote. Make all anew with `force=True`.")
    different = [f"{name} {_say(known.get(name))}" for name, value in wanted.items() if known.get(name) != value]
    raise UsageError(
        f"{directory}: was made with {', '.join(different)}, expected the same settings as now. Name another folder "
        "with `directory`, or make all anew with `force=True`."
    )


def _say(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Around the work: nobody else prepares into the folder meanwhile."""
    (directory / CLAIMS).mkdir(parents=True, exist_ok=True)
    claim = Claim.take(directory / CLAIMS, "prepare", this_process(directory / CLAIMS), is_dead)
    if claim is None:
        raise UsageError(f"{directory}: somebody prepares into it, expected nobody. Wait, or name another folder.")
    with claim.kept():
        yield


def _write_descriptions(directory: Path, source: Source, settings: Settings, tools: dict[str, str]) -> None:
    """Writes what the folder is, and who is in it."""
    from mrigen import __version__

    write_json(directory / SETTINGS, {"settings": settings.to_dict(), "columns": MEASURES})
    steps = ["brain mask", *(f"{step}: {STEPS[step]}" for step in settings.steps)]
    made_by = [{"Name": "mrigen prepare", "Version": __version__, "Description": "; ".join(steps)}]
    made_by += [{"Name": name, "Version": version} for name, version in tools.items()]
    write_json(directory / DESCRIPTION, {
        "Name": "Scans prepared by mrigen",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": made_by,
        "DatasetLinks": {"raw": Path(source.folder).as_uri()},
    })  # fmt: skip
    write_text(directory / ".bidsignore", "prepare.*\n**/figures/\n")
    _write_people(directory, source)


def _write_people(directory: Path, source: Source) -> None:
    """Copies the tables of people and sessions, so that the folder is a cohort; ids as the new names have them."""
    ids = source.images["participant_id"]
    names = ids.map(person_of)
    is_renamed = any(bare_id(own) != bare_id(name) for own, name in zip(ids, names, strict=True))
    for path in source.sessions.values():
        _copy(path, directory / os.path.relpath(path, source.folder))
    if source.table is not None:
        _copy(os.path.splitext(source.table)[0] + ".json", directory / "participants.json")
    _copy(os.path.join(source.folder, "sessions.json"), directory / "sessions.json")
    if source.table is not None and not source.is_list and not is_renamed:
        _copy(source.table, directory / "participants.tsv")
        return
    rows = source.raw.drop(columns=[name for name in source.used if name in source.raw])
    rows.insert(0, "participant_id", names)
    if is_renamed:
        rows.insert(1, "source_id", ids)
    write_table(directory / "participants.tsv", rows.drop_duplicates("participant_id"))


def _copy(path: str, target: Path) -> None:
    if os.path.isfile(path):
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)


def _prepare_all(
    scans: Sequence[Scan], settings: Settings, directory: Path, force: bool, tools: dict[str, str], jobs: int
) -> list[Outcome]:
    calls = (joblib.delayed(prepare_scan)(scan, settings, directory, force, tools) for scan in scans)
    outcomes: dict[str, Outcome] = {}
    with progress_bar("Preparing scans", len(scans), "scans") as advance:
        for outcome in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls):
            outcomes[outcome.scan.stem] = outcome
            advance(1)
    return [outcomes[scan.stem] for scan in scans]


def _result(directory: Path, outcomes: Sequence[Outcome], notes: Sequence[str]) -> Derivatives:
    rows = []
    for outcome in outcomes:
        scan, record = outcome.scan, outcome.record or {}
        flags = list(outcome.faults) or record.get("flags", [])
        rows.append(
            {
                "scan": scan.stem,
                "verdict": FAILED if outcome.record is None else LOOK if flags else FINE,
                "reasons": " ".join(flags) or None,
                "participant_id": scan.participant_id,
                "session_id": scan.session_id,
                "source": scan.path,
                "image": record.get("image"),
                "mask": record.get("mask"),
                "picture": record.get("picture"),
                **{name: record.get("measures", {}).get(name) for name in MEASURES},
            }
        )
    table = pd.DataFrame(rows)
    table[list(MEASURES)] = table[list(MEASURES)].astype(float)
    table = table.drop(columns=[name for name in MEASURES if table[name].isna().all()])
    num_new = sum(outcome.is_new and outcome.record is not None for outcome in outcomes)
    faults = tuple(fault for outcome in outcomes for fault in outcome.faults)
    return Derivatives(directory, table, num_new, faults, tuple(notes))


def _strangers(directory: Path, scans: Sequence[Scan]) -> list[str]:
    """Returns a line about people in the folder whom the cohort does not have: they would be fitted, too."""
    known = {scan.participant_id for scan in scans}
    people = sorted(path.name for path in directory.glob("sub-*") if path.is_dir() and path.name not in known)
    if not people:
        return []
    number = counted(len(people), "person", "people")
    return [f"{directory}: holds {number} whom the cohort no longer has ({some(people, 3)}). Remove their folders."]
