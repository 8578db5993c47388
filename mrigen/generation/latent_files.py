"""Latents as files that any tool reads, of the people of a run or of new ones; and from files back to heads."""

import concurrent.futures
import dataclasses
import logging
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.cache import VolumeCache, open_cache
from mrigen.data.cohort import index_cohort
from mrigen.data.covariates import COLUMNS, UNITS
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import write_volume
from mrigen.recipe import load_recipe
from mrigen.runs import Run
from mrigen.runs.encoding import decode_batches, encode_cache, latent_names
from mrigen.runs.images import check_given, conditions_of
from mrigen.system.files import atomic_path, refuse_taken, write_table
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)

SUFFIXES = (".tsv", ".npz")
IDS = ("participant_id", "scan_id")
# What keeps a latent from being decoded is told of so many people at once.
MOST_TOLD = 5
MOST_PICTURED = 20


@dataclasses.dataclass(frozen=True)
class LatentTable:
    """Latents and whose they are.

    Attributes:
        people: one row an image: participant_id, scan_id and, where a model is told covariates, their columns.
        latents: loc (images, latent) float32, the posterior means; for a VAE also scale (images, latent), the posterior
            standard deviations, and, where the posterior has one, factor (images, latent, rank).
    """

    people: pd.DataFrame
    latents: dict[str, np.ndarray]

    def to_frame(self) -> pd.DataFrame:
        """Returns one row an image: `people`, then loc_001, loc_002, ... and, for a VAE, scale_001, ..."""
        parts = [self.people.reset_index(drop=True)]
        for name in ("loc", "scale"):
            if name in self.latents:
                values = self.latents[name]
                parts.append(pd.DataFrame(values, columns=latent_names(values.shape[1], name)))
        return pd.concat(parts, axis=1)

    def write(self, path: str | os.PathLike) -> None:
        """Writes a .tsv (see `to_frame`) or a .npz (an array each; text as text, "n/a" where missing; no pickle)."""
        if Path(path).suffix == ".tsv":
            write_table(path, self.to_frame())
            return
        columns = {}
        for name in self.people:
            values = self.people[name]
            is_number = pd.api.types.is_numeric_dtype(values)
            columns[name] = values.to_numpy() if is_number else values.fillna("n/a").to_numpy(dtype=str)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **columns, **self.latents)


def encode(
    run: Run,
    path: str | os.PathLike,
    data: str | os.PathLike | None = None,
    mask: str | None = None,
    overrides: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Writes the latents of people to a .tsv or .npz, and returns its path; see `encode_people`.

    Raises:
        UsageError: another kind of file, or it is there already.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--out: got {path}, expected a name that ends in {' or '.join(SUFFIXES)}. Rename it.")
    refuse_taken([path], force)
    encode_people(run, data, mask, overrides).write(path)
    return path


def encode_people(
    run: Run, data: str | os.PathLike | None = None, mask: str | None = None, overrides: Sequence[str] = ()
) -> LatentTable:
    """Returns the latents of people.

    Args:
        run: a finished run.
        data: a BIDS folder, a table with a column of paths, or a folder of NIfTI: new people, whose images are prepared
            by the preprocessing of the run. None: everyone of the run, from what the run holds.
        mask: of new people, as in the recipe's data.mask.
        overrides: changes of the run's `data` keys, for new people whose tables are written in another way, such as
            data.sex_codes={F: [2], M: [1]}; the run's own data.where and data.exclude are not for them.

    Raises:
        UsageError: masks of nobody, no masks where the run needs them, or a key that is not of `data`.
        CohortError: every fault of tables and images.
    """
    if data is None:
        for name, value in (("--mask", mask), ("--set", ", ".join(overrides))):
            if value:
                raise UsageError(f"{name}: got {value}, expected it beside --data: it is of new people. Leave it out.")
        latents = run.load_latents()
        people = pd.DataFrame({"scan_id": latents.pop("scan_id")}).merge(run.subjects, on="scan_id", how="left")
    else:
        cache = open_new_people(run, data, mask, overrides)
        latents = encode_cache(run.load_model(), cache)
        del latents["scan_id"]
        people = cache.table
    told = () if run.covariates is None else [COLUMNS[name] for name in run.covariates.names]
    return LatentTable(people[[*IDS, *(column for column in told if column in people)]], latents)


def open_new_people(
    run: Run,
    data: str | os.PathLike,
    mask: str | None = None,
    overrides: Sequence[str] = (),
    check: Callable[[pd.DataFrame], None] | None = None,
) -> VolumeCache:
    """Returns the images of new people, prepared by the preprocessing of the run; see `encode_people`.

    Args:
        check: is given the table of the people before any image is prepared, and raises what speaks against them.
    """
    cohort, recipe = _new_cohort(run, data, mask, overrides)
    if check is not None:
        check(cohort.table)
    with progress_bar("Checking and preparing images", len(cohort.table)) as advance:
        return open_cache(cohort, run.recipe.preprocess, recipe.apply_mask, progress=advance)


def _new_cohort(run: Run, data: str | os.PathLike, mask: str | None, overrides: Sequence[str]):
    foreign = next((change for change in overrides if not change.startswith("data.")), None)
    if foreign is not None:
        raise UsageError(
            f"--set {foreign}: got another key, expected one of data: what becomes of an image is the run's. "
            "Leave it out."
        )
    # What else the recipe says of tables (names of columns, codes) holds for new people until it is changed.
    changes = ["data.where={}", "data.exclude=[]", *overrides]
    recipe = load_recipe(run.directory / "recipe.yaml", changes).data
    if recipe.apply_mask and mask is None:
        raise UsageError(
            "--mask: got nothing, expected the masks of the new people: the run was fitted on brains without skull. "
            "Name them, or, if these are stripped already, add --set data.apply_mask=false."
        )
    recipe = recipe.model_copy(update={"source": "files", "root": str(data), "cohorts": [], "mask": mask})
    cohort = index_cohort(recipe)
    for note in cohort.notes:
        logger.info(note)
    return cohort, recipe


def read_latents(path: str | os.PathLike) -> LatentTable:
    """Returns the latents in a .tsv or .npz such as `encode` writes; what it lacks but ids and loc is left out.

    A latents.npz of a run is one, too. Where there is no scan_id, the participant_id is taken, and the other way round.

    Raises:
        CohortError: the file is missing, cannot be read, or is no such table; the ids are missing, double or no names
            of files; latents are missing or no finite numbers.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CohortError(
            f"{path}: got another kind of file, expected latents in a {' or '.join(SUFFIXES)}. "
            "Make it with mrigen encode."
        )
    if not path.is_file():
        raise CohortError(f"{path}: no such file, expected latents. Make it with mrigen encode.")
    try:
        people, latents = (_read_tsv if path.suffix == ".tsv" else _read_npz)(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise CohortError(f"{path}: cannot be read ({reason}), expected latents. Make it with mrigen encode.") from None
    ids = next((people[name] for name in reversed(IDS) if name in people), None)
    if ids is None:
        raise CohortError(f"{path}: got neither {' nor '.join(IDS)}, expected whose latents these are. Add a column.")
    for name in IDS:
        if name not in people:
            people[name] = ids
    if not len(people):
        raise CohortError(f"{path}: got nobody, expected one person or more. Make it with mrigen encode.")
    faults = []
    names = ids.fillna("").astype(str)
    unsafe = [name or "(empty)" for name in names if not re.fullmatch(r"[\w+][\w.+-]*", name)]
    if unsafe:
        faults.append(f"{path}: got {_some(unsafe)} as ids, expected letters, digits and . + - _. Rename them.")
    double = ids[ids.duplicated()].astype(str).unique()
    if len(double):
        faults.append(f"{path}: got {_some(double)} more than once, expected one row a scan_id. Remove the others.")
    if latents["loc"].ndim != 2 or any(len(values) != len(people) for values in latents.values()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in latents.items())
        raise CohortError(
            [*faults, f"{path}: got {shapes} for {len(people)} ids, expected a row of latents for each. Make it anew."]
        )
    wrong = ids[~np.isfinite(latents["loc"]).all(axis=1)].astype(str)
    if len(wrong):
        faults.append(
            f"{path}: got latents of {_some(wrong)} that are no finite numbers, expected numbers. Correct them."
        )
    if faults:
        raise CohortError(faults)
    known = [column for column in COLUMNS.values() if column in people]
    return LatentTable(people[[*IDS, *known]], latents)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(list(names)[:MOST_TOLD]) + more


def _read_tsv(path: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    text = dict.fromkeys((*IDS, "sex", "site"), str)
    table = pd.read_csv(
        path, sep="\t", dtype=text, na_values=["n/a"], keep_default_na=False, float_precision="round_trip"
    )
    latents = {}
    for name in ("loc", "scale"):
        columns = sorted((int(column[len(name) + 1 :]), column) for column in table if _is_latent(column, name))
        if columns:
            expected = list(range(1, len(columns) + 1))
            if [number for number, _ in columns] != expected:
                raise ValueError(f"some of the columns {name}_001 to {columns[-1][1]} are missing or double")
            chosen = table[[column for _, column in columns]]
            latents[name] = chosen.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float32)
    if "loc" not in latents:
        raise ValueError("it has no column loc_001")
    return table[[column for column in table if column in (*IDS, *COLUMNS.values())]].copy(), latents


def _is_latent(column: str, name: str) -> bool:
    return re.fullmatch(rf"{name}_\d+", column) is not None


def _read_npz(path: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    if "loc" not in arrays:
        raise ValueError("it has no array loc")
    latents = {name: arrays[name].astype(np.float32) for name in ("loc", "scale", "factor") if name in arrays}
    columns = {}
    for name in (*IDS, *COLUMNS.values()):
        if name in arrays:
            values = pd.Series(arrays[name])
            columns[name] = values if values.dtype.kind in "fiu" else values.astype(object).replace("n/a", None)
    if any(name in columns and columns[name].dtype.kind in "fiu" for name in IDS):
        raise ValueError("its ids are numbers, not text")
    return pd.DataFrame(columns), latents


def decode(
    run: Run,
    table: LatentTable | str | os.PathLike,
    directory: str | os.PathLike | None = None,
    *,
    given: Mapping[str, str | float] | None = None,
    native_units: bool = False,
    force: bool = False,
) -> list[Path]:
    """Writes the heads that latents stand for, with a picture of the first, and returns their paths.

    Args:
        run: a finished run.
        table: latents of its model, or a file of them; see `read_latents`.
        directory: where to write `<scan id>_desc-decoded_T1w.nii.gz`, at the place of the training heads, intensities
            in [0, 1]; RUN/decoded by default.
        given: covariates of everyone, for a model that is told any. The others are those of the table; where the table
            has none, those of the run's own people, by scan_id; unknown otherwise.
        native_units: whether intensities are multiplied by the training cohort's median scale.
        force: whether files of that name are replaced.

    Raises:
        UsageError: covariates that the model is not told, or a file is there already.
        CohortError: see `read_latents`; or the latents are of another model.
    """
    given = dict(given or {})
    check_given(run, given)
    place = "latents" if isinstance(table, LatentTable) else table
    table = table if isinstance(table, LatentTable) else read_latents(table)
    directory = Path(directory) if directory is not None else run.directory / "decoded"
    paths = [directory / f"{scan_id}_desc-decoded_T1w.nii.gz" for scan_id in table.people["scan_id"]]
    picture = directory / "contact_sheet.png"
    refuse_taken([*paths, picture], force)
    model, loc = run.load_model(), table.latents["loc"]
    if loc.shape[1] != model.latent_size:
        raise CohortError(
            f"{place}: got {loc.shape[1]} latent variables, expected {model.latent_size} as {run.directory} has. "
            "Name the run that the latents are of with --run."
        )
    told = conditions_of(run, _with_own_covariates(run, table.people), given)
    factor = np.float32(run.grid["median_scale"] if native_units else 1.0)
    pictures, written = [], []
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar("Decoding", len(paths), "heads") as advance,
    ):
        for parts in decode_batches(model, loc, told):
            heads = np.clip(parts["reconstruction"][..., 0], 0.0, 1.0)
            for head in heads:
                written.append(pool.submit(write_volume, paths[len(written)], head * factor, run.affine))
                if len(pictures) < MOST_PICTURED:
                    pictures.append(head)
            advance(len(heads))
        for future in written:
            future.result()
    titles = list(table.people["scan_id"].iloc[: len(pictures)])
    draw_contact_sheet(pictures, titles, picture, run.grid["zooms"])
    return paths


def _with_own_covariates(run: Run, people: pd.DataFrame) -> pd.DataFrame:
    """Returns `people` with the covariates of the run's own, where the table has no covariates."""
    if run.covariates is None:
        return people
    columns = [COLUMNS[name] for name in run.covariates.names]
    numbers = [COLUMNS[name] for name in UNITS]
    if any(column in people for column in columns):
        faults = [
            f"{column}: got {value} in the table of latents, expected a number. Correct it, or write n/a."
            for column in columns
            if column in people and column in numbers
            for value in people[column][pd.to_numeric(people[column], errors="coerce").isna() & people[column].notna()]
        ]
        if faults:
            raise CohortError(faults)
        return people
    own = [column for column in columns if column in run.subjects]
    joined = people[list(IDS)].merge(run.subjects[["scan_id", *own]], on="scan_id", how="left")
    unknown = int(joined[own].isna().all(axis=1).sum()) if own else len(joined)
    if unknown:
        logger.info("Of %d of %d heads the model is told nothing: the table has no covariates", unknown, len(joined))
    return joined
