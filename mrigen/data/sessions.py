"""In which order a person came, and what is known of each session: sessions.tsv, scans.tsv, rows of a table."""

import datetime
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from mrigen.data.bids import PEOPLE_AT_ONCE, WALKERS, Found, bare_session
from mrigen.data.descriptions import as_years
from mrigen.data.tables import read_rows
from mrigen.errors import CohortError

SESSION_COLUMNS = ("session_id", "session")
TIME_COLUMNS = ("acq_time", "acquisition_time", "acq_date", "scan_date", "session_date")


class Visit(NamedTuple):
    """One row about a session of a person: session without `ses-`, time and age as the table writes them, or None."""

    session: str
    time: str | None = None
    age: str | None = None


def order_sessions(visits: Sequence[Visit]) -> tuple[dict[str, int], str]:
    """Returns the place of each session in time, from 0, and what told it.

    Acquisition times count where every session has one (dates, ISO 8601); else ages that all differ; else the order of
    the rows.

    Returns:
        session -> place; 'acq_time', 'age' or 'rows'.

    Example:
        >>> order_sessions([Visit("post", "2005-01-01T00:00:00"), Visit("pre", "2001-01-01T00:00:00")])
        ({'pre': 0, 'post': 1}, 'acq_time')
    """
    first: dict[str, Visit] = {}
    for visit in visits:
        first.setdefault(visit.session, visit)
    visits = list(first.values())
    told = "rows"
    times = [read_time(visit.time) for visit in visits]
    ages = [as_years(visit.age) for visit in visits]
    for name, values in (("acq_time", times), ("age", ages)):
        if None not in values and len(set(values)) == len(values) > 1:
            visits = [visits[place] for place in sorted(range(len(visits)), key=values.__getitem__)]
            told = name
            break
    return {visit.session: place for place, visit in enumerate(visits)}, told


def read_time(text: str | None) -> datetime.datetime | None:
    """Returns a date and time in ISO 8601, without its zone; None for anything else, and for times without a date."""
    try:
        return datetime.datetime.fromisoformat(text.strip()).replace(tzinfo=None) if text else None
    except ValueError:
        return None


def read_sessions(paths: Mapping[str, str]) -> tuple[dict[str, list[dict[str, str | None]]], list[str]]:
    """Returns the rows of people's sessions.tsv, with the session's bare name as `session_id`, and faults.

    Args:
        paths: participant_id -> path.
    """
    items = list(paths.items())
    chunks = [items[start : start + PEOPLE_AT_ONCE] for start in range(0, len(items), PEOPLE_AT_ONCE)]
    with ThreadPoolExecutor(WALKERS) as walkers:
        parts = [part for chunk in walkers.map(_read_chunk, chunks) for part in chunk]
    rows = {person: found for person, found, _ in parts}
    return rows, [fault for *_, faults in parts for fault in faults]


def _read_chunk(items: list[tuple[str, str]]) -> list[tuple[str, list[dict[str, str | None]], list[str]]]:
    found = []
    for person, path in items:
        try:
            header, body = read_rows(path)
        except CohortError as error:
            found.append((person, [], list(error.faults)))
            continue
        lowered = [name.lower() for name in header]
        column = next((lowered.index(name) for name in SESSION_COLUMNS if name in lowered), None)
        if column is None:
            names = ", ".join(header)
            fault = f"{path}: got the columns {names}, expected session_id. Rename the column of sessions."
            found.append((person, [], [fault]))
            continue
        rows = [
            {name: cell for name, cell in zip(header, row, strict=True) if name}
            | {"session_id": bare_session(row[column])}
            for row in body
            if row[column]
        ]
        found.append((person, rows, []))
    return found


def read_scan_times(images: Sequence[Found]) -> list[Visit]:
    """Returns the sessions of one person's images with the times that scans.tsv gives, where it does."""
    visits = []
    for image in images:
        folder = os.path.dirname(os.path.dirname(image.path))
        prefix = "_".join(part for part in (image.participant_id, image.session_id) if part)
        try:
            header, body = read_rows(os.path.join(folder, f"{prefix}_scans.tsv"))
        except CohortError:  # No such file, for the most part; it only orders.
            continue
        if {"filename", "acq_time"} <= set(header):
            name, time = header.index("filename"), header.index("acq_time")
            own = f"anat/{os.path.basename(image.path)}"
            visits += [Visit(bare_session(image.session_id), row[time]) for row in body if row[name] == own]
    return visits
