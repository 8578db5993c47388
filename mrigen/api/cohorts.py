"""Cohorts that are handed over in Python: paths, images in memory and data frames, kept inside the run as a table."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrigen.data.bids import strip_suffix
from mrigen.data.sessions import SESSION_COLUMNS
from mrigen.data.sources import MASK_COLUMN, PATH_COLUMNS, PERSON_COLUMNS
from mrigen.data.tables import find_column
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.volumes import is_in_memory, path_of, read_grid, read_stored, write_volume
from mrigen.recipe import DataRecipe, Recipe
from mrigen.runs.naming import COHORT_PREFIX
from mrigen.system.files import temporary_directory, write_table
from mrigen.system.names import name_fault, path_fault
from mrigen.system.wording import limited

# Stands for the table until it is written: its name depends on what is in it.
UNWRITTEN = "cohort.tsv"


def split_data(data: Any) -> tuple[Mapping[str, Any] | None, pd.DataFrame | None]:
    """Returns what `data` of `fit` is: keys of the block `data`, and the cohort where it was handed over itself.

    Raises:
        UsageError: it is nothing of the kind.
    """
    if data is None:
        return None, None
    if isinstance(data, (str, os.PathLike)):
        return {"root": str(data)}, None
    if isinstance(data, DataRecipe):
        return data.model_dump(mode="json"), None
    if isinstance(data, Mapping):
        return data, None
    if isinstance(data, pd.DataFrame):
        # Ids are often the index.
        frame = data.reset_index(drop=data.index.name not in PERSON_COLUMNS)
    elif isinstance(data, (Sequence, np.ndarray, pd.Series)):
        frame = pd.DataFrame({"path": pd.Series(list(data), dtype=object)})
    else:
        raise UsageError(
            f"got a {type(data).__name__}, expected a folder or table, a mapping of data keys, a list of images, or a "
            "data frame with a column of paths. Name the folder of your images.",
            parameter="data",
        )
    if frame.empty:
        raise UsageError("got nobody, expected images. Name some.", parameter="data")
    return {"root": UNWRITTEN}, frame


def images_in(data: Any) -> list:
    """Returns the images (paths or in memory) that a list, an array, a series or a data frame holds.

    Raises:
        UsageError: it is something else. CohortError: a data frame without a column of paths.
    """
    if isinstance(data, (str, os.PathLike)) or not isinstance(data, (Sequence, np.ndarray, pd.Series, pd.DataFrame)):
        raise UsageError(
            f"got a {type(data).__name__}, expected a list of images, or a data frame with a column of paths. "
            "Write [path] for one image.",
            parameter="images",
        )
    return list(data[_path_column(data, ())] if isinstance(data, pd.DataFrame) else data)


def write_cohort(frame: pd.DataFrame, recipe: Recipe, directory: Path) -> tuple[Recipe, Path | None]:
    """Writes a cohort into the folder of a run, and returns the recipe that names it.

    The table, cohort.tsv, lies beside images/, which holds those that were in memory. Their folder is named by its
    content, so that the same cohort is the same for a run that goes on, and an older run keeps its own.

    Args:
        frame: one row an image, with a column of paths or of images in memory.
        recipe: whose data.root is to be the table.
        directory: of the run.

    Returns:
        the recipe; and the folder, if it was not there.

    Raises:
        CohortError: no column of paths, or an image that cannot be written.
    """
    column = _path_column(frame, (recipe.data.suffix,))
    frame = frame.copy()
    masks = find_column(frame, recipe.data.mask or MASK_COLUMN)
    _refuse_names(frame, [name for name in (column, masks) if name])
    with temporary_directory(directory, "cohort") as temporary:
        digest = hashlib.blake2b(digest_size=6)
        for name in filter(None, (column, masks)):
            frame[name] = [
                _as_path(cell, temporary, f"images/{name}{number + 1:04d}", digest)
                for number, cell in enumerate(frame[name])
            ]
        write_table(temporary / UNWRITTEN, frame)
        digest.update((temporary / UNWRITTEN).read_bytes())
        folder = Path(os.path.abspath(directory)) / f"{COHORT_PREFIX}{digest.hexdigest()}"
        is_new = not (folder / UNWRITTEN).is_file()
        if is_new:
            os.rename(temporary, folder)
    data = recipe.data.model_copy(update={"root": str(folder / UNWRITTEN)})
    return recipe.model_copy(update={"data": data}), folder if is_new else None


def _path_column(frame: pd.DataFrame, others: Sequence[str]) -> str:
    column = find_column(frame, *PATH_COLUMNS, *others)
    if column is None:
        names = ", ".join(map(str, frame.columns)) or "none"
        raise CohortError(
            f"data: got a data frame with the columns {names}, expected one with the paths of the images "
            f"({', '.join(PATH_COLUMNS)}). Rename the column."
        )
    return column


def _refuse_names(frame: pd.DataFrame, paths: Sequence[str]) -> None:
    """Refuses paths, ids and sessions that a table cannot hold; see `mrigen.system.names`."""
    rules: dict[str, Callable[[str], str | None]] = dict.fromkeys(paths, path_fault)
    for names in (PERSON_COLUMNS, SESSION_COLUMNS):
        found = find_column(frame, *names)
        rules |= {} if found is None else {found: name_fault}
    faults = [
        f"data: got {cell!r} in column {column}, {fault}, expected printable UTF-8. Rename it."
        for column, rule in rules.items()
        for cell in dict.fromkeys(str(cell) for cell in frame[column] if isinstance(cell, (str, os.PathLike)))
        if (fault := rule(cell))
    ]
    if faults:
        raise CohortError(limited(faults))


def _as_path(cell: Any, folder: Path, name: str, digest) -> Any:
    """Returns the path of an image: absolute, or relative to `folder`, where one in memory is written first."""
    if isinstance(cell, (str, os.PathLike)):
        return os.path.abspath(os.path.expanduser(cell))
    if not is_in_memory(cell):
        if cell is None or (np.isscalar(cell) and pd.isna(cell)):
            return None
        raise CohortError(
            f"data: got a {type(cell).__name__} for an image, expected a path or a nibabel image. Correct the list."
        )
    origin = path_of(cell)
    stem = strip_suffix(os.path.basename(origin)) if origin else None
    path = f"{name}/{stem or f'sub-{name[-4:]}_T1w'}.nii.gz"
    if cell.affine is None:
        raise CohortError("data: got an image without an affine, expected where it lies in mm. Convert the image.")
    array, (_, affine, space) = read_stored(cell), read_grid(cell)
    write_volume(folder / path, array.astype(np.float32), affine, space)
    digest.update((folder / path).read_bytes())
    return path
