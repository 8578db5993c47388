"""Tables as text: quotation marks, levels and units that the dataset explains, lists of people to leave out."""

import json

import numpy as np
import pandas as pd
import pytest

from mrigen.data.cohort import index_cohort
from mrigen.data.descriptions import UNITS, age_unit, as_years, sex_levels
from mrigen.data.tables import first_visits, read_table
from mrigen.errors import CohortError, RecipeError
from mrigen.recipe import DataRecipe, load_recipe


def write(tmp_path, text, name="t.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def study(root, header, *rows, described=None):
    """A BIDS folder whose table has these rows, tab-separated, ids first."""
    root.mkdir(exist_ok=True)
    (root / "dataset_description.json").touch()
    for row in rows:
        person = row.split("\t")[0]
        folder = root / person / "anat"
        folder.mkdir(parents=True)
        (folder / f"{person}_T1w.nii.gz").touch()
    (root / "participants.tsv").write_text("\n".join([header, *rows]) + "\n")
    if described is not None:
        (root / "participants.json").write_text(json.dumps(described))
    return root


def index(root, **keys):
    return index_cohort(DataRecipe(root=str(root), **keys))


# ---- quotation marks


@pytest.mark.parametrize("cell", ['"left early', 'late"', '"', 'a "quoted" word', "6'2\"", '""open'])
def test_a_quotation_mark_in_a_tab_separated_table_swallows_nobody(tmp_path, cell):
    path = write(tmp_path, f"id\tremark\n1\t{cell}\n2\tfine\n3\t{cell}\n4\tfine\n")
    table = read_table(path)
    assert table["id"].tolist() == ["1", "2", "3", "4"]
    assert table["remark"].tolist() == [cell, "fine", cell, "fine"]


def test_marks_around_a_whole_cell_are_taken_away(tmp_path):
    # As R's write.table and pandas write them.
    table = read_table(write(tmp_path, '"id"\t"note"\n"01"\t"a ""b"" c"\n"n/a"\t""\n'))
    assert table.columns.tolist() == ["id", "note"]
    assert table.iloc[0].tolist() == ["01", 'a "b" c']
    assert table.iloc[1].isna().all()


def test_a_csv_may_quote_separators_and_lines(tmp_path):
    table = read_table(write(tmp_path, 'id,a,note\n1,2,"x, y"\n2,3,"one\ntwo"\n3,4,5" nail\n', "t.csv"))
    assert table["note"].tolist() == ["x, y", "one\ntwo", '5" nail']


@pytest.mark.parametrize(
    "rest",
    [
        "3,F,fine\n4,M,fine\n",  # to the end of the file
        '3,F,fine\n4,M,"ill" today\n',  # to a mark in a cell
        '3,F,fine\n4,M,ill"\n',  # to a mark that ends a cell
        '3,F,"fine"\n4,M,fine\n',
    ],
)
def test_an_open_mark_of_a_csv_is_a_fault_that_names_the_row(tmp_path, rest):
    path = write(tmp_path, 'id,sex,remark\n1,M,"ok\nso"\n2,F,"left early\n' + rest, "t.csv")
    with pytest.raises(CohortError, match=r"t.csv: row 4: got a cell that begins with a quotation mark") as caught:
        read_table(path)
    assert len(caught.value.faults) == 1


def test_the_row_of_a_fault_is_the_line_of_the_file(tmp_path):
    with pytest.raises(CohortError, match="row 5: got 2 comma-separated values"):
        read_table(write(tmp_path, 'id,sex,remark\n1,M,"one\ntwo"\n\n2,F\n', "t.csv"))


# ---- units of ages


@pytest.mark.parametrize(
    ("entry", "column", "unit"),
    [
        ({"Units": "months"}, "age", "months"),
        ({"units": "Weeks"}, "age", "weeks"),
        ({"Units": "d"}, "age", "days"),
        ({"Units": "yr"}, "age", "years"),
        ({"Units": ["months"]}, "age", "months"),
        ({"Description": "Age in months at the first scan"}, "age", "months"),
        ({"LongName": "Age (weeks)"}, "age", "weeks"),
        ({"Description": "age on the day of the scan"}, "age", None),
        ({"Description": "in years, twins in months"}, "age", None),
        ({}, "age_months", "months"),
        ({}, "AgeMonths", "months"),
        ({"Units": "years"}, "age_months", "years"),
        ({"Units": "integer"}, "age", None),
        ({}, "m", None),
    ],
)
def test_units_are_read_from_what_the_dataset_says(entry, column, unit):
    assert age_unit(entry, column)[0] == unit


@pytest.mark.parametrize(
    ("cell", "unit", "years"),
    [
        ("131", "months", 131 / 12),
        ("52.1786", "weeks", 1.0),
        ("3652.5", "days", 10.0),
        ("040W", "years", 280 / 365.25),
        ("6 mo", "years", 0.5),
        ("30", "years", 30.0),
        ("1e1", "years", 10.0),
    ],
)
def test_ages_become_years(cell, unit, years):
    assert as_years(cell, UNITS[unit]) == pytest.approx(years, rel=1e-4)


@pytest.mark.parametrize("cell", ["89+", "n", "", None, "12-14", "30 apples"])
def test_what_is_no_age_is_none(cell):
    assert as_years(cell) is None


@pytest.mark.parametrize(("unit", "ages"), [("weeks", ["40", "208"]), ("Month", ["6", "119"]), ("days", ["1", "3653"])])
def test_ages_of_a_cohort_obey_the_unit(tmp_path, unit, ages):
    rows = [f"sub-{number}\t{age}\tF" for number, age in enumerate(ages)]
    cohort = index(study(tmp_path / "s", "participant_id\tage\tsex", *rows, described={"Age": {"Units": unit}}))
    np.testing.assert_allclose(cohort.table["age"], [as_years(f"{age} {unit}") for age in ages])
    assert any("they become years" in note for note in cohort.notes)


def test_a_unit_that_is_not_known_is_named(tmp_path):
    root = study(tmp_path / "s", "participant_id\tage\tsex", "sub-1\t30\tF", described={"age": {"Units": "moons"}})
    cohort = index(root)
    assert cohort.table["age"].tolist() == [30.0]
    assert "the unit 'moons'" in cohort.notes[0]


def test_ages_that_are_no_years_ask_for_the_unit(tmp_path):
    root = study(tmp_path / "s", "participant_id\tage\tsex", "sub-1\t131\tF", "sub-2\t96\tM")
    assert '{"age": {"Units": "months"}}' in index(root).notes[0]


# ---- levels of sex


def test_a_level_that_is_neither_keeps_the_person_and_is_told(tmp_path):
    levels = {"1": "male", "2": "female", "3": "intersex", "9": {"Description": "did not say"}, "4": "male or female"}
    rows = [f"sub-{number}\t30\t{code}" for number, code in enumerate(("1", "2", "3", "9", "9", "4"))]
    cohort = index(study(tmp_path / "s", "participant_id\tage\tsex", *rows, described={"sex": {"Levels": levels}}))
    assert cohort.table["sex"].tolist() == ["M", "F", None, None, None, None]
    (note,) = cohort.notes
    assert "3 ('intersex', 1 person), 9 ('did not say', 2 people), 4 ('male or female', 1 person)" in note


def test_levels_in_a_language_that_is_not_known_are_no_levels(tmp_path):
    assert sex_levels({"Levels": {"1": "homme", "2": "femme"}}) == {}
    assert sex_levels({"Levels": {"1": "male", "2": "femme"}}) == {}
    root = study(
        tmp_path / "s", "participant_id\tage\tsex", "sub-1\t3\t1", described={"sex": {"Levels": {"1": "homme"}}}
    )
    with pytest.raises(CohortError, match="got the codes 1"):
        index(root)


@pytest.mark.parametrize("cell", ["X", "intersex", "Non-binary", "prefer not to answer"])
def test_words_for_neither_need_no_levels(tmp_path, cell):
    root = study(tmp_path / "s", "participant_id\tage\tsex", f"sub-1\t3\t{cell}", "sub-2\t3\tF")
    assert index(root).table["sex"].tolist() == [None, "F"]


@pytest.mark.parametrize(("column", "hint"), [("age_at_scan", "data.age_column=age_at_scan"), ("iq", "missing.")])
def test_a_missing_age_column_is_noted_with_the_likely_one(tmp_path, column, hint):
    cohort = index(study(tmp_path / "s", f"participant_id\tsex\t{column}", "sub-1\tF\t30"))
    assert "no column 'age', so everybody's age is missing." in cohort.notes[0]
    assert hint in cohort.notes[0]


# ---- people to leave out


def test_exclude_reads_a_text_file(tmp_path):
    root = study(tmp_path / "s", "participant_id\tsex", *(f"sub-{number}\tF" for number in range(5)))
    path = write(tmp_path, "# made by hand\nsub-1\n\n  2   # moved\n", "out.txt")
    assert index(root, exclude=str(path)).table["participant_id"].tolist() == ["sub-0", "sub-3", "sub-4"]
    both = load_recipe("vae", [f"data.root={root}", f"data.exclude=[{path}, sub-4]"]).data
    assert both.exclude == ["sub-1", "2", "sub-4"]
    path.unlink()  # What is resolved needs the file no more.
    assert index_cohort(both).table["participant_id"].tolist() == ["sub-0", "sub-3"]


def test_an_empty_list_of_people_leaves_out_nobody(tmp_path):
    assert DataRecipe(exclude=str(write(tmp_path, "# nobody\n", "out.txt"))).exclude == []


def test_a_list_of_people_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(RecipeError, match=r"data.exclude: got .*no.txt, which cannot be read"):
        load_recipe("vae", [f"data.exclude={tmp_path / 'no.txt'}"])


def test_ids_to_exclude_that_are_nobodys_are_one_line(tmp_path):
    root = study(tmp_path / "s", "participant_id\tsex", *(f"sub-{number}\tF" for number in range(5)))
    with pytest.raises(CohortError) as caught:
        index(root, exclude=[f"IXI{number}" for number in range(30)])
    (line,) = caught.value.faults
    assert "got 30 entries that are nobody's id (IXI0, IXI1, IXI2 and 27 more)" in line
    assert "of the cohort (0, 1, 2 and 2 more)" in line


def test_first_visits_go_by_the_visit_and_not_by_the_name():
    table = pd.DataFrame({"participant_id": ["a", "a", "b", "b"], "visit": [1, 0, 0, 1]})
    assert first_visits(table).tolist() == [False, True, True, False]
