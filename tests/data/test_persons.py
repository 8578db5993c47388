"""Several ids that are one person: they are known as one, and no split divides them."""

import numpy as np
import pandas as pd
import pytest

from mrigen.data.cohort import COLUMNS, index_cohort
from mrigen.data.persons import join_persons, persons_of
from mrigen.data.splits import split_subjects
from mrigen.errors import CohortError
from mrigen.quality.checking import unrelated_copies
from mrigen.quality.copies import Copy
from mrigen.recipe import DataRecipe, SplitRecipe

TABLE = """participant_id sex age family code
sub-01 F 30 n/a a
sub-02 F 31 n/a a
sub-03 M 40 n/a b
sub-04 M 41 k n/a
sub-05 F 20 k c
sub-06 F 21 l c
sub-07 M 50 l n/a
sub-08 M 50 n/a n/a
"""


def study(root, table=TABLE):
    people = [line.split()[0] for line in table.splitlines()[1:]]
    for person in people:
        folder = root / person / "anat"
        folder.mkdir(parents=True)
        (folder / f"{person}_T1w.nii.gz").touch()
    (root / "dataset_description.json").touch()
    (root / "participants.tsv").write_text(table.replace(" ", "\t"))
    return root


def index(root, **keys):
    return index_cohort(DataRecipe(root=str(root), **keys)).table


@pytest.fixture
def joined(tmp_path):
    return index(study(tmp_path / "s"), same_person="code")


def test_ids_of_one_value_are_one_person(joined):
    assert joined["person"].tolist() == [f"sub-0{n}" for n in (1, 1, 3, 4, 5, 5, 7, 8)]


def test_it_is_said_how_many_people_have_several_ids(tmp_path):
    notes = index_cohort(DataRecipe(root=str(study(tmp_path / "s")), same_person="code")).notes
    assert "2 people have several ids (data.same_person), 4 in all; each is one family." in notes


def test_ids_of_one_person_are_one_family_with_all_relatives(joined):
    assert joined["family"].tolist() == ["sub-01", "sub-01", None, "k", "k", "k", "k", None]


def test_visits_of_the_first_person_are_linked_too():
    images = pd.DataFrame({"participant_id": ["sub-1", "sub-1", "sub-2"], "own": ["1", "1", "2"], "family": None})
    joined = join_persons(images.assign(person=[None, "2", None]))
    assert joined["person"].tolist() == ["sub-1"] * 3
    assert joined["family"].tolist() == ["sub-1"] * 3


def test_the_column_itself_is_kept(joined):
    assert list(joined.columns) == [*COLUMNS, "person", "code"]


def test_without_the_key_ids_are_people(tmp_path):
    table = index(study(tmp_path / "s"))
    assert list(table.columns) == [*COLUMNS, "code"]
    assert table["family"].tolist() == [None, None, None, "k", "k", "l", "l", None]
    assert persons_of(table, None).tolist() == table["participant_id"].tolist()


def test_a_column_of_the_table_that_has_our_name_is_not_taken_for_ours(tmp_path):
    table = index(study(tmp_path / "s", TABLE.replace("code", "person")))
    assert table["person"].tolist()[:3] == ["a", "a", "b"]
    assert persons_of(table, None)[1] == "sub-02"
    joined = index(study(tmp_path / "t", TABLE.replace("code", "person")), same_person="person")
    assert joined["person"].tolist()[:3] == ["sub-01", "sub-01", "sub-03"]


def test_a_row_may_name_the_id_of_the_person(tmp_path):
    table = "participant_id again_of\nsub-01 n/a\nsub-02 sub-01\nsub-03 01\nsub-04 n/a\n"
    joined = index(study(tmp_path / "s", table), same_person="again_of")
    assert joined["person"].tolist() == ["sub-01"] * 3 + ["sub-04"]
    assert persons_of(joined, "again_of").tolist() == joined["person"].tolist()


def test_numbers_name_people_too(tmp_path):
    table = "participant_id subject\nsub-a 1\nsub-b 2\nsub-c 1\n"
    assert index(study(tmp_path / "s", table), same_person="subject")["person"].tolist() == ["sub-a", "sub-b", "sub-a"]


def test_no_split_divides_a_person(tmp_path):
    rows = [f"sub-{n:02d} p{n % 15:02d}" for n in range(30)]
    joined = index(study(tmp_path / "s", "participant_id code\n" + "\n".join(rows) + "\n"), same_person="code")
    for seed in range(5):
        split = split_subjects(joined, SplitRecipe(seed=seed, train=0.5, validation=0.25, heldout=0.25))
        split = split.set_index("participant_id")["split"]
        assert split.nunique() == 3
        assert all(split[f"sub-{n:02d}"] == split[f"sub-{n + 15:02d}"] for n in range(15))


def test_copies_of_a_person_are_no_copies(joined):
    copies = [Copy(**_copy(first)) for first in (0, 1)]
    assert [copy.first for copy in unrelated_copies(joined, copies)] == [1]


def _copy(first):
    fields = dict.fromkeys(Copy.__dataclass_fields__, 0.0)
    return fields | {"first": first, "second": first + 1}


def test_persons_of_several_cohorts_are_apart(tmp_path):
    first, second = study(tmp_path / "a"), study(tmp_path / "b")
    data = {"cohorts": [{"name": "a", "root": str(first)}, {"name": "b", "root": str(second)}], "same_person": "code"}
    table = index_cohort(DataRecipe.model_validate(data)).table
    assert table["person"].tolist()[:2] == ["a.sub-01"] * 2
    assert table["person"].tolist()[8:10] == ["b.sub-01"] * 2
    assert table["family"].tolist()[8:10] == ["b.sub-01"] * 2


def test_a_person_of_two_sexes_is_a_fault(tmp_path):
    with pytest.raises(
        CohortError, match=r"data.same_person: got both F and M .* \(sub-01, sub-02\), expected one sex"
    ):
        index(study(tmp_path / "s", TABLE.replace("sub-02 F", "sub-02 M")), same_person="code")


def test_an_unknown_column_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"data.same_person: got 'cod', which no table.*Did you mean 'code'"):
        index(study(tmp_path / "s"), same_person="cod")


def test_order_of_rows_does_not_matter(tmp_path):
    head, *rows = TABLE.splitlines()
    shuffled = "\n".join([head, *np.random.default_rng(0).permutation(rows)]) + "\n"
    first = index(study(tmp_path / "s"), same_person="code")
    second = index(study(tmp_path / "t", shuffled), same_person="code")
    assert first[["person", "family"]].equals(second[["person", "family"]])
