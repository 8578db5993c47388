"""Faults and notes of a cohort's content: codes of sex, ages, excluded ids, paths. One line each, in words."""

import os
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from mrigen.data import tables
from mrigen.data.bids import WALKERS, bare_id
from mrigen.data.descriptions import as_years
from mrigen.data.sources import Source, exclude_keys, id_hint, listed
from mrigen.data.tables import same_value
from mrigen.errors import CohortError
from mrigen.imaging.volumes import read_grid
from mrigen.recipe import DataRecipe
from mrigen.system.names import name_fault, path_fault
from mrigen.system.wording import counted, limited, nearest, some

OR_EXCLUDE = "or exclude the subject with data.exclude."


def code_faults(data: DataRecipe) -> list[str]:
    """Returns a line for each code that data.sex_codes names for both sexes."""
    if not data.sex_codes:
        return []
    both = [code for code in data.sex_codes.F if any(same_value(str(code), other) for other in data.sex_codes.M)]
    return [f"data.sex_codes: got {code} for both F and M, expected one. Correct the lists." for code in both]


def column_faults(sources: list[Source], data: DataRecipe) -> list[str]:
    """Returns a line for each column that the recipe names itself (not a default) and that no table has."""
    lines = []
    known = list(dict.fromkeys(column for source in sources for column in source.raw.columns))
    for name in ("sex", "age", "site", "family"):
        asked = getattr(data, f"{name}_column")
        default = DataRecipe.model_fields[f"{name}_column"].default
        if asked != default and not any(source.columns[name] for source in sources):
            lines.append(
                f"data.{name}_column: got '{asked}', which no table of the cohort has. "
                f"Known columns: {listed(known)}.{nearest(asked, known)}"
            )
    if data.same_person and not any(source.columns["same_person"] for source in sources):
        lines.append(
            f"data.same_person: got '{data.same_person}', which no table of the cohort has. "
            f"Known columns: {listed(known)}.{nearest(data.same_person, known)}"
        )
    return lines


def exclude_faults(sources: list[Source], exclude: list[str]) -> list[str]:
    """Returns lines for entries of data.exclude that are nobody's id (one for all) or are ids in several cohorts."""
    lines, nobody = [], []
    for entry in exclude:
        matching = [source for source in sources if exclude_keys(entry, source.recipe.name) & source.people]
        if not matching:
            nobody.append(entry)
        elif len(matching) > 1:
            names = [source.recipe.name for source in matching]
            lines.append(
                f"data.exclude: got '{entry}', who is in the cohorts {' and '.join(names)}, expected one person. "
                f"Write {names[0]}.{entry} or {names[1]}.{entry}, or both."
            )
    if nobody:
        bare = bare_id(nobody[0])
        for source in sources:
            bare = bare_id(bare.removeprefix(f"{source.recipe.name}."))
        known = sorted({person for source in sources for person in source.people})
        what = f"'{nobody[0]}', which is nobody's id, expected a participant_id"
        if len(nobody) > 1:
            what = f"{len(nobody)} entries that are nobody's id ({some(nobody, 3)}), expected participant_ids"
        if os.path.isfile(nobody[0]):
            hint = " The name of a file of ids ends in .txt."
        else:
            hint = f"{id_hint(bare, known)}"
        lines.append(f"data.exclude: got {what} of the cohort ({some(known, 3)}). Correct it.{hint}")
    return limited(lines)


def name_faults(source: Source, images: pd.DataFrame) -> list[str]:
    """Returns a line for each path, id and session that cannot be written down; see `mrigen.system.names`."""
    place = source.table if source.is_list else source.folder
    lines = [
        f"{path}: got an image {fault}, expected printable UTF-8. Rename the file, {OR_EXCLUDE}"
        for path in images["path"]
        if (fault := path_fault(path))
    ]
    for column, what in (("bare_participant", "id"), ("session_id", "session")):
        names = dict.fromkeys(name for name in images[column] if isinstance(name, str))
        lines += [
            f"{place}: got the {what} '{name}', {fault}, expected one that can be written down. Rename it, {OR_EXCLUDE}"
            for name in names
            if (fault := name_fault(name))
        ]
    return limited(lines)


def path_faults(source: Source, images: pd.DataFrame) -> list[str]:
    """Returns a line for each image that is not there: a wrong path in a table, or a link to nothing in a folder."""
    if source.is_list:
        return limited(
            [
                f"{source.table}: got the path {path}, where there is no file. Correct the path (relative paths start "
                "at the table's folder), or exclude the subject with data.exclude."
                for path in images["path"]
                if not os.path.isfile(path)
            ]
        )
    return limited(
        [
            f"{path}: got a link to a missing file, expected an image. Fetch the content (datalad get, git annex get), "
            "or exclude the subject with data.exclude."
            for path in sorted(images["path"][images["broken"].astype(bool)])
        ]
    )


def head_faults(images: pd.DataFrame) -> list[str]:
    """Returns what the heads of images and masks say against them, one line a fault; their voxels are not read."""

    def faults_of(path: str) -> list[str]:
        try:
            read_grid(path)
        except CohortError as error:
            return list(error.faults)
        return []

    paths = [path for path in [*images["path"], *images["mask_path"].dropna()] if os.path.exists(path)]
    with ThreadPoolExecutor(WALKERS) as walkers:
        return [fault for found in walkers.map(faults_of, dict.fromkeys(paths)) for fault in found]


def sex_faults(source: Source, images: pd.DataFrame, data: DataRecipe) -> list[str]:
    """Returns a line for codes of sex that are not understood, and for codes that two sources explain differently."""
    place = source.place("sex")
    lines = []
    for code, sex in source.levels.items() if data.sex_codes else ():
        said = {name for name, codes in data.sex_codes.model_dump().items() if any(same_value(code, c) for c in codes)}
        if said and sex and sex not in said:
            lines.append(
                f"{place}: got {code} for {said.pop()} from data.sex_codes, but for {sex} from the dataset's own "
                "JSON beside it, expected one meaning. "
                "Correct the wrong one."
            )
    different = images.dropna(subset=["sex"]).groupby("participant_id")["sex"].nunique()
    lines += limited(
        [
            f"{place}: got both F and M for {person}, expected one sex a person. Correct the table."
            for person in different.index[different > 1]
        ]
    )
    people = images.drop_duplicates("participant_id")
    unknown = people["sex_cell"][people["sex_unknown"]].value_counts()
    if unknown.empty:
        return lines
    found = listed([f"{code} ({counted(number, 'person', 'people')})" for code, number in unknown.items()])
    if data.sex_codes:
        lines.append(
            f"{place}: got {found}, which data.sex_codes does not name (F: {data.sex_codes.F}, M: {data.sex_codes.M}). "
            "Add the codes there, or write n/a in the table where the sex is not known."
        )
    elif any(tables.as_number(code) is not None for code in unknown.index):
        lines.append(
            f"{place}: got the codes {found}, expected words (F, M, female, male). Codes are never guessed: look up "
            "what they mean and say it in the recipe, for example data.sex_codes: {F: [2], M: [1]}."
        )
    else:
        lines.append(
            f"{place}: got {found}, expected F, M, female, male or n/a. Correct the table, or name the words in the "
            "recipe, for example data.sex_codes: {F: [femme], M: [homme]}."
        )
    return lines


def sex_notes(source: Source, images: pd.DataFrame) -> list[str]:
    """Returns a line about people whose code the dataset itself explains as neither female nor male."""
    people = images.drop_duplicates("participant_id")
    neither = people[people["sex"].isna() & people["sex_cell"].notna() & ~people["sex_unknown"]]
    levels = [code for code, sex in source.levels.items() if sex is None]
    codes = [code for code in neither["sex_cell"].unique() if any(same_value(code, level) for level in levels)]
    if not codes:
        return []
    entry = source.describe(source.columns["sex"] or "")
    texts = next((value for key, value in entry.items() if key.lower() == "levels"), {})
    shown = []
    for code in codes:
        text = next((text for level, text in texts.items() if same_value(code, level)), "")
        text = text.get("Description", "") if isinstance(text, dict) else text
        number = counted(int((neither["sex_cell"] == code).sum()), "person", "people")
        shown.append(f"{code} ('{_short(text)}', {number})")
    return [
        f"{source.place('sex')}: {listed(shown)}: neither female nor male by the dataset's own levels; they train the "
        "model, and are left out of a probe of sex. Say what they mean with data.sex_codes if that is wrong."
    ]


def _short(text) -> str:
    """Returns the first words of a text."""
    text = " ".join(str(text).split())
    return text if len(text) <= 40 else text[:37] + "..."


def age_faults(source: Source, images: pd.DataFrame, oldest: float) -> tuple[list[str], list[str]]:
    """Returns faults and notes: some ages that are no years are noted; if none is, the column is wrong (a fault)."""
    given = images["age_cell"].notna()
    bad = images["age_cell"][given & images["age"].isna()]
    if bad.empty:
        return [], []
    place = source.place("age")
    shown = ", ".join(limited([f"'{cell}'" for cell in bad.unique()], 5))
    unit = f" in {source.unit}" if source.unit != "years" else ""
    old = (number for number in map(as_years, bad) if number is not None)
    hint = ""
    if not unit and any(number > oldest for number in old):
        json = os.path.splitext(os.path.basename(source.table or "participants.tsv"))[0] + ".json"
        hint = f' If they are months, say so in {json}: {{"{source.columns["age"]}": {{"Units": "months"}}}}.'
    if len(bad) == given.sum():
        return [
            f"{place}: got {shown}{unit}, expected years from 0 to {oldest:g} with a decimal point. "
            f"Correct the column, or name another with data.age_column.{hint}"
        ], []
    ages = counted(len(bad), "age", "ages")
    return [], [f"{place}: {ages} not in years from 0 to {oldest:g} ({shown}{unit}), taken as missing.{hint}"]


def scan_id_faults(images: pd.DataFrame) -> list[str]:
    """Returns a line for each two images whose ids become one file name."""
    twice = images[images["scan_id"].duplicated(keep=False)].groupby("scan_id")["path"].apply(list)
    return limited(
        [
            f"{paths[0]}: got the id {scan_id} also for {paths[1]}, expected different ids (letters, digits, . + - _ "
            "are kept). Rename one."
            for scan_id, paths in twice.items()
        ]
    )


def case_notes(images: pd.DataFrame) -> list[str]:
    """Returns a line about ids that are one file name where a disk does not tell A from a."""
    ids = images["scan_id"].drop_duplicates()
    alike = ids[ids.str.casefold().duplicated(keep=False)]
    if alike.empty:
        return []
    return [
        f"{len(alike)} ids differ in case alone ({some(sorted(alike, key=str.casefold), 4)}): on a disk that does not "
        "tell A from a, what is written of one replaces what is written of the other."
    ]
