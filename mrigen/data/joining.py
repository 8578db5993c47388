"""What further tables and JSONs add to the rows of a cohort: sessions.tsv, phenotype/, units and levels of columns."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from mrigen.data import tables
from mrigen.data.bids import Found, bare_id, bare_session
from mrigen.data.descriptions import age_unit, find_entry, read_descriptions, sex_levels
from mrigen.data.sessions import SESSION_COLUMNS, TIME_COLUMNS, Visit, order_sessions, read_scan_times, read_sessions
from mrigen.data.sources import PERSON_COLUMNS, Source
from mrigen.data.tables import find_column
from mrigen.errors import CohortError
from mrigen.recipe import DataRecipe
from mrigen.system.wording import counted, limited, some


def join_tables(source: Source, data: DataRecipe) -> None:
    """Adds the columns of sessions.tsv and phenotype/, orders the sessions, and finds what the columns mean.

    Raises:
        CohortError: a JSON beside a table cannot be read.
    """
    people = set(source.images["participant_id"])
    rows, faults = read_sessions({person: path for person, path in source.sessions.items() if person in people})
    source.faults += limited(faults)
    if rows:
        _join_sessions(source, rows, data)
    if not source.is_list:
        _join_phenotype(source)
    _order_sessions(source, rows, data)
    understand_columns(source, data)


def _join_sessions(source: Source, rows: dict[str, list[dict[str, str | None]]], data: DataRecipe) -> None:
    """What a session's row says goes before what the person's row says."""
    # Names are spelled as they are first; people's tables may differ in case.
    spelled: dict[str, str] = {}
    by_session = {
        (person, row["session_id"]): {spelled.setdefault(name.lower(), name): cell for name, cell in row.items()}
        for person, found in rows.items()
        for row in reversed(found)
    }
    images = source.images
    own = [
        by_session.get((person, bare_session(session or "")), {})
        for person, session in zip(images["participant_id"], images["session_id"], strict=True)
    ]
    origin = os.path.join(source.folder, "sub-*", "sub-*_sessions.tsv")
    paths = [os.path.join(source.folder, "sessions.json"), os.path.splitext(next(iter(source.sessions.values())))[0]]
    source.described[origin] = read_descriptions(paths[0]) or read_descriptions(f"{paths[1]}.json")
    skipped = {*SESSION_COLUMNS, *TIME_COLUMNS}
    columns = {}
    for name in dict.fromkeys(name for row in own for name in row if name.lower() not in skipped):
        there = find_column(source.raw, name)
        if there in source.used:
            continue
        cells = [row.get(name) for row in own]
        if there is None:
            source.origins[name] = origin
        else:
            cells = [old if new is None else new for old, new in zip(source.raw[there], cells, strict=True)]
        columns[there or name] = pd.Series(cells, index=images.index, dtype=object)
        if name.lower() == data.age_column.lower():
            source.session_aged = [row for row, cells in zip(images.index, own, strict=True) if cells.get(name)]
            source.session_unit, _ = age_unit(find_entry(source.described[origin], name), name)
            if source.session_aged:
                number = counted(images["participant_id"][source.session_aged].nunique(), "person", "people")
                source.notes.append(f"{origin}: the age of {number} is the one at the session.")
    new = pd.DataFrame(columns, index=images.index)
    kept = source.raw[[name for name in source.raw.columns if name not in columns]]
    source.raw = pd.concat([kept, new], axis=1) if columns else source.raw


def _order_sessions(source: Source, rows: dict[str, list[dict[str, str | None]]], data: DataRecipe) -> None:
    """Fills `source.order` for people with several sessions; where no table tells, their names do (see cohort)."""
    images = source.images[source.images["session_id"].notna()]
    by_person: dict[str, list[tuple[Any, Found]]] = {}
    for row, *image in images[list(Found._fields)].itertuples(name=None):
        by_person.setdefault(image[0], []).append((row, Found(*image)))
    age = find_column(source.raw, data.age_column)
    ages = source.raw[age] if age else None
    places = {}
    for person, own in by_person.items():
        names = {bare_session(image.session_id) for _, image in own}
        if len(names) < 2:
            continue
        visits = [_visit(row, data) for row in rows.get(person, ())] or source.visits.get(bare_id(person), [])
        if not any(visit.time for visit in visits):
            visits = ([] if source.is_list else read_scan_times([image for _, image in own])) or visits
        visits = [visit for visit in visits if visit.session in names]
        order, told = order_sessions(visits)
        if not visits and ages is not None:
            order, told = order_sessions(
                [Visit(bare_session(image.session_id), None, ages[row] or None) for row, image in own]
            )
        if visits or told != "rows":
            # Sessions that no row names come last, by name.
            places |= {row: (order.get(bare_session(image.session_id), len(order)), told) for row, image in own}
    source.order = pd.DataFrame(places.values(), index=list(places), columns=["place", "told"])


def _visit(row: dict[str, str | None], data: DataRecipe) -> Visit:
    lowered = {name.lower(): cell for name, cell in row.items()}
    time = next((lowered[name] for name in TIME_COLUMNS if lowered.get(name)), None)
    return Visit(row["session_id"] or "", time, lowered.get(data.age_column.lower()))


def _join_phenotype(source: Source) -> None:
    """Adds the columns of phenotype/*.tsv by person, or by person and session; tables that do not fit are noted."""
    folder = Path(source.folder) / "phenotype"
    images, added, joined = source.images, {}, []
    ids = images["participant_id"].map(bare_id)
    sessions = images["session_id"].map(lambda session: bare_session(session or ""))
    taken = Counter(name.lower() for name in source.raw.columns)
    for path in sorted(folder.glob("*.tsv")) if folder.is_dir() else ():
        try:
            table, problem = _phenotype_table(path, ids, sessions)
        except CohortError as error:
            table, problem = None, error.faults[0]
        if table is None:
            source.notes.append(f"{problem} The table is left out.")
            continue
        joined.append(path.name)
        for name in table.columns:
            own = name if not taken[name.lower()] and name not in source.used else f"{path.stem}.{name}"
            taken[own.lower()] += 1
            added[own] = pd.Series(table[name].to_numpy(), index=images.index, dtype=object)
            source.origins[own] = str(path)
    if joined:
        source.raw = pd.concat([source.raw, pd.DataFrame(added, index=images.index)], axis=1)
        columns = counted(len(added), "column", "columns")
        source.notes.append(f"{folder}: {columns} of {some(joined, 3)} joined.")


def _phenotype_table(path: Path, ids: pd.Series, sessions: pd.Series) -> tuple[pd.DataFrame | None, str]:
    """The rows of a table in the order of the images, or None and why not."""
    table = tables.read_table(path)
    person, session = find_column(table, *PERSON_COLUMNS), find_column(table, *SESSION_COLUMNS)
    if person is None:
        return None, f"{path}: no column participant_id."
    table = table[table[person].notna()]
    keys, wanted = table[person].map(bare_id), ids
    if session and keys.duplicated().any():
        keys = keys + "\t" + table[session].map(lambda name: bare_session(name or ""))
        wanted = ids + "\t" + sessions
    if keys.duplicated().any():
        return None, f"{path}: several rows for {keys[keys.duplicated()].iloc[0].split(chr(9))[0]}, expected one."
    if not keys.isin(set(wanted)).any():
        return None, f"{path}: no row for anybody with an image."
    table = table.drop(columns=[name for name in (person, session) if name])
    table.index = pd.Index(keys)
    return table.reindex(wanted), ""


def understand_columns(source: Source, data: DataRecipe) -> None:
    """Finds the columns of sex, age, site, family and persons, and what the dataset itself says of sex and age.

    Raises:
        CohortError: a JSON beside a table cannot be read.
    """
    for name in ("sex", "age", "site", "family"):
        source.columns[name] = find_column(source.raw, getattr(data, f"{name}_column"))
    source.columns["same_person"] = find_column(source.raw, data.same_person) if data.same_person else None
    sex, age = source.columns["sex"], source.columns["age"]
    if sex:
        source.levels = sex_levels(source.describe(sex))
    if age:
        unit, strange = age_unit(source.describe(age), age)
        source.unit = unit or source.unit
        if strange:
            source.notes.append(
                f"{source.place('age')}: the unit '{strange}' in the JSON beside it is not known, so ages are taken "
                "for years. Known units: years, months, weeks, days."
            )
        if source.unit != "years":
            source.notes.append(
                f"{source.place('age')}: ages in {source.unit}, as the dataset says; they become years."
            )
    if source.table:
        for name, said in (("sex", sex), ("age", age)):
            if not said:
                source.notes.append(_no_column(source, name, getattr(data, f"{name}_column")))


def _no_column(source: Source, name: str, asked: str) -> str:
    words = {"sex": {"sex", "gender"}, "age": {"age", "ages", "years"}}[name]
    likely = [column for column in source.raw.columns if words & set(re.findall("[a-z]+", column.lower()))]
    hint = f" Is it '{likely[0]}'? Then set data.{name}_column={likely[0]}." if likely else ""
    return f"{source.table}: no column '{asked}', so everybody's {name} is missing.{hint}"
