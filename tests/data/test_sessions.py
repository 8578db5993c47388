"""Which session comes first, how old people are at each, and tables of phenotypes."""

import json

import numpy as np
import pytest

from mrigen.data.cohort import index_cohort
from mrigen.data.sessions import Visit, order_sessions, read_time
from mrigen.errors import CohortError
from mrigen.recipe import DataRecipe


def study(root, sessions, people=("1",), table="participant_id\tsex\n{}"):
    """A BIDS folder of people who all have the same sessions."""
    root.mkdir()
    (root / "dataset_description.json").touch()
    for person in people:
        for session in sessions:
            folder = root / f"sub-{person}/ses-{session}/anat"
            folder.mkdir(parents=True)
            (folder / f"sub-{person}_ses-{session}_T1w.nii.gz").touch()
    rows = "".join(f"sub-{person}\tF\n" for person in people)
    (root / "participants.tsv").write_text(table.format(rows))
    return root


def sessions_table(root, person, text):
    (root / f"sub-{person}/sub-{person}_sessions.tsv").write_text(text.replace(" ", "\t"))


def index(root, **keys):
    return index_cohort(DataRecipe(root=str(root), **keys))


@pytest.mark.parametrize(
    ("rows", "order", "told"),
    [
        ([("b", "2001-05-01"), ("a", "1999-12-31T23:59:59.5")], ["a", "b"], "acq_time"),
        ([("b", "2001-05-01T00:00:00Z"), ("a", "2001-05-02 01:00")], ["b", "a"], "acq_time"),
        ([("b", "2001-05-01"), ("a", None)], ["b", "a"], "rows"),
        ([("b", "1800-01-01"), ("a", "1800-01-01")], ["b", "a"], "rows"),  # made anonymous
        ([("b", "10:30:00"), ("a", "09:30:00")], ["b", "a"], "rows"),  # no dates
        ([("b", None, "31"), ("a", None, "30.5")], ["a", "b"], "age"),
        ([("b", "2001-01-01", "3"), ("a", "2002-01-01", "2")], ["b", "a"], "acq_time"),
        ([("b",), ("a",), ("b",)], ["b", "a"], "rows"),
        ([("a",)], ["a"], "rows"),
    ],
)
def test_sessions_are_ordered_by_time_then_age_then_rows(rows, order, told):
    places, how = order_sessions([Visit(*row) for row in rows])
    assert (sorted(places, key=places.get), how) == (order, told)


def test_a_time_needs_a_date():
    assert read_time("2001-02-03T04:05:06").day == 3
    assert read_time("04:05:06") is read_time("soon") is read_time(None) is None


def test_the_first_row_of_sessions_tsv_is_the_first_session(tmp_path):
    root = study(tmp_path / "s", ("test", "retest"), ("1", "2"))
    for person in "12":
        sessions_table(root, person, "session_id\nses-test\nretest\n")
    cohort = index(root)
    assert cohort.table["session_id"].tolist() == ["ses-test", "ses-test"]
    (note,) = [note for note in cohort.notes if "several images" in note]
    assert "ses-test of 2 people. Sessions are ordered by the rows of the table (2 people)." in note
    every = index(root, visits="all").table
    assert every.sort_values(["participant_id", "visit"])["session_id"].tolist() == ["ses-test", "ses-retest"] * 2


def test_without_a_table_the_note_says_that_names_alone_decide(tmp_path):
    notes = index(study(tmp_path / "s", ("pre", "post"))).notes
    assert any("ses-post of 1 person. Sessions are ordered by name alone (1 person)." in note for note in notes)


def test_scans_tsv_orders_where_sessions_tsv_does_not(tmp_path):
    root = study(tmp_path / "s", ("pre", "post"))
    for session, time in (("pre", "2001-01-01T10:00:00"), ("post", "2003-01-01T10:00:00")):
        (root / f"sub-1/ses-{session}/sub-1_ses-{session}_scans.tsv").write_text(
            f"filename\tacq_time\nfunc/x_bold.nii.gz\t1999-01-01\nanat/sub-1_ses-{session}_T1w.nii.gz\t{time}\n"
        )
    cohort = index(root)
    assert cohort.table["session_id"].tolist() == ["ses-pre"]
    assert any("acquisition time (1 person)" in note for note in cohort.notes)


def test_sessions_that_no_row_names_come_last(tmp_path):
    root = study(tmp_path / "s", ("a", "b", "c", "d"))
    sessions_table(root, "1", "session_id\nses-d\nses-x\nses-b\n")
    table = index(root, visits="all").table.sort_values("visit")
    assert table["session_id"].tolist() == ["ses-d", "ses-b", "ses-a", "ses-c"]


def test_a_longitudinal_table_orders_its_sessions(tmp_path):
    table = "participant_id\tsession_id\tage\nsub-1\tses-pre\t30\nsub-1\tses-post\t34\n"
    cohort = index(study(tmp_path / "s", ("pre", "post"), table=table))
    assert cohort.table[["session_id", "age"]].iloc[0].tolist() == ["ses-pre", 30.0]


def test_sessions_without_a_row_are_a_fault_of_the_table_and_nothing_else(tmp_path):
    table = "participant_id\tsession_id\tage\nsub-1\tses-pre\t30\nsub-1\tses-mid\t31\n"
    root = study(tmp_path / "s", ("pre", "post"), ("1", "2"), table=table)
    with pytest.raises(CohortError) as caught:
        index(root)
    (line,) = caught.value.faults
    assert "no row for 2 people with images (sub-1, sub-2)" in line
    assert "1 row has no image (1 session mid)" in line


def test_a_list_of_paths_orders_its_sessions_by_time(tmp_path):
    rows = ["path\tparticipant_id\tsession\tscan_date", "1.nii\tp\tend\t2002-01-01", "2.nii\tp\tstart\t2001-01-01"]
    for name in ("1.nii", "2.nii"):
        (tmp_path / name).touch()
    (tmp_path / "list.tsv").write_text("\n".join(rows) + "\n")
    assert index(tmp_path / "list.tsv").table["session_id"].tolist() == ["start"]


def test_age_and_site_at_the_session_go_before_those_of_the_person(tmp_path):
    root = study(tmp_path / "s", ("1", "2"), table="participant_id\tsex\tAge\tsite\n{}")
    (root / "participants.tsv").write_text("participant_id\tsex\tAge\tsite\nsub-1\tF\t30\tnorth\n")
    sessions_table(root, "1", "session_id age site mood acq_time\nses-1 n/a n/a 3 2001-01-01\nses-2 34 south 4 n/a\n")
    cohort = index(root, visits="all")
    assert cohort.table["age"].tolist() == [30.0, 34.0]
    assert cohort.table["site"].tolist() == ["north", "south"]
    assert cohort.table["mood"].tolist() == [3.0, 4.0]
    assert "acq_time" not in cohort.table
    assert index(root, visits="all", where={"site": "south"}).table["session_id"].tolist() == ["ses-2"]


def test_ages_of_sessions_have_their_own_unit(tmp_path):
    root = study(tmp_path / "s", ("1", "2"))
    (root / "participants.tsv").write_text("participant_id\tsex\tage\nsub-1\tF\t30\n")
    (root / "sessions.json").write_text(json.dumps({"age": {"Units": "months"}}))
    sessions_table(root, "1", "session_id age\nses-2 372\n")
    assert index(root, visits="all").table["age"].tolist() == [30.0, 31.0]


def test_columns_of_sessions_may_differ_in_case_between_people(tmp_path):
    root = study(tmp_path / "s", ("1",), ("1", "2"))
    sessions_table(root, "1", "session_id Age\nses-1 40\n")
    sessions_table(root, "2", "session_id age\nses-1 50\n")
    assert index(root).table["age"].tolist() == [40.0, 50.0]


def test_one_age_for_all_sessions_is_noted(tmp_path):
    root = study(tmp_path / "s", ("1", "2"))
    (root / "participants.tsv").write_text("participant_id\tsex\tage\nsub-1\tF\t30\n")
    assert any("1 person has one age for all sessions" in note for note in index(root, visits="all").notes)


def test_age_may_be_in_sessions_tsv_alone_with_one_session(tmp_path):
    root = study(tmp_path / "s", ("1",), ("1", "2"))
    sessions_table(root, "2", "session_id age\nses-1 40\n")
    cohort = index(root)
    np.testing.assert_equal(cohort.table["age"].to_numpy(), [np.nan, 40.0])
    assert not any("age is missing" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("visit age\n1 2\n", "got the columns visit, age, expected session_id"),
        ("session_id age\n1\n", "row 2: got 1 tab"),
    ],
)
def test_a_sessions_tsv_that_cannot_be_used_is_a_fault_unless_the_person_is_excluded(tmp_path, text, message):
    root = study(tmp_path / "s", ("1",), ("1", "2"))
    sessions_table(root, "2", text)
    with pytest.raises(CohortError, match=f"sub-2_sessions.tsv: {message}"):
        index(root)
    assert len(index(root, exclude=["2"]).table) == 1


# ---- phenotype/


def phenotype(root, name, text, described=None):
    (root / "phenotype").mkdir(exist_ok=True)
    (root / f"phenotype/{name}.tsv").write_text(text.replace(" ", "\t"))
    if described:
        (root / f"phenotype/{name}.json").write_text(json.dumps(described))


def test_phenotypes_join_by_person(tmp_path):
    root = study(tmp_path / "s", ("1",), ("1", "2"))
    phenotype(root, "iq", "participant_id iq\n2 100\nsub-3 90\n")
    phenotype(root, "mood", "participant_id total iq\nsub-1 5 7\nsub-2 6 8\n")
    cohort = index(root)
    np.testing.assert_equal(cohort.table["iq"].to_numpy(), [np.nan, 100.0])
    assert cohort.table[["total", "mood.iq"]].to_numpy().tolist() == [[5.0, 7.0], [6.0, 8.0]]
    assert any("3 columns of iq.tsv, mood.tsv joined" in note for note in cohort.notes)
    assert index(root, where={"mood.iq": 8}).table["participant_id"].tolist() == ["sub-2"]


def test_phenotypes_join_by_session(tmp_path):
    root = study(tmp_path / "s", ("1", "2"))
    phenotype(root, "mood", "participant_id session_id mood\nsub-1 ses-1 3\nsub-1 2 4\n")
    assert index(root, visits="all").table["mood"].tolist() == [3.0, 4.0]


def test_ages_of_a_phenotype_order_the_sessions(tmp_path):
    root = study(tmp_path / "s", ("pre", "post"))
    phenotype(root, "people", "participant_id session_id age\nsub-1 post 34\nsub-1 pre 30\n")
    cohort = index(root)
    assert cohort.table[["session_id", "age"]].iloc[0].tolist() == ["ses-pre", 30.0]
    assert any("Sessions are ordered by age (1 person)" in note for note in cohort.notes)


def test_sex_and_age_of_a_phenotype_are_explained_beside_it(tmp_path):
    root = study(tmp_path / "s", ("1",), ("1", "2"), table="participant_id\n")
    (root / "participants.tsv").write_text("participant_id\nsub-1\nsub-2\n")
    described = {"sex": {"Levels": {"0": "Male", "1": "Female"}}, "age": {"Units": "months"}}
    phenotype(root, "people", "participant_id sex age\nsub-1 1 120\nsub-2 0 132\n", described)
    table = index(root).table
    assert table["sex"].tolist() == ["F", "M"]
    assert table["age"].tolist() == [10.0, 11.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name iq\nsub-1 1\n", "no column participant_id. The table is left out."),
        ("participant_id iq\nsub-1 1\nsub-1 2\n", "several rows for 1, expected one. The table is left out."),
        ("participant_id iq\nsub-9 1\n", "no row for anybody with an image. The table is left out."),
        ("participant_id iq\nsub-1\n", "got 1 tab-separated values, expected 2"),
    ],
)
def test_a_phenotype_that_does_not_fit_is_noted(tmp_path, text, message):
    root = study(tmp_path / "s", ("1",))
    phenotype(root, "iq", text)
    cohort = index(root)
    assert "iq" not in cohort.table
    assert any(message in note for note in cohort.notes)
