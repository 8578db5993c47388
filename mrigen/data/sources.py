"""One cohort as it lies on disk: its images, and the rows of its table that belong to them. Opens no image."""

import dataclasses
import os
from typing import Any

import pandas as pd

from mrigen.data import bids, tables
from mrigen.data.bids import Found, bare_id, name_person
from mrigen.data.descriptions import find_entry, read_descriptions
from mrigen.data.kinds import is_magnitude, longer_names_note
from mrigen.data.sessions import SESSION_COLUMNS, TIME_COLUMNS, Visit
from mrigen.data.tables import Levels, find_column
from mrigen.errors import CohortError
from mrigen.imaging.volumes import SUFFIXES
from mrigen.recipe import CohortRecipe, DataRecipe
from mrigen.system.wording import counted, limited, nearest, some

PERSON_COLUMNS = ("participant_id", "subject_id", "participant", "subject")
PATH_COLUMNS = ("path", "file", "filename", "image", "t1", "t1w")
MASK_COLUMN = "mask"


@dataclasses.dataclass
class Source:
    """One cohort while it is read.

    Attributes:
        recipe: name, root and mask.
        folder: what relative paths are relative to.
        images: participant_id (as the files or the table write it), session_id, stem, path, broken; one row an image.
        raw: the cells of the table, str or None, with the index of `images`.
        table: path of the table, or None.
        is_list: the table lists the images (else it is a participants.tsv).
        used: columns of `raw` that became columns of `images`.
        columns: sex, age, site, family, same_person -> the column of `raw`, or None.
        mask_column: column of `raw` with the masks, or None.
        levels: sex codes that the dataset itself explains: code -> 'F', 'M', or None for neither.
        unit: of the ages of the table, as the dataset says: years, months, weeks or days.
        origins: column of `raw` -> the file it comes from, where that is not `table`.
        described: file of a table -> what its JSON says of its columns.
        sessions: participant_id -> path of the person's sessions.tsv.
        visits: participant id without `sub-` -> the sessions that the table lists, in its order.
        order: place of an image's session among the person's, and what told it; indexed as `images`, only for those
            whose order is known. Columns place and told.
        session_unit, session_aged: unit of the ages that sessions.tsv gives, and the rows of `raw` that have one.
        people: everybody's id without `sub-`, also who has no image or is excluded.
        faults, notes: lines.
    """

    recipe: CohortRecipe
    folder: str
    images: pd.DataFrame
    raw: pd.DataFrame
    table: str | None = None
    is_list: bool = False
    used: set[str] = dataclasses.field(default_factory=set)
    columns: dict[str, str | None] = dataclasses.field(default_factory=dict)
    mask_column: str | None = None
    levels: Levels = dataclasses.field(default_factory=dict)
    unit: str = "years"
    origins: dict[str, str] = dataclasses.field(default_factory=dict)
    described: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    sessions: dict[str, str] = dataclasses.field(default_factory=dict)
    visits: dict[str, list[Visit]] = dataclasses.field(default_factory=dict)
    order: pd.DataFrame = dataclasses.field(default_factory=lambda: pd.DataFrame(columns=["place", "told"]))
    session_unit: str | None = None
    session_aged: list[Any] = dataclasses.field(default_factory=list)
    people: set[str] = dataclasses.field(default_factory=set)
    faults: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def place(self, name: str) -> str:
        """Returns the file and column that sex or age come from, for a message."""
        return f"{self.origins.get(self.columns[name] or '', self.table)}: {self.columns[name]}"

    def describe(self, column: str) -> dict[str, Any]:
        """Returns what the JSON beside a column's table says of it; empty where there is none."""
        table = self.origins.get(column, self.table)
        if table is None:
            return {}
        if table not in self.described:
            self.described[table] = read_descriptions(os.path.splitext(table)[0] + ".json")
        return find_entry(
            self.described[table], column.removeprefix(f"{os.path.splitext(os.path.basename(table))[0]}.")
        )

    def resolve(self, path: str) -> str:
        """Returns the absolute path of one that is relative to the cohort's folder."""
        return os.path.abspath(os.path.join(self.folder, os.path.expanduser(path)))

    def fill(self, pattern: str, participant_id: str, session_id: str | None) -> str:
        """Returns the absolute path that a pattern with {id} and {session} means for an image."""
        return self.resolve(pattern.replace("{id}", participant_id).replace("{session}", session_id or ""))


def read_source(recipe: CohortRecipe, data: DataRecipe) -> Source:
    """Returns the images of one cohort without the excluded people, and what its table says about them.

    What further tables add is not read yet, nor what the columns mean; see `mrigen.data.joining`.

    Raises:
        CohortError: what makes it pointless to go on: no such folder or table, no image, a table that cannot be read.
            All else is in `Source.faults`.
    """
    root = os.path.abspath(os.path.expanduser(recipe.root))
    if not os.path.exists(root):
        raise CohortError(
            f"{root}: no such folder or table, expected the images of cohort {recipe.name}. Check the path."
        )
    if os.path.isdir(root):
        source = _read_folder(recipe, root, data)
    elif root.lower().endswith(tables.TABLE_SUFFIXES):
        source = _read_list(recipe, root, data)
    else:
        raise CohortError(
            f"{root}: got a file that is no table, expected a folder, a .tsv or a .csv. "
            "Give the folder of the images, or a table with a column of paths."
        )
    return source


def listed(names) -> str:
    """Returns at most 12 names, separated by commas."""
    return ", ".join(limited([str(name) for name in names], 12)) or "none"


def id_hint(person: str, known: list[str]) -> str:
    """Returns a sentence (with a leading space) that names the id that may be meant, or nothing. Ids without `sub-`."""
    if person.isdecimal():
        same = [other for other in known if other.isdecimal() and int(other) == int(person)]
        if same:
            return f" There is '{same[0]}': were leading zeros lost?"
    return nearest(person, known)


def exclude_keys(entry: str, cohort: str) -> set[str]:
    """Returns the ids without `sub-` that an entry of data.exclude may mean in a cohort.

    Example:
        >>> sorted(exclude_keys("ixi.sub-012", "ixi"))
        ['012', 'ixi.sub-012']
    """
    return {bare_id(entry), bare_id(entry.removeprefix(f"{cohort}."))}


def _excluded(keys: pd.Series, source: Source, exclude: list[str]) -> pd.Series:
    return keys.isin({key for entry in exclude for key in exclude_keys(entry, source.recipe.name)})


def _read_folder(recipe: CohortRecipe, root: str, data: DataRecipe) -> Source:
    is_bids = bids.is_bids(root)
    if is_bids:
        scan = bids.scan_bids(root, (data.suffix,))
        looked_for = f"sub-*/[ses-*/]anat/*_{data.suffix}.nii[.gz]"
    else:
        scan = bids.scan_folder(root, data.suffix)
        looked_for = f"files ending in {', '.join(SUFFIXES)}"
    if not scan.images:
        raise CohortError(_nothing_found(root, looked_for, scan))
    source = Source(recipe, root, images=pd.DataFrame(), raw=pd.DataFrame(), sessions=scan.sessions)
    images = scan.images
    if is_bids:
        source.faults += _misplaced(images, data.suffix)
    else:
        images = _without_masks(source, images)
        source.faults += _ambiguous_names(images, root)
    source.notes += _notes_of_names(root, is_bids, images, scan, data.suffix)
    source.images = pd.DataFrame(images, columns=Found._fields, dtype=object)
    source.raw = pd.DataFrame(index=source.images.index)
    source.people = set(source.images["participant_id"].map(bare_id))
    table = os.path.join(root, "participants.tsv")
    if os.path.lexists(table):
        _join_participants(source, table, data)
    else:
        source.notes.append(f"{root}: no participants.tsv, so sex, age and site are missing.{_other_table(root)}")
        kept = ~_excluded(source.images["participant_id"].map(bare_id), source, data.exclude)
        source.images, source.raw = source.images[kept], source.raw[kept]
    return source


def _other_table(root: str) -> str:
    others = sorted(name for name in os.listdir(root) if name.lower().startswith(("participants.", "subjects.")))
    others = [name for name in others if not name.lower().endswith(".json")]
    return f" There is {others[0]}: save it as participants.tsv, separated by tabs." if others else ""


def _inner_dataset(root: str, images: list[Found]) -> list[str]:
    """A line where images lie in a dataset below the folder that was named, whose table is not read."""
    folder = os.path.dirname(images[0].path)
    while len(folder) > len(root):
        if any(os.path.isfile(os.path.join(folder, name)) for name in ("participants.tsv", "dataset_description.json")):
            return [f"{root}: images lie in the dataset {folder}, whose table is not read. Is that data.root?"]
        folder = os.path.dirname(folder)
    return []


def _notes_of_names(root: str, is_bids: bool, images: list[Found], scan: bids.Scan, suffix: str) -> list[str]:
    notes = []
    if is_bids and not os.path.isfile(os.path.join(root, "dataset_description.json")):
        notes.append(f"{root}: no dataset_description.json; read as BIDS, because there is sub-*/[ses-*/]anat.")
    if not is_bids:
        if bids.parse_stem(images[0].stem)[1] != suffix:
            count = counted(len(images), "image", "images")
            notes.append(f"{root}: no file name ends in _{suffix}; all NIfTI files are taken ({count}).")
        notes += longer_names_note({image.participant_id for image in images}, root) + _inner_dataset(root, images)
    if scan.left_out:
        files = counted(len(scan.left_out), "file", "files")
        kinds = "phase and imaginary parts" if is_bids else "masks, phase and imaginary parts"
        notes.append(f"{root}: {files} left out as {kinds} ({some(sorted(scan.left_out), 3)}).")
    if scan.elsewhere:
        files = counted(len(scan.elsewhere), "NIfTI file", "NIfTI files")
        notes.append(f"{root}: {files} outside sub-*/[ses-*/]anat left out ({some(sorted(scan.elsewhere), 3)}).")
    return notes


def _nothing_found(root: str, looked_for: str, scan: bids.Scan) -> str:
    if scan.left_out:
        files = counted(len(scan.left_out), "mask, phase or imaginary image", "masks, phase or imaginary images")
        return (
            f"{root}: no image found; looked for {looked_for}, got only {files} ({some(sorted(scan.left_out), 3)}). "
            "Check data.root and data.suffix."
        )
    if scan.elsewhere and not scan.others:
        files = counted(len(scan.elsewhere), "NIfTI file", "NIfTI files")
        return (
            f"{root}: no image found; looked for {looked_for}, got {files} outside anat ({some(scan.elsewhere, 3)}). "
            "Move them into anat, or list them in a table with participant_id and path."
        )
    if scan.others:
        there = ", ".join(f"{number} ending in _{suffix}" for suffix, number in scan.others.most_common(6))
        return f"{root}: no image found; looked for {looked_for}, got {there}. Set data.suffix to one of these."
    if scan.num_people:
        there = f"{counted(scan.num_people, 'sub-* folder', 'sub-* folders')} without NIfTI files under anat/"
    else:
        there = listed(sorted(name for name in os.listdir(root) if not name.startswith(".")))
        there = "an empty folder" if there == "none" else there
    return f"{root}: no image found; looked for {looked_for}, got {there}. Check data.root."


def _misplaced(images: list[Found], suffix: str) -> list[str]:
    faults = []
    for image in images:
        named = name_person(image.stem, suffix)[0]
        if named.startswith("sub-") and named != image.participant_id:
            faults.append(
                f"{image.path}: got a file of {named} in the folder of {image.participant_id}, expected one person. "
                "Move or rename the file."
            )
    return limited(sorted(faults))


def _without_masks(source: Source, images: list[Found]) -> list[Found]:
    """Masks that lie between the images of a plain folder are no images."""
    pattern = source.recipe.mask
    if not pattern or "{id}" not in pattern:
        return images
    masks = {source.fill(pattern, image.participant_id, image.session_id) for image in images}
    return [image for image in images if image.path not in masks]


def _ambiguous_names(images: list[Found], place: str) -> list[str]:
    """Files of one name in several folders: nothing tells whether they show one person, or one image twice."""
    by_name: dict[str, list[str]] = {}
    for image in images:
        name = image.stem if image.stem.startswith("sub-") else image.participant_id
        by_name.setdefault(name, []).append(image.path)
    return limited(
        [
            f"{place}: got {len(paths)} images named {name} ({min(paths)}, ...), expected a file name for each person. "
            "Rename them, or give a table with participant_id and path."
            for name, paths in sorted(by_name.items())
            if len(paths) > 1
        ]
    )


def _join_participants(source: Source, path: str, data: DataRecipe) -> None:
    source.table = path
    people = tables.read_table(path)
    person, session = find_column(people, *PERSON_COLUMNS), find_column(people, *SESSION_COLUMNS)
    if person is None:
        raise CohortError(
            f"{path}: got the columns {listed(people.columns)}, expected participant_id. Rename the column of ids."
        )
    source.used = {person}
    images = source.images
    people = people[people[person].notna()]
    ids, image_ids = people[person].map(bare_id), images["participant_id"].map(bare_id)
    keys, image_keys = ids, image_ids
    if session and ids.duplicated().any() and images["session_id"].notna().any():
        # A longitudinal table: one row a person and session.
        source.used.add(session)
        keys, image_keys = _with_session(ids, people[session]), _with_session(image_ids, images["session_id"])
        source.visits = list_visits(people, ids, people[session], data)
    source.people |= set(ids)
    excluded = _excluded(ids, source, data.exclude)
    twice = keys[keys.duplicated(keep=False) & ~excluded].value_counts(sort=False)
    source.faults += limited(
        [
            f"{path}: got {number} rows for {key.replace(chr(9), ' session ')}, expected one. "
            "Remove the others, or exclude the person with data.exclude."
            for key, number in twice.items()
        ]
    )
    kept = ~_excluded(image_ids, source, data.exclude)
    lost = images[kept & ~image_keys.isin(set(keys))]
    if len(lost):
        unused = sorted(key.replace("\t", " session ") for key in set(keys[~excluded]) - set(image_keys))
        source.faults.append(_without_row(source, lost, sorted(set(ids)), unused))
    people.index = pd.Index(keys)
    people = people[~people.index.duplicated()]
    source.raw = people.reindex(image_keys).set_index(images.index)[kept]
    source.images = images[kept]
    without_image = set(ids[~excluded]) - set(image_ids)
    if without_image:
        source.notes.append(
            f"{counted(len(without_image), 'person', 'people')} in {path} without a {data.suffix} image left out."
        )


def list_visits(table: pd.DataFrame, ids: pd.Series, sessions: pd.Series, data: DataRecipe) -> dict[str, list[Visit]]:
    """Returns the sessions that the rows of a table list for each person, in their order."""
    time, age = find_column(table, *TIME_COLUMNS), find_column(table, data.age_column)
    times, ages = (table[name] if name else [None] * len(table) for name in (time, age))
    visits: dict[str, list[Visit]] = {}
    for person, session, *cells in zip(ids, sessions, times, ages, strict=True):
        if session:
            visits.setdefault(person, []).append(Visit(bids.bare_session(session), *cells))
    return visits


def _with_session(ids: pd.Series, sessions: pd.Series) -> pd.Series:
    names = ["" if session is None else bids.bare_session(session) for session in sessions]
    return ids.astype(object) + "\t" + pd.Series(names, index=ids.index, dtype=object)


def _without_row(source: Source, lost: pd.DataFrame, known: list[str], unused: list[str]) -> str:
    """One line for all: where ids are written differently, everybody is lost."""
    lost = lost.sort_values("path")
    first = lost.iloc[0]
    hint = id_hint(bare_id(first["participant_id"]), known)
    people = list(dict.fromkeys(lost["participant_id"]))
    if len(lost) == 1:
        who = f"{people[0]} ({os.path.relpath(first['path'], source.folder)})"
    else:
        who = f"{counted(len(people), 'person', 'people')} with images ({some(people, 3)})"
    rows = ""
    if unused:
        rows = f" {counted(len(unused), 'row has', 'rows have')} no image ({some(unused, 3)})."
    return (
        f"{source.table}: got no row for {who}, expected one for every image.{rows} "
        f"Add the rows, or list the people in data.exclude.{hint}"
    )


def _read_list(recipe: CohortRecipe, path: str, data: DataRecipe) -> Source:
    raw = tables.read_table(path)
    column = find_column(raw, *PATH_COLUMNS, data.suffix)
    if column is None:
        raise CohortError(
            f"{path}: got the columns {listed(raw.columns)}, expected one with the paths of the images "
            f"({', '.join(PATH_COLUMNS)}). Rename the column, or give the folder of the images."
        )
    num_rows = len(raw)
    raw = raw[raw[column].notna()]
    stems = raw[column].map(lambda value: os.path.basename(value).partition(".nii")[0])
    phases = sorted(stems[~stems.map(is_magnitude).astype(bool)])
    raw = raw[stems.map(is_magnitude).astype(bool)].reset_index(drop=True)
    if raw.empty:
        raise CohortError(f"{path}: got no row with a path in column {column}, expected one an image. Fill the column.")
    source = Source(recipe, os.path.dirname(path), images=pd.DataFrame(), raw=raw, table=path, is_list=True)
    if phases:
        files = counted(len(phases), "file", "files")
        source.notes.append(f"{path}: {files} left out as phase and imaginary parts ({some(phases, 3)}).")
    if len(raw) + len(phases) < num_rows:
        number = num_rows - len(raw) - len(phases)
        source.notes.append(f"{counted(number, 'row', 'rows')} of {path} without a path left out.")
    person, session = find_column(raw, *PERSON_COLUMNS), find_column(raw, *SESSION_COLUMNS)
    source.mask_column = find_column(raw, recipe.mask or MASK_COLUMN)
    source.used = {name for name in (column, person, session, source.mask_column) if name}
    images, faults = [], []
    for number, value in enumerate(raw[column]):
        image_path = source.resolve(value)
        stem = bids.strip_suffix(os.path.basename(image_path))
        if stem is None:
            faults.append(
                f"{path}: got {value} in column {column}, expected a name ending in {', '.join(SUFFIXES)}. "
                "Correct the path."
            )
            stem = os.path.basename(image_path)
        participant_id, session_id = name_person(stem, data.suffix)
        if person:
            participant_id = raw[person].iat[number]
        if session:
            session_id = raw[session].iat[number]
        images.append(Found(participant_id, session_id, stem, image_path, False))
    source.faults += limited(faults)
    if person is None:
        source.faults += _ambiguous_names(images, path)
    source.faults += limited(
        [f"{path}: got no {person} for {image.path}, expected an id. Fill it in." for image in images if not image[0]]
    )
    source.images = pd.DataFrame(images, columns=Found._fields, dtype=object)
    source.images["participant_id"] = source.images["participant_id"].fillna("?")
    twice = source.images["path"][source.images["path"].duplicated()].unique()
    source.faults += limited(
        [f"{path}: got {name} in several rows, expected one. Remove the others." for name in twice]
    )
    ids = source.images["participant_id"].map(bare_id)
    source.people = set(ids)
    source.visits = list_visits(raw, ids, source.images["session_id"], data)
    kept = ~_excluded(ids, source, data.exclude)
    source.images, source.raw = source.images[kept], raw[kept]
    return source
