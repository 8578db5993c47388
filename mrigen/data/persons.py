"""Who was scanned several times: sessions of one id, or several ids that are one person (`data.same_person`)."""

import numpy as np
import pandas as pd

from mrigen.system.wording import counted, limited, some

# Column of a cohort's table, where `data.same_person` is given.
PERSON = "person"


def join_persons(images: pd.DataFrame) -> pd.DataFrame:
    """Returns the images with everybody's `person` filled in, and one family for all ids of a person.

    Args:
        images: participant_id; own, the id as it would be named by another row; person, what the table says of who it
            is, or None: ids with one value are one person, and so is the id that has this name; family, str or None.

    Returns:
        the same rows; person is the first id of each person. Families are those of before, but for those that several
        ids of a person join.

    Example:
        >>> images = pd.DataFrame({"participant_id": ["sub-1", "sub-2", "sub-3"], "own": ["1", "2", "3"]})
        >>> joined = join_persons(images.assign(person=[None, "1", None], family=None))
        >>> joined["person"].tolist(), joined["family"].tolist()
        (['sub-1', 'sub-1', 'sub-3'], ['sub-1', 'sub-1', None])
    """
    ids, named, own = images["participant_id"], images[PERSON], images["own"]
    groups = _linked(ids, named, own.where(own.isin(named.dropna())))
    person = ids.groupby(groups).transform("min")
    several = ids.groupby(groups).transform("nunique") > 1
    families = images["family"].where(images["family"].notna(), None)
    linked = _linked(person, families)
    joined = several.groupby(linked).transform("any").astype(bool)
    known = families.groupby(linked).transform(lambda names: names.dropna().min() if names.notna().any() else None)
    name = known.where(known.notna(), person.groupby(linked).transform("min"))
    families = families.where(~joined, name)
    return images.assign(**{PERSON: person, "family": families.astype(object).where(families.notna(), None)})


def person_faults(images: pd.DataFrame) -> list[str]:
    """Returns a line for each person whose ids have different sexes: participant_id, person, sex."""
    different = images.dropna(subset=["sex"]).groupby(PERSON)["sex"].nunique()
    ids = images.groupby(PERSON)["participant_id"].unique()
    return limited(
        [
            f"data.same_person: got both F and M for the ids of one person ({some(list(ids[person]), 3)}), expected "
            "one sex a person. Correct the column, or the sexes."
            for person in different.index[different > 1]
            if len(ids[person]) > 1
        ]
    )


def person_notes(images: pd.DataFrame) -> list[str]:
    """Returns a line that says how many people have several ids: participant_id, person."""
    ids = images.groupby(PERSON)["participant_id"].nunique()
    several = counted(int((ids > 1).sum()), "person has", "people have")
    return [f"{several} several ids (data.same_person), {int(ids[ids > 1].sum())} in all; each is one family."]


def persons_of(table: pd.DataFrame, same_person: str | None) -> np.ndarray:
    """Returns who is seen in each image of a cohort's table, (rows,) str: the person, else the participant_id.

    Args:
        same_person: `data.same_person` of the cohort's recipe.
    """
    name = PERSON if same_person and PERSON in table else "participant_id"
    return table[name].to_numpy(dtype=str)


def _linked(first: pd.Series, *others: pd.Series) -> pd.Series:
    """Returns the number of the group of each row: rows with a value of `first`, or of the others, in common, also
    through further rows; None links nobody. Values of the others count as one kind."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, names = len(first), pd.concat([first.map(lambda value: (0, value)), *[_tagged(other) for other in others]])
    codes, values = pd.factorize(names.to_numpy(dtype=object), use_na_sentinel=True)
    known = np.flatnonzero(codes >= 0)
    size = rows + len(values)
    graph = coo_array((np.ones(len(known)), (known % rows, rows + codes[known])), shape=(size, size))
    return pd.Series(connected_components(graph, directed=False)[1][:rows], index=first.index)


def _tagged(values: pd.Series) -> pd.Series:
    return pd.Series([None if pd.isna(value) else (1, value) for value in values], index=values.index, dtype=object)
