"""Who trains, who validates, who is held out: by person, families together, alike in sex, age and site."""

import os

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mrigen.data.bids import bare_id
from mrigen.data.tables import find_column, read_table
from mrigen.errors import CohortError
from mrigen.recipe import SplitRecipe
from mrigen.system.wording import counted, limited, nearest, some

SPLITS = ("train", "validation", "heldout")
NUM_AGE_GROUPS = 4
MISSING = "n/a"


def split_subjects(table: pd.DataFrame, split: SplitRecipe) -> pd.DataFrame:
    """Returns who is in which split.

    People are divided, not images. People of one family (column `family`, also through a third person) stay
    together. The sizes are as near to the fractions as whole families allow, and every split with a fraction above 0
    has somebody. Sex, age and site are spread alike as far as the numbers allow. The result depends on who is in the
    table and on `split.seed`, not on the order of rows. With `split.file`, the result is that file, checked.

    Args:
        table: a cohort's table: participant_id; sex, age in years, site, family and visit as far as there are any.
        split: fractions and seed, or a file.

    Returns:
        columns participant_id and split ('train', 'validation' or 'heldout'), one row a person, sorted.

    Raises:
        CohortError: fewer than 3 people, fewer families than splits, or the file is not valid for this cohort.
    """
    if split.file is not None:
        return read_split(split.file, table)
    people = _people(table)
    fractions = np.array([getattr(split, name) for name in SPLITS])
    if len(people) < 3:
        raise CohortError(
            f"cohort: got {counted(len(people), 'person', 'people')}, expected at least 3 to divide. "
            "Add people, or relax data.where."
        )
    families = _families(table, people.index)
    needed = int((fractions > 0).sum())
    num_families = int(families.max()) + 1
    if num_families < needed:
        raise CohortError(
            f"data.split: got {counted(num_families, 'family', 'families')} of {len(people)} people, expected at least "
            f"{needed} to fill {needed} splits. Add people, or set the fraction of a split to 0."
        )
    assigned = _divide(_strata(people), families, fractions, np.random.default_rng(split.seed))
    return pd.DataFrame({"participant_id": people.index.to_numpy(), "split": np.array(SPLITS, dtype=object)[assigned]})


def read_split(path: str | os.PathLike, table: pd.DataFrame) -> pd.DataFrame:
    """Returns the split in a file, checked against the cohort.

    Args:
        path: TSV or CSV with the columns participant_id (with or without `sub-`) and split.
        table: a cohort's table: participant_id, and family if there is one.

    Returns:
        columns participant_id (as in `table`) and split, one row a person, sorted.

    Raises:
        CohortError: all faults together: a person of the cohort who is missing or there twice, an id that is not of
            the cohort, an unknown split, nobody to train, a family that is divided, or an unreadable file.
    """
    rows = read_table(path)
    person, name = find_column(rows, "participant_id"), find_column(rows, "split")
    if person is None or name is None:
        raise CohortError(
            f"{path}: got the columns {', '.join(rows.columns) or 'none'}, expected participant_id and split. "
            "Rename them."
        )
    people = sorted(table["participant_id"].unique())
    # Where 01 and sub-01 are two people, ids are taken as they are.
    plain = bare_id if len({bare_id(participant) for participant in people}) == len(people) else str
    known = {plain(participant): participant for participant in people}
    rows = rows.assign(key=rows[person].fillna(MISSING).map(plain), split=rows[name].fillna(MISSING))
    is_known = rows["key"].isin(set(known))
    faults = []
    strangers = list(dict.fromkeys(rows["key"][~is_known]))
    if strangers:
        who = f"{strangers[0]}, who is not in the cohort"
        if len(strangers) > 1:
            who = f"{len(strangers)} people who are not in the cohort ({some(strangers, 3)})"
        faults.append(
            f"{path}: got {who}, expected only people of it ({some(people, 3)}). "
            f"Remove the rows, or change data.where or data.exclude.{nearest(strangers[0], known)}"
        )
    counts = rows["key"][is_known].value_counts(sort=False)
    faults += limited(
        [
            f"{path}: got {number} rows for {known[key]}, expected one. Remove the others."
            for key, number in counts[counts > 1].items()
        ]
    )
    lost = [known[key] for key in sorted(set(known) - set(rows["key"]))]
    if lost:
        who = lost[0] if len(lost) == 1 else f"{len(lost)} people ({some(lost, 3)})"
        faults.append(f"{path}: got no row for {who}, expected one for everybody in the cohort. Add the rows.")
    strange = rows["split"][~rows["split"].isin(SPLITS)].value_counts(sort=False)
    faults += limited(
        [
            f"{path}: got the split '{word}' in {counted(number, 'row', 'rows')}, expected {', '.join(SPLITS)}. "
            f"Rename it.{nearest(word, SPLITS)}"
            for word, number in strange.items()
        ]
    )
    if "train" not in set(rows["split"]):
        faults.append(f"{path}: got nobody in the split train, expected somebody. Put people into it.")
    rows = rows[is_known & rows["split"].isin(SPLITS)]
    result = pd.DataFrame({"participant_id": rows["key"].map(known).astype(object), "split": rows["split"]})
    faults += [f"{path}: {fault}" for fault in _divided_families(table, result)]
    if faults:
        raise CohortError(faults)
    return result.sort_values("participant_id").reset_index(drop=True).astype(object)


def check_split(table: pd.DataFrame, split: pd.DataFrame) -> None:
    """Makes sure that no person and no family is in two splits.

    Args:
        table: a cohort's table: participant_id, and family if there is one.
        split: columns participant_id and split.

    Raises:
        CohortError: one line for each person and each family in several splits.
    """
    different = split.drop_duplicates(["participant_id", "split"])
    faults = []
    for person, rows in different[different["participant_id"].duplicated(keep=False)].groupby("participant_id"):
        faults.append(f"split: got {person} in {' and '.join(sorted(rows['split']))}, expected one split. Remove one.")
    faults = limited(faults) + [f"split: {fault}" for fault in _divided_families(table, split)]
    if faults:
        raise CohortError(faults)


def _divided_families(table: pd.DataFrame, split: pd.DataFrame) -> list[str]:
    if "family" not in table:
        return []
    members = table.loc[table["family"].notna(), ["participant_id", "family"]].drop_duplicates()
    members = members.merge(split[["participant_id", "split"]].drop_duplicates(), on="participant_id")
    divided = members.groupby("family")["split"].nunique()
    faults = []
    for family in divided[divided > 1].index:
        of_family = members[members["family"] == family].sort_values(["split", "participant_id"])
        shown = ", ".join(limited([f"{row.participant_id} ({row.split})" for row in of_family.itertuples()], 6))
        faults.append(f"got the family {family} divided: {shown}; expected one split. Move them together.")
    return limited(faults)


def _people(table: pd.DataFrame) -> pd.DataFrame:
    """One row a person (the first visit), by participant_id in sorted order: sex, age, site."""
    order = [name for name in ("participant_id", "visit", "scan_id") if name in table]
    columns = [name for name in ("sex", "age", "site") if name in table]
    people = table.sort_values(order, kind="stable").drop_duplicates("participant_id")
    return people.set_index("participant_id")[columns]


def _families(table: pd.DataFrame, people: pd.Index) -> np.ndarray:
    """The number of each person's family, (people,) int: whoever is linked by family names, through others too."""
    if "family" not in table or table["family"].notna().sum() == 0:
        return np.arange(len(people))
    linked = table.loc[table["family"].notna(), ["participant_id", "family"]]
    names, codes = np.unique(linked["family"].astype(str), return_inverse=True)
    rows = people.get_indexer(linked["participant_id"])
    size = len(people) + len(names)
    graph = coo_array((np.ones(len(rows)), (rows, len(people) + codes)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][: len(people)]
    return np.unique(labels, return_inverse=True)[1]


def _strata(people: pd.DataFrame) -> np.ndarray:
    """What should be spread alike: (people, labels) bool. Site x sex x age first, then each pair, then each alone."""
    factors = {}
    if "site" in people:
        factors["site"] = people["site"].fillna(MISSING).astype(str)
    if "sex" in people:
        factors["sex"] = people["sex"].fillna(MISSING).astype(str)
    if "age" in people:
        ranks = people["age"].rank(method="average", pct=True)
        groups = np.ceil(ranks * NUM_AGE_GROUPS).clip(1, NUM_AGE_GROUPS)
        factors["age"] = groups.map(lambda group: MISSING if np.isnan(group) else f"{group:.0f}")
    combinations = [("site", "sex", "age"), ("site", "sex"), ("sex", "age"), ("site",), ("sex",), ("age",)]
    columns: list[np.ndarray] = []
    for names in combinations:
        if all(name in factors for name in names):
            values = pd.Series(list(zip(*(factors[name] for name in names), strict=True)), dtype=object)
            codes, found = pd.factorize(values)
            columns += [codes == number for number in range(len(found))]
    return np.array(columns, dtype=bool).reshape(len(columns), len(people)).T


def _targets(total: int, fractions: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to `total`, as near to the fractions as can be, at least 1 where a fraction is above 0."""
    exact = total * fractions
    sizes = np.floor(exact + 1e-9).astype(int)
    for number in np.argsort(-(exact - sizes), kind="stable")[: total - sizes.sum()]:
        sizes[number] += 1
    for number in np.flatnonzero((fractions > 0) & (sizes == 0)):
        sizes[np.argmax(sizes)] -= 1
        sizes[number] += 1
    return sizes


def _divide(strata: np.ndarray, families: np.ndarray, fractions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the number of each person's split, (people,) int.

    scikit-learn's StratifiedGroupKFold makes k equal parts, and GroupShuffleSplit does not stratify; neither gives
    70/10/20 with whole families and even sexes. This is minimisation (Pocock and Simon 1975, Biometrics 31:103) with
    several unequal arms: families come one after the other, the largest first, else at random; each goes where its
    strata are filled least, relative to what each split should have, among the splits with room for it.
    """
    sizes = _targets(len(families), fractions)
    shares = np.where(sizes > 0, sizes / sizes.sum(), np.nan)
    counts = np.bincount(families)
    totals = strata.sum(axis=0)
    members = np.split(np.argsort(families, kind="stable"), np.cumsum(counts)[:-1])
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order], kind="stable")]
    room = sizes.astype(float)
    filled = np.zeros((len(fractions), strata.shape[1]))
    assigned = np.empty(len(families), dtype=int)
    for number, family in enumerate(order):
        rows = members[family]
        own = np.flatnonzero(strata[rows].any(axis=0))
        weights = strata[rows][:, own].sum(axis=0)
        surplus = (filled[:, own] / shares[:, None] - totals[own]) @ weights
        # Without strata (no sex, age or site) it is the room that decides.
        surplus = np.where(np.isnan(surplus), np.inf, surplus - room / shares * 1e-6)
        empty = (fractions > 0) & (room == sizes)
        if empty.sum() >= len(order) - number:
            fits = empty  # The last families, which are the smallest, fill what would else stay empty.
        elif (room >= len(rows)).any():
            fits = room >= len(rows)
        else:
            fits = room == room.max()
        allowed = np.where(fits, surplus, np.inf)
        best = np.flatnonzero(allowed <= allowed.min() + 1e-9)
        chosen = best[0] if len(best) == 1 else rng.choice(best, p=shares[best] / shares[best].sum())
        assigned[rows] = chosen
        room[chosen] -= len(rows)
        filled[chosen, own] += weights
    return assigned
