"""Who is in the cohort: one row an image, from BIDS folders, tables or plain folders."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data import bids, faults, tables
from mrigen.data.descriptions import UNITS, as_years
from mrigen.data.joining import join_tables
from mrigen.data.kinds import NO_KIND, kind_note, kind_of, parse_stem
from mrigen.data.masks import find_masks
from mrigen.data.persons import PERSON, join_persons, person_faults, person_notes
from mrigen.data.sources import Source, listed, read_source
from mrigen.data.summary import summarise
from mrigen.data.tables import find_column
from mrigen.errors import CohortError
from mrigen.recipe import CohortRecipe, DataRecipe
from mrigen.system.names import safe_name
from mrigen.system.wording import counted, limited, nearest

COLUMNS = (
    "scan_id",
    "participant_id",
    "session_id",
    "cohort",
    "path",
    "mask_path",
    "sex",
    "age",
    "site",
    "family",
    "visit",
)
# What data.where may ask for where no table has it.
WHERE_COLUMNS = ("participant_id", "session_id", "cohort", "sex", "age", "site", "family")
OLDEST = 120.0  # years


@dataclasses.dataclass(frozen=True)
class Cohort:
    """The images to use, and who they show.

    Attributes:
        table: one row an image, sorted by scan_id. Columns, in this order:
            scan_id: str, unique, safe as a file name. The participant_id; with `_ses-x` and `_run-y` where several
                images of the person are kept.
            participant_id: str, as the dataset writes it; `<cohort>.` in front where there are several cohorts.
            session_id: str or None.
            cohort: name of the cohort.
            path: absolute path of the image.
            mask_path: absolute path of the mask, or None.
            sex: 'F', 'M' or None.
            age: years, float64, NaN where missing.
            site: str; the cohort's name where nothing is known.
            family: str or None; `<cohort>.` in front where there are several cohorts.
            visit: int, 0-based order of the image among the person's images.
            person: str, only where `data.same_person` is given: one for all ids of a person, `<cohort>.` in front where
                there are several cohorts. Ids of one person have one family.
            Then the other columns of the tables under their own names: float64 where every value is a number, else
            str with None where missing.
        notes: lines for the log about what was left out or is missing.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """Returns lines `name: what is there`: people and images, sex, age, site, masks, sessions, family."""
        return summarise(self.table)


def index_cohort(data: DataRecipe) -> Cohort:
    """Returns the people and images that a recipe's `data` section names; reads names and tables only (and, where an
    image or a mask cannot be used, the heads of all files, so that all that cannot be are told together).

    `data.root`, or the root of each of `data.cohorts`, is a BIDS folder (or a derivative), a TSV or CSV with a column
    of paths (path, file, filename, image, t1 or t1w, in any case), or a plain folder of NIfTI. The order of work: find
    images, join participants.tsv, leave out `data.exclude`, keep `data.where`, order and choose the visits, find
    masks. So faults of people who are left out are no faults. `data.source` is not looked at.

    The masks of a table are its column `mask`, or the column that `data.mask` names.

    Raises:
        CohortError: all faults found, one line each (at most 20 of a kind, then a count).
    """
    sources, lines = [], faults.code_faults(data)
    for recipe in data.cohorts or _short_form(data):
        try:
            source = read_source(recipe, data)
            join_tables(source, data)
            sources.append(source)
        except CohortError as error:
            lines += error.faults
    if lines:
        raise CohortError(lines)
    lines += faults.column_faults(sources, data) + faults.exclude_faults(sources, data.exclude)
    for source in sources:
        lines += source.faults
    several = len(sources) > 1
    images = pd.concat([_standard(source, data, several) for source in sources], keys=range(len(sources)))
    raw = pd.concat([source.raw for source in sources], keys=range(len(sources))).astype(object)
    raw = raw.where(raw.notna(), None)
    if images.empty:
        raise CohortError([*lines, "data.exclude: got every person of the cohort, expected some to stay. Shorten it."])
    kept, where_faults = _matching(images, raw, data.where)
    lines += where_faults
    if not kept.any():
        raise CohortError(lines)
    standard = (*COLUMNS, PERSON) if data.same_person else COLUMNS
    if data.same_person:
        images = join_persons(images)
    images, visit_notes = _order_visits(images[kept], data.visits)
    notes = [note for source in sources for note in source.notes] + visit_notes
    masks = pd.Series(None, index=images.index, dtype=object)
    unfit: list[str] = []
    for number, source in enumerate(sources):
        own = images[images.index.get_level_values(0) == number]
        unfit += faults.name_faults(source, own) + faults.path_faults(source, own)
        lines += faults.sex_faults(source, own, data)
        age_faults, age_notes = faults.age_faults(source, own, OLDEST)
        found, mask_faults = find_masks(source, own.assign(row=own.index.get_level_values(1)))
        masks[own.index] = pd.Series(found, index=own.index, dtype=object)
        lines += age_faults
        unfit += mask_faults
        notes += faults.sex_notes(source, own) + age_notes
    images["mask_path"] = masks.where(masks.notna(), None)
    images["scan_id"] = _scan_ids(images)
    lines += faults.scan_id_faults(images)
    notes += faults.case_notes(images)
    if data.same_person:
        lines += person_faults(images)
        notes += person_notes(images)
    if unfit:  # Nobody is to find out one by one.
        lines += unfit + faults.head_faults(images)
    if lines:
        raise CohortError(lines)
    own_columns, column_notes = _own_columns(raw.loc[images.index], sources, standard)
    table = pd.concat([images[list(standard)], own_columns], axis=1)
    return Cohort(table.sort_values("scan_id").reset_index(drop=True), tuple(notes + column_notes))


def check_cohort(data: DataRecipe) -> None:
    """Refuses a cohort of files that cannot be used, before TensorFlow is loaded for it; reads no voxels.

    Raises:
        CohortError: see `index_cohort`.
    """
    if data.source == "files":
        index_cohort(data)


def _short_form(data: DataRecipe) -> list[CohortRecipe]:
    if not data.root:
        raise CohortError(
            "data.root: got null, expected a cohort. Name a folder (`data.root=/data/my-bids`), "
            "or use the synthetic cohort (`data.source=phantom`)."
        )
    root = Path(os.path.abspath(os.path.expanduser(data.root)))
    name = root.stem if root.suffix.lower() in tables.TABLE_SUFFIXES else root.name
    return [CohortRecipe(name=name or "cohort", root=data.root, mask=data.mask)]


def _standard(source: Source, data: DataRecipe, several: bool) -> pd.DataFrame:
    """The columns of the cohort's table that do not depend on other rows, and the cells they come from."""
    name = source.recipe.name
    prefix = f"{name}." if several else ""

    def cells(key: str) -> pd.Series:
        column = source.columns[key]
        chosen = source.raw[column] if column else pd.Series(None, index=source.raw.index, dtype=object)
        return chosen.astype(object).where(chosen.notna(), None)

    codes = data.sex_codes.model_dump() if data.sex_codes else None
    sex, sex_unknown = tables.understand_sex(cells("sex"), codes, source.levels)
    images = source.images
    columns = {
        "bare_participant": images["participant_id"],
        "participant_id": [prefix + participant_id for participant_id in images["participant_id"]],
        "session_id": images["session_id"].where(images["session_id"].notna(), None),
        "cohort": name,
        "stem": images["stem"],
        "path": images["path"],
        "broken": images["broken"],
        "place": source.order["place"].reindex(images.index).astype(float),
        "told": source.order["told"].reindex(images.index, fill_value="name"),
        "sex": sex,
        "sex_cell": cells("sex"),
        "age_cell": cells("age"),
        "site": [name if site is None else site for site in cells("site")],
        "family": [None if family is None else prefix + family for family in cells("family")],
    }
    if data.same_person:
        columns[PERSON] = [None if person is None else prefix + bids.bare_id(person) for person in cells("same_person")]
        columns["own"] = [prefix + bids.bare_id(participant_id) for participant_id in images["participant_id"]]
    standard = pd.DataFrame(columns, index=images.index, dtype=object)
    standard["sex_unknown"] = sex_unknown.astype(bool)
    years = pd.Series(UNITS[source.unit], index=images.index)
    years[source.session_aged] = UNITS[source.session_unit or source.unit]
    cells_and_years = zip(standard["age_cell"], years, strict=True)
    standard["age"] = np.array([_age(cell, unit) for cell, unit in cells_and_years], dtype=np.float64)
    return standard


def _age(cell: str | None, years: float) -> float:
    number = as_years(cell, years)
    return number if number is not None and 0 <= number <= OLDEST else np.nan


def _matching(images: pd.DataFrame, raw: pd.DataFrame, where: dict) -> tuple[pd.Series, list[str]]:
    """Which rows match all of data.where. A cell matches as the table writes it, or as mrigen understands it; what no
    table has may be a word of the file names (space, ce, acq, ...)."""
    kept = pd.Series(True, index=images.index)
    lines, values = [], []
    named = [parse_stem(stem)[0] if stem.startswith("sub-") else {} for stem in images["stem"]] if where else []
    entities = sorted({key for entity in named for key in entity if key == "run" or key not in NO_KIND})
    for name, wanted in where.items():
        wanted = wanted if isinstance(wanted, list) else [wanted]
        own = find_column(raw, name)
        columns = ([raw[own]] if own else []) + ([images[name]] if name in WHERE_COLUMNS else [])
        if not columns and name in entities:
            columns = [pd.Series([entity.get(name) for entity in named], index=images.index, dtype=object)]
        if not columns:
            known = list(dict.fromkeys([*raw.columns, *WHERE_COLUMNS, *entities]))
            lines.append(
                f"data.where: got the column '{name}', which no table of the cohort has. "
                f"Known columns: {listed(known)}.{nearest(name, known)}"
            )
            continue
        matches = pd.Series(False, index=images.index)
        for column in columns:
            # Cells are compared once for each different value, not once for each row.
            texts = {cell: None if pd.isna(cell) else str(cell) for cell in column.unique()}
            fitting = {cell for cell, text in texts.items() if any(tables.same_value(text, value) for value in wanted)}
            matches |= column.isin([cell for cell in fitting if texts[cell] is not None])
            if any(texts[cell] is None for cell in fitting):
                matches |= column.isna()
        kept &= matches
        counts = columns[0].fillna("n/a").value_counts()
        shown = limited([f"{value} ({number})" for value, number in counts.items()], 10)
        values.append(f"Values of {name}: {', '.join(shown)}.")
    if not lines and not kept.any():
        got = ", ".join(f"{name}: {wanted}" for name, wanted in where.items())
        people = counted(images["participant_id"].nunique(), "person", "people")
        lines.append(
            f"data.where: got {{{got}}}, which fits none of {people}. {' '.join(values)} "
            "Change data.where to keep some."
        )
    return kept, lines


def _order_visits(images: pd.DataFrame, visits: str) -> tuple[pd.DataFrame, list[str]]:
    """Orders each person's images by session (what the tables say, else natural order) and name, numbers them, and
    keeps what is asked for."""
    keys = [
        (
            image.participant_id,
            np.inf if np.isnan(image.place) else image.place,
            bids.natural_key(image.session_id),
            bids.natural_key(image.stem),
            image.path,
        )
        for image in images.itertuples()
    ]
    images = images.iloc[sorted(range(len(keys)), key=keys.__getitem__)].copy()
    images["visit"] = images.groupby("participant_id").cumcount().astype(int)
    several = images[images["participant_id"].isin(images["participant_id"][images["visit"] == 1])]
    first = images[images["visit"] == 0]
    notes = []
    if visits == "first" and len(several):
        taken = several[several["visit"] == 0]
        people = counted(len(taken), "person has", "people have")
        sessions = taken["session_id"].value_counts()
        shown = [f"{name} of {counted(number, 'person', 'people')}" for name, number in sessions.items()]
        shown = f": {', '.join(limited(shown, 6))}" if shown else ""
        notes.append(
            f"{people} several images; the first session and run is taken (data.visits: first){shown}. "
            f"{_order_note(several, taken)}"
        )
    if visits == "all" and len(several):
        alike = several.groupby("participant_id")[["session_id", "age"]].nunique(dropna=True)
        alike = int(((alike["session_id"] > 1) & (alike["age"] == 1)).sum())
        if alike:
            people = counted(alike, "person has", "people have")
            notes.append(f"{people} one age for all sessions: no table gives the age at each session.")
    repeated = images[_key(images).duplicated(keep=False)]
    variants = Counter(kind_of(stem) for stem in repeated["stem"])
    if len(variants) > 1:
        shown = ", ".join(f"{name or 'plain'} ({number})" for name, number in variants.most_common(6))
        notes.append(f"Some sessions hold different kinds of image, which count as runs in order of name: {shown}.")
    images = first.copy() if visits == "first" else images
    return images, notes + kind_note(images["stem"].tolist())


def _order_note(several: pd.DataFrame, taken: pd.DataFrame) -> str:
    """Says what told the order of sessions, of the people who have several."""
    with_sessions = several.groupby("participant_id")["session_id"].nunique() > 1
    told = taken["told"][taken["participant_id"].isin(with_sessions.index[with_sessions])].value_counts()
    if told.empty:
        return "Runs are ordered by name."
    words = {"acq_time": "acquisition time", "age": "age", "rows": "the rows of the table", "name": "name alone"}
    people = [f"{words[name]} ({counted(number, 'person', 'people')})" for name, number in told.items()]
    return f"Sessions are ordered by {', '.join(people)}."


def _key(images: pd.DataFrame) -> pd.Series:
    """Person and session as one str."""
    sessions = images["session_id"].fillna("").astype(object)
    return images["participant_id"] + "\t" + sessions


def _scan_ids(images: pd.DataFrame) -> pd.Series:
    """participant_id, with session and run where the person has several images; safe as a file name."""
    ids = images["participant_id"].copy()
    several = images[ids.duplicated(keep=False)]
    if len(several):
        keys = _key(several)
        runs = pd.Series([parse_stem(stem)[0].get("run", "") for stem in several["stem"]], index=several.index)
        # The runs' own numbers where they tell the images of a session apart; otherwise their order.
        ambiguous = (keys + "\t" + runs).duplicated(keep=False) | (runs == "")
        ambiguous = ambiguous.groupby(keys).transform("any")
        order = (keys.groupby(keys).cumcount() + 1).astype(str)
        run_parts = ("_run-" + runs.where(~ambiguous, order)).where(keys.duplicated(keep=False), "")
        session_parts = [f"_ses-{bids.bare_session(name)}" if name else "" for name in several["session_id"]]
        ids[several.index] = several["participant_id"] + session_parts + run_parts
    return pd.Series([safe_name(scan_id) for scan_id in ids], index=images.index, dtype=object)


def _own_columns(raw: pd.DataFrame, sources: list[Source], standard: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The tables' other columns, as numbers where all are numbers; names that mrigen uses itself are left out."""
    used = {name for source in sources for name in (*source.used, *source.columns.values())}
    notes = [
        f"The tables' column '{name}' is not kept, because mrigen uses this name."
        for name in raw.columns
        if name in standard and name not in used
    ]
    dropped = {*standard, *(name for source in sources for name in source.used)}
    kept = [name for name in raw.columns if name not in dropped]
    return pd.DataFrame({name: tables.as_numbers(raw[name]) for name in kept}, index=raw.index), notes
