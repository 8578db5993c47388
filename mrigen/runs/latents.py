"""Latents and whose they are, in memory and in files that any tool reads."""

import dataclasses
import html
import os
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS
from mrigen.errors import CohortError, UsageError
from mrigen.runs.encoding import latent_names
from mrigen.system.files import atomic_path, open_file, read_written_table, write_table
from mrigen.system.names import is_safe_name
from mrigen.system.targets import refuse_taken
from mrigen.system.wording import some

SUFFIXES = (".tsv", ".npz")
IDS = ("participant_id", "scan_id")
# Of arrays that are read, not compressed: what half a million people of 1,000 latents take, twice.
MOST_BYTES = 2**32
# Arrays of a table.
ARRAYS = ("loc", "scale", "factor")


@dataclasses.dataclass(frozen=True)
class LatentTable:
    """Latents and whose they are.

    Attributes:
        people: one row an image: participant_id, scan_id and, where covariates condition a model, their columns.
        latents: loc (images, latent) float32, the posterior means; for a VAE also scale (images, latent), the posterior
            standard deviations, and, where the posterior has one, factor (images, latent, rank).
    """

    people: pd.DataFrame
    latents: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.people)

    def __repr__(self) -> str:
        return f"LatentTable({len(self)} images, {self.latents['loc'].shape[1]} latent variables)"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.to_frame().head(10).iloc[:, :10].to_html(index=False)}"

    def to_frame(self) -> pd.DataFrame:
        """Returns one row an image: `people`, then loc_001, loc_002, ... and, for a VAE, scale_001, ..."""
        parts = [self.people.reset_index(drop=True)]
        for name in ("loc", "scale"):
            if name in self.latents:
                values = self.latents[name]
                parts.append(pd.DataFrame(values, columns=latent_names(values.shape[1], name)))
        return pd.concat(parts, axis=1)

    @staticmethod
    def check_target(path: str | os.PathLike, force: bool = False) -> None:
        """Refuses what `write` would refuse.

        Raises:
            UsageError: another kind of file, or it is there already.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise UsageError(f"got {path}, expected a name that ends in {' or '.join(SUFFIXES)}. Rename it.", "path")
        refuse_taken([path], force)

    def write(self, path: str | os.PathLike, force: bool = False) -> list[Path]:
        """Writes a .tsv (see `to_frame`) or a .npz (an array each; text as text, "n/a" where missing; no pickle), and
        returns its path.

        Raises:
            UsageError: another kind of file, or it is there already.
        """
        path = Path(path)
        self.check_target(path, force)
        if path.suffix == ".tsv":
            write_table(path, self.to_frame())
            return [path]
        columns = {}
        for name in self.people:
            values = self.people[name]
            is_number = pd.api.types.is_numeric_dtype(values)
            columns[name] = values.to_numpy() if is_number else values.fillna("n/a").to_numpy(dtype=str)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **columns, **self.latents)
        return [path]


def read_latents(path: str | os.PathLike) -> LatentTable:
    """Returns the latents in a .tsv or .npz such as `LatentTable.write` makes; what it lacks but ids and loc is left
    out.

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
    except (OSError, ValueError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise CohortError(f"{path}: cannot be read ({reason}), expected latents. Make it with mrigen encode.") from None
    return _checked(people, latents, str(path))


def latent_table(latents: LatentTable | str | os.PathLike | pd.DataFrame | np.ndarray) -> LatentTable:
    """Returns latents in whatever form as a table.

    Args:
        latents: a table; a file of one (see `read_latents`); what `LatentTable.to_frame` returns, in which the ids may
            be the index; or an array (n, latent) of posterior means, whose images are then called image-001 and so on.

    Raises:
        CohortError: see `read_latents`.
    """
    if isinstance(latents, LatentTable):
        return latents
    if isinstance(latents, (str, os.PathLike)):
        return read_latents(latents)
    if isinstance(latents, pd.DataFrame):
        frame = latents.reset_index() if any(name in IDS for name in latents.index.names) else latents
        try:
            people, arrays = _split_frame(frame)
        except ValueError as error:
            raise CohortError(f"latents: {error}, expected latents as `mrigen.encode()` returns them.") from None
        return _checked(people.reset_index(drop=True), arrays, "latents")
    loc = np.asarray(latents, dtype=np.float32)
    if loc.ndim != 2:
        raise CohortError(f"latents: got an array of shape {loc.shape}, expected (n, latent). Add the axis of images.")
    names = [f"image-{number + 1:03d}" for number in range(len(loc))]
    return _checked(pd.DataFrame(dict.fromkeys(IDS, names)), {"loc": loc}, "latents")


def _checked(people: pd.DataFrame, latents: dict[str, np.ndarray], source: str) -> LatentTable:
    """Returns a table of what was read, if it is one; see `read_latents`."""
    ids = next((people[name] for name in reversed(IDS) if name in people), None)
    if ids is None:
        raise CohortError(f"{source}: got neither {' nor '.join(IDS)}, expected whose latents these are. Add a column.")
    people = people.assign(**{name: ids for name in IDS if name not in people})
    if not len(people):
        raise CohortError(f"{source}: got nobody, expected one person or more. Make it with mrigen encode.")
    faults = []
    names = ids.fillna("").astype(str)
    unsafe = [name or "(empty)" for name in names if not is_safe_name(name)]
    if unsafe:
        faults.append(f"{source}: got {some(unsafe)} as ids, expected letters, digits and . + - _. Rename them.")
    double = ids[ids.duplicated()].astype(str).unique()
    if len(double):
        faults.append(f"{source}: got {some(double)} more than once, expected one row a scan_id. Remove the others.")
    if latents["loc"].ndim != 2 or any(len(values) != len(people) for values in latents.values()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in latents.items())
        raise CohortError(
            [
                *faults,
                f"{source}: got {shapes} for {len(people)} ids, expected one row for each. Make it anew.",
            ]
        )
    wrong = ids[~np.isfinite(latents["loc"]).all(axis=1)].astype(str)
    if len(wrong):
        faults.append(
            f"{source}: got latents of {some(list(wrong))} that are no finite numbers, expected numbers. Correct them."
        )
    if faults:
        raise CohortError(faults)
    known = [column for column in COLUMNS.values() if column in people]
    return LatentTable(people[[*IDS, *known]], latents)


def _read_tsv(path: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    return _split_frame(read_written_table(path, (*IDS, "sex", "site"), float_precision="round_trip"))


def _split_frame(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Returns the people and the latents of a table such as `LatentTable.to_frame` returns."""
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


def _is_latent(column, name: str) -> bool:
    return re.fullmatch(rf"{name}_\d+", str(column)) is not None


def _read_npz(path: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    with open_file(path) as file:
        with zipfile.ZipFile(file) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it holds {size} bytes, of {MOST_BYTES} at most")
        file.seek(0)
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    if "loc" not in arrays:
        raise ValueError("it has no array loc")
    latents = {name: arrays[name].astype(np.float32) for name in ARRAYS if name in arrays}
    columns = {}
    for name in (*IDS, *COLUMNS.values()):
        if name in arrays:
            values = pd.Series(arrays[name])
            columns[name] = values if values.dtype.kind in "fiu" else values.astype(object).replace("n/a", None)
    if any(name in columns and columns[name].dtype.kind in "fiu" for name in IDS):
        raise ValueError("its ids are numbers, not text")
    return pd.DataFrame(columns), latents
