"""Who is in the cohort: every source, every filter, every fault."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mrigen.data.bids import Found, scan_folder
from mrigen.data.cohort import COLUMNS, index_cohort
from mrigen.data.masks import choose_mask
from mrigen.errors import CohortError
from mrigen.imaging.volumes import write_volume
from mrigen.recipe import CohortRecipe, DataRecipe, SexCodes

REAL = os.environ.get("MRIGEN_REAL_DATA")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def image(person: str, session: str | None = None, words: str = "", suffix: str = "T1w") -> str:
    folder = f"sub-{person}/" + (f"ses-{session}/" if session else "") + "anat/"
    return folder + f"sub-{person}_" + (f"ses-{session}_" if session else "") + words + f"{suffix}.nii.gz"


def bids(root: Path, table: str | None, *names: str) -> Path:
    touch(root, "dataset_description.json", *names)
    if table is not None:
        (root / "participants.tsv").write_text(table.replace(" ", "\t"))
    return root


def index(root, **keys):
    return index_cohort(DataRecipe(root=str(root), **keys))


def column(root, name, **keys):
    return index(root, **keys).table[name].tolist()


@pytest.fixture
def four(tmp_path):
    """A BIDS folder of four people with the usual columns, ids with leading zeros."""
    return bids(
        tmp_path / "study",
        "participant_id sex age site family group\n"
        "sub-0012 F 31.5 north a patient\n"
        "0003 male n/a north a control\n"
        "sub-0100 w 47 south n/a control\n"
        "sub-0007 n/a 62 n/a n/a n/a\n",
        *(image(person) for person in ("0012", "0003", "0100", "0007")),
    )


# ---- BIDS folders


def test_bids_table_has_the_documented_columns(four):
    cohort = index(four)
    table = cohort.table
    assert tuple(table.columns) == (*COLUMNS, "group")
    assert (
        table["scan_id"].tolist()
        == table["participant_id"].tolist()
        == ["sub-0003", "sub-0007", "sub-0012", "sub-0100"]
    )
    assert table["sex"].tolist() == ["M", None, "F", "F"]
    np.testing.assert_equal(table["age"].to_numpy(), [np.nan, 62.0, 31.5, 47.0])
    assert table["site"].tolist() == ["north", "study", "north", "south"]
    assert table["family"].tolist() == ["a", None, "a", None]
    assert table["group"].tolist() == ["control", None, "patient", "control"]
    assert table["visit"].tolist() == [0, 0, 0, 0]
    assert table["session_id"].tolist() == table["mask_path"].tolist() == [None] * 4
    assert set(table["cohort"]) == {"study"}
    assert table["path"][0] == str(four / image("0003"))
    assert cohort.notes == ()


def test_bids_paths_are_absolute(four, monkeypatch):
    monkeypatch.chdir(four.parent)
    assert all(Path(path).is_absolute() for path in column("study", "path"))


def test_bids_derivative_names_are_taken(tmp_path):
    root = bids(
        tmp_path / "prep",
        None,
        image("01", words="space-MNI_desc-preproc_"),
        image("01", words="desc-brain_", suffix="mask"),
    )
    assert column(root, "scan_id") == ["sub-01"]


def test_bids_other_suffix_is_taken(tmp_path):
    root = bids(tmp_path / "study", None, image("01"), image("01", suffix="FLAIR"))
    assert column(root, "path", suffix="FLAIR") == [str(root / image("01", suffix="FLAIR"))]


def test_bids_same_name_packed_and_unpacked_counts_once(tmp_path):
    root = bids(tmp_path / "study", None, image("01"), image("01").removesuffix(".gz"))
    assert column(root, "path", visits="all") == [str(root / image("01"))]


def test_bids_hidden_files_are_passed_over(tmp_path):
    root = bids(tmp_path / "study", None, image("01"), "sub-01/anat/._sub-01_T1w.nii.gz")
    assert len(index(root, visits="all").table) == 1


def test_bids_without_table_says_what_is_missing(tmp_path):
    cohort = index(bids(tmp_path / "study", None, image("01"), image("02")))
    assert cohort.table["sex"].tolist() == [None, None]
    assert np.isnan(cohort.table["age"]).all()
    assert "no participants.tsv" in cohort.notes[0]


def test_people_without_image_are_counted(four):
    with open(four / "participants.tsv", "a") as file:
        file.write("".join(f"sub-9{n}\tF\t20\tnorth\tn/a\tcontrol\n" for n in range(3)))
    assert "3 people" in index(four).notes[0]
    assert len(index(four).table) == 4


def test_numeric_columns_become_numbers_and_codes_with_zeros_stay(tmp_path):
    root = bids(tmp_path / "s", "participant_id score code\nsub-1 2.5 007\nsub-2 n/a 010\n", image("1"), image("2"))
    table = index(root).table
    np.testing.assert_equal(table["score"].to_numpy(), [2.5, np.nan])
    assert table["code"].tolist() == ["007", "010"]


def test_columns_of_a_reserved_name_are_noted(tmp_path):
    cohort = index(bids(tmp_path / "s", "participant_id visit\nsub-1 baseline\n", image("1")))
    assert cohort.table["visit"].tolist() == [0]
    assert "'visit' is not kept" in cohort.notes[-1]


def test_a_table_from_a_spreadsheet_is_read(tmp_path):
    root = bids(tmp_path / "s", None, image("1"))
    (root / "participants.tsv").write_bytes(b"\xef\xbb\xbfparticipant_id\tsex\t\r\nsub-1\tF\t\r\n\r\n")
    assert column(root, "sex") == ["F"]


def test_column_names_are_found_in_another_case(tmp_path):
    root = bids(tmp_path / "s", "Participant_ID Sex Age\nsub-1 F 33\n", image("1"))
    table = index(root).table
    assert (table["sex"][0], table["age"][0]) == ("F", 33.0)


def test_other_column_names_are_taken_from_the_recipe(tmp_path):
    root = bids(tmp_path / "s", "participant_id gender years scanner kin\nsub-1 F 33 A k1\n", image("1"))
    table = index(root, sex_column="gender", age_column="years", site_column="scanner", family_column="kin").table
    assert table[["sex", "age", "site", "family"]].iloc[0].tolist() == ["F", 33.0, "A", "k1"]


def test_a_missing_sex_column_is_noted_with_the_likely_one(tmp_path):
    cohort = index(bids(tmp_path / "s", "participant_id gender\nsub-1 F\n", image("1")))
    assert cohort.table["sex"].tolist() == [None]
    assert "data.sex_column=gender" in cohort.notes[0]


# ---- visits


@pytest.fixture
def visits(tmp_path):
    return bids(
        tmp_path / "study",
        None,
        image("1", "10"),
        image("1", "2", "run-2_"),
        image("1", "2", "run-1_"),
        image("2", "2"),
        image("3", words="acq-b_"),
        image("3", words="acq-a_"),
    )


def test_first_visit_is_the_first_session_and_run_in_natural_order(visits):
    cohort = index(visits)
    assert cohort.table["scan_id"].tolist() == ["sub-1", "sub-2", "sub-3"]
    assert [Path(path).name for path in cohort.table["path"]] == [
        "sub-1_ses-2_run-1_T1w.nii.gz",
        "sub-2_ses-2_T1w.nii.gz",
        "sub-3_acq-a_T1w.nii.gz",
    ]
    assert any("2 people have several images" in note for note in cohort.notes)
    assert any("acq-a (1)" in note for note in cohort.notes)


def test_all_visits_are_numbered_and_named(visits):
    table = index(visits, visits="all").table
    assert dict(zip(table["scan_id"], table["visit"], strict=True)) == {
        "sub-1_ses-2_run-1": 0,
        "sub-1_ses-2_run-2": 1,
        "sub-1_ses-10": 2,
        "sub-2": 0,
        "sub-3_run-1": 0,
        "sub-3_run-2": 1,
    }
    assert table["scan_id"].is_monotonic_increasing


def test_a_longitudinal_table_is_joined_by_session(tmp_path):
    root = bids(
        tmp_path / "study",
        "participant_id session_id age\nsub-1 ses-1 30\nsub-1 2 34\nsub-2 ses-1 50\n",
        image("1", "1"),
        image("1", "2"),
        image("2", "1"),
    )
    assert column(root, "age", visits="all") == [30.0, 34.0, 50.0]


# ---- tables and plain folders


def test_a_table_of_paths_is_read(tmp_path):
    touch(tmp_path, "a/x1.nii.gz", "b/x2.nii", "m1.nii.gz")
    (tmp_path / "list.csv").write_text(
        "T1;participant_id;session_id;sex;age;mask;iq\na/x1.nii.gz;007;ses-1;F;20;m1.nii.gz;99\n"
        f"{tmp_path}/b/x2.nii;007;ses-2;F;22;;101\n"
    )
    table = index(tmp_path / "list.csv", visits="all").table
    assert table["scan_id"].tolist() == ["007_ses-1", "007_ses-2"]
    assert table["participant_id"].tolist() == ["007", "007"]
    assert table["path"].tolist() == [str(tmp_path / "a/x1.nii.gz"), str(tmp_path / "b/x2.nii")]
    assert table["mask_path"].tolist() == [str(tmp_path / "m1.nii.gz"), None]
    assert table["iq"].tolist() == [99.0, 101.0]
    assert set(table["cohort"]) == {"list"}
    assert tuple(table.columns) == (*COLUMNS, "iq")


def test_a_table_without_ids_takes_them_from_the_file_names(tmp_path):
    touch(tmp_path, "sub-01_ses-2_T1w.nii.gz", "IXI012-HH-1211-T1.nii.gz")
    (tmp_path / "list.tsv").write_text("path\nsub-01_ses-2_T1w.nii.gz\nIXI012-HH-1211-T1.nii.gz\nn/a\n")
    cohort = index(tmp_path / "list.tsv")
    assert cohort.table["participant_id"].tolist() == ["IXI012-HH-1211-T1", "sub-01"]
    assert cohort.table["session_id"].tolist() == [None, "ses-2"]
    assert "1 row of" in cohort.notes[0]


def test_a_mask_column_is_named_by_the_recipe(tmp_path):
    touch(tmp_path, "1.nii.gz", "1b.nii.gz")
    (tmp_path / "list.tsv").write_text("path\tbrain\n1.nii.gz\t1b.nii.gz\n")
    assert column(tmp_path / "list.tsv", "mask_path", mask="brain") == [str(tmp_path / "1b.nii.gz")]


def test_a_mask_column_that_is_asked_for_must_be_filled(tmp_path):
    touch(tmp_path, "1.nii.gz")
    (tmp_path / "list.tsv").write_text("path\tbrain\n1.nii.gz\tn/a\n")
    with pytest.raises(CohortError, match=r"1.nii.gz: no mask, expected a path in column brain"):
        index(tmp_path / "list.tsv", mask="brain")


def test_a_plain_folder_is_walked(tmp_path):
    touch(tmp_path, "b/IXI2.nii.gz", "a/IXI1.nii", "a/notes.txt", ".cache/IXI3.nii.gz")
    cohort = index(tmp_path)
    assert cohort.table["participant_id"].tolist() == ["IXI1", "IXI2"]
    assert any("no file name ends in _T1w" in note for note in cohort.notes)


def test_a_plain_folder_takes_files_of_freesurfer_only_where_there_are_no_others(tmp_path):
    for name in ("a.nii.gz", "b.nii", "fs/a/mri/T1.mgz", "fs/b/mri/T1.mgz", "fs/b/mri/brain.MGZ"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = scan_folder(tmp_path, "T1w").images
    assert sorted(image.stem for image in found) == ["a", "b"]
    for name in ("a.nii.gz", "b.nii"):
        (tmp_path / name).unlink()
    assert len(scan_folder(tmp_path, "T1w").images) == 3


def test_a_plain_folder_takes_the_suffix_where_there_is_one(tmp_path):
    touch(tmp_path, "p1_T1w.nii.gz", "p1_mask.nii.gz", "sub-2_ses-1_T1w.nii.gz")
    assert column(tmp_path, "participant_id") == ["p1", "sub-2"]


def test_a_plain_folder_joins_its_table_and_spares_its_masks(tmp_path):
    touch(tmp_path, "p1.nii.gz", "p2.nii.gz", "p1_mask.nii.gz", "p2_mask.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\np1\tF\np2\tM\n")
    table = index(tmp_path, mask="{id}_mask.nii.gz").table
    assert table["sex"].tolist() == ["F", "M"]
    assert table["mask_path"].tolist() == [str(tmp_path / f"p{n}_mask.nii.gz") for n in (1, 2)]


def test_a_plain_folder_follows_a_circle_of_links_once(tmp_path):
    touch(tmp_path, "p1.nii.gz")
    (tmp_path / "again").symlink_to(tmp_path)
    assert column(tmp_path, "participant_id") == ["p1"]


def test_ids_become_safe_file_names(tmp_path):
    touch(tmp_path, "1.nii")
    (tmp_path / "list.tsv").write_text("path\tparticipant_id\n1.nii\tA/b c\n")
    table = index(tmp_path / "list.tsv").table
    assert (table["scan_id"][0], table["participant_id"][0]) == ("A-b-c", "A/b c")


# ---- several cohorts


def test_several_cohorts_are_prefixed(tmp_path):
    first = bids(tmp_path / "a", "participant_id sex family iq\nsub-1 F k 100\n", image("1"))
    second = bids(tmp_path / "b", "participant_id sex family\nsub-1 M k\n", image("1"))
    table = index_cohort(
        DataRecipe(cohorts=[CohortRecipe(name="x", root=str(first)), CohortRecipe(name="y", root=str(second))])
    ).table
    assert table["scan_id"].tolist() == table["participant_id"].tolist() == ["x.sub-1", "y.sub-1"]
    assert table["cohort"].tolist() == table["site"].tolist() == ["x", "y"]
    assert table["family"].tolist() == ["x.k", "y.k"]
    np.testing.assert_equal(table["iq"].to_numpy(), [100.0, np.nan])


def test_one_cohort_in_the_list_is_not_prefixed(four):
    table = index_cohort(DataRecipe(cohorts=[CohortRecipe(name="x", root=str(four))])).table
    assert table["participant_id"][0] == "sub-0003"
    assert table["cohort"][0] == "x"


def test_faults_of_several_cohorts_come_together(tmp_path):
    recipe = DataRecipe(cohorts=[CohortRecipe(name=name, root=str(tmp_path / name)) for name in ("a", "b")])
    with pytest.raises(CohortError) as caught:
        index_cohort(recipe)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [str(tmp_path / "a"), str(tmp_path / "b")]


# ---- sex


def sexes(tmp_path, cells, **keys):
    rows = "".join(f"sub-{number}\t{cell}\n" for number, cell in enumerate(cells))
    root = bids(tmp_path / "s", None, *(image(str(number)) for number in range(len(cells))))
    (root / "participants.tsv").write_text("participant_id\tsex\n" + rows)
    return column(root, "sex", **keys)


@pytest.mark.parametrize(
    ("cell", "sex"),
    [
        ("F", "F"), ("f", "F"), ("Female", "F"), ("WOMAN", "F"), ("w", "F"),
        ("M", "M"), ("m", "M"), ("male", "M"), ("Man", "M"),
        ("n/a", None), ("", None), ("unknown", None), ("NaN", None), ("other", None),
    ],
)  # fmt: skip
def test_sex_words_are_understood(tmp_path, cell, sex):
    assert sexes(tmp_path, [cell, "F", "M"])[0] == sex


@pytest.mark.parametrize("codes", [["1", "2", "2"], ["0", "1", "1"]])
def test_sex_codes_are_never_guessed(tmp_path, codes):
    few, many = codes[0], codes[1]
    with pytest.raises(
        CohortError, match=rf"participants.tsv: sex: got the codes {many} \(2 people\), {few} \(1 person\)"
    ) as caught:
        sexes(tmp_path, codes)
    assert "data.sex_codes: {F: [2], M: [1]}" in str(caught.value)


def test_sex_codes_of_the_recipe_are_compared_as_text_and_number(tmp_path):
    codes = SexCodes(F=[2], M=["1", "m2"])
    assert sexes(tmp_path, ["2", "2.0", "1", "m2", "n/a", "female"], sex_codes=codes) == ["F", "F", "M", "M", None, "F"]


def test_sex_codes_that_the_recipe_does_not_name_are_listed(tmp_path):
    with pytest.raises(CohortError, match=r"got 9 \(2 people\), which data.sex_codes does not name"):
        sexes(tmp_path, ["1", "2", "9", "9"], sex_codes=SexCodes(F=[2], M=[1]))


def test_sex_codes_for_both_sexes_are_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"data.sex_codes: got 1 for both F and M"):
        sexes(tmp_path, ["1", "2"], sex_codes=SexCodes(F=[1], M=["1.0"]))


def test_sex_of_unknown_words_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"got femme \(1 person\), expected F, M, female, male"):
        sexes(tmp_path, ["femme", "F"])


@pytest.mark.parametrize("text", ["male", {"Description": "Male participant"}])
def test_sex_codes_that_the_dataset_explains_are_taken(tmp_path, text):
    levels = {"sex": {"Levels": {"1": text, "2": "Female"}}}
    (tmp_path / "s").mkdir()
    (tmp_path / "s/participants.json").write_text(json.dumps(levels))
    assert sexes(tmp_path, ["1", "2", "2"]) == ["M", "F", "F"]


def test_sex_codes_explained_in_two_ways_are_a_fault(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/participants.json").write_text(json.dumps({"sex": {"Levels": {"1": "male", "2": "female"}}}))
    with pytest.raises(CohortError, match=r"got 1 for F from data.sex_codes, but for M from the dataset's own"):
        sexes(tmp_path, ["1", "2"], sex_codes=SexCodes(F=[1], M=[2]))


def test_a_person_of_two_sexes_is_a_fault(tmp_path):
    touch(tmp_path, "1.nii", "2.nii")
    (tmp_path / "list.tsv").write_text("path\tparticipant_id\tsex\n1.nii\tp1\tF\n2.nii\tp1\tM\n")
    with pytest.raises(CohortError, match="got both F and M for p1"):
        index(tmp_path / "list.tsv", visits="all")


# ---- where and exclude


@pytest.mark.parametrize(
    ("where", "people"),
    [
        ({"group": "control"}, ["sub-0003", "sub-0100"]),
        ({"group": ["patient", "control"], "site": "north"}, ["sub-0003", "sub-0012"]),
        ({"age": 47}, ["sub-0100"]),
        ({"age": "31.5"}, ["sub-0012"]),
        ({"age": [62.0, 47]}, ["sub-0007", "sub-0100"]),
        ({"sex": "F"}, ["sub-0012", "sub-0100"]),
        ({"sex": "w"}, ["sub-0100"]),
        ({"group": "n/a"}, ["sub-0007"]),
        ({"participant_id": ["sub-0007", "0003"]}, ["sub-0003", "sub-0007"]),
    ],
)
def test_where_keeps_what_matches(four, where, people):
    assert column(four, "participant_id", where=where) == people


def test_where_knows_true_and_false(tmp_path):
    root = bids(tmp_path / "s", "participant_id usable\nsub-1 True\nsub-2 false\n", image("1"), image("2"))
    assert column(root, "participant_id", where={"usable": True}) == ["sub-1"]


def test_where_on_an_unknown_column_names_the_nearest(four):
    with pytest.raises(CohortError, match=r"got the column 'gruop'.*Known columns: .*group.*Did you mean 'group'\?"):
        index(four, where={"gruop": "control"})


def test_where_that_leaves_nobody_says_which_values_exist(four):
    with pytest.raises(
        CohortError,
        match=r"data.where: got \{group: contrl\}, which fits none of 4 people. Values of group: control \(2\)",
    ):
        index(four, where={"group": "contrl"})


def test_where_spares_the_faults_of_others(tmp_path):
    root = bids(tmp_path / "s", "participant_id sex group\nsub-1 1 old\nsub-2 F new\n", image("1"), image("2"))
    assert column(root, "sex", where={"group": "new"}) == ["F"]


@pytest.mark.parametrize("entry", ["sub-0012", "0012", "study.sub-0012", "study.0012"])
def test_exclude_takes_ids_in_each_form(four, entry):
    assert column(four, "participant_id", exclude=[entry]) == ["sub-0003", "sub-0007", "sub-0100"]


def test_exclude_of_nobody_names_the_nearest(four):
    with pytest.raises(CohortError, match=r"data.exclude: got 'sub-0121', which is nobody's id.*Did you mean '0012'\?"):
        index(four, exclude=["sub-0121"])


def test_exclude_of_an_id_without_its_zeros_says_so(four):
    with pytest.raises(
        CohortError, match=r"got '12', which is nobody's id.*There is '0012': were leading zeros lost\?"
    ):
        index(four, exclude=["12"])


def test_exclude_of_everybody_is_a_fault(four):
    with pytest.raises(CohortError, match=r"data.exclude: got every person"):
        index(four, exclude=["0012", "0003", "0100", "0007"])


def test_exclude_in_several_cohorts_must_say_which(tmp_path):
    roots = [bids(tmp_path / name, None, image("1"), image("2")) for name in ("a", "b")]
    cohorts = [CohortRecipe(name=root.name, root=str(root)) for root in roots]
    table = index_cohort(DataRecipe(cohorts=cohorts, exclude=["b.sub-1"])).table
    assert table["participant_id"].tolist() == ["a.sub-1", "a.sub-2", "b.sub-2"]
    with pytest.raises(CohortError, match="got 'sub-1', who is in the cohorts a and b"):
        index_cohort(DataRecipe(cohorts=cohorts, exclude=["sub-1"]))


# ---- masks


@pytest.mark.parametrize("name", ["dseg", "mask", "desc-brain_mask"])
def test_masks_of_a_derivative_folder_are_found(tmp_path, name):
    words, _, suffix = name.rpartition("_")
    mask = "derivatives/tool/" + image("1", "2", f"{words}_" if words else "", suffix)
    root = bids(tmp_path / "s", None, image("1", "2"), mask)
    assert column(root, "mask_path", mask="tool") == [str(root / mask)]


def test_masks_by_pattern_are_found(tmp_path):
    root = bids(tmp_path / "s", None, image("1", "2"), "masks/sub-1/ses-2.nii.gz")
    assert column(root, "mask_path", mask="masks/{id}/{session}.nii.gz") == [str(root / "masks/sub-1/ses-2.nii.gz")]


def test_masks_of_several_cohorts_use_the_ids_of_the_files(tmp_path):
    roots = [bids(tmp_path / name, None, image("1"), "m/sub-1.nii.gz") for name in ("a", "b")]
    cohorts = [CohortRecipe(name=root.name, root=str(root), mask="m/{id}.nii.gz") for root in roots]
    assert index_cohort(DataRecipe(cohorts=cohorts)).table["mask_path"].tolist() == [
        str(r / "m/sub-1.nii.gz") for r in roots
    ]


def found(*stems):
    return [Found("sub-1", None, stem, f"/m/{stem}.nii.gz", False) for stem in stems]


@pytest.mark.parametrize(
    ("stem", "masks", "chosen"),
    [
        ("sub-1_T1w", ["sub-1_dseg", "sub-1_desc-brain_mask", "sub-1_mask"], "sub-1_desc-brain_mask"),
        ("sub-1_T1w", ["sub-1_space-MNI_desc-brain_mask", "sub-1_dseg"], "sub-1_dseg"),
        ("sub-1_space-MNI_desc-preproc_T1w", ["sub-1_space-MNI_dseg", "sub-1_mask"], "sub-1_space-MNI_dseg"),
        ("sub-1_run-2_T1w", ["sub-1_run-1_mask", "sub-1_run-2_mask", "sub-1_mask"], "sub-1_run-2_mask"),
        ("sub-1_run-2_T1w", ["sub-1_run-1_mask", "sub-1_mask"], "sub-1_mask"),
        ("sub-1_T1w", ["sub-1_run-1_mask"], None),
        ("sub-1_space-MNI_T1w", ["sub-1_mask"], None),
    ],
)
def test_mask_choice_goes_by_the_names(stem, masks, chosen):
    mask = choose_mask(stem, found(*masks))
    assert (mask and mask.stem) == chosen


def test_a_missing_mask_is_a_fault_unless_the_person_is_excluded(tmp_path):
    root = bids(tmp_path / "s", None, image("1"), image("2"), "derivatives/tool/" + image("1", suffix="dseg"))
    with pytest.raises(
        CohortError, match=r"sub-2_T1w.nii.gz: no mask, expected .*derivatives/tool/sub-2/anat/\*_dseg.nii.gz"
    ):
        index(root, mask="tool")
    assert len(index(root, mask="tool", exclude=["2"]).table) == 1


def test_a_missing_mask_of_a_pattern_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"no mask, expected .*/s/m/sub-1.nii"):
        index(bids(tmp_path / "s", None, image("1")), mask="m/{id}.nii")


def test_a_mask_folder_that_is_not_there_names_the_others(tmp_path):
    root = bids(tmp_path / "s", None, image("1"), "derivatives/dlmuse/" + image("1", suffix="dseg"))
    with pytest.raises(CohortError, match=r"derivatives/ holds dlmuse.*Did you mean 'dlmuse'\?"):
        index(root, mask="dlmues")


@pytest.mark.parametrize("pattern", ["m/{subject}.nii", "m/{session}.nii", "m/{id}_{run}.nii"])
def test_a_mask_pattern_with_other_names_is_a_fault(tmp_path, pattern):
    with pytest.raises(CohortError, match=r"data.mask: got 'm/.*expected a path pattern with \{id\}"):
        index(bids(tmp_path / "s", None, image("1")), mask=pattern)


# ---- faults of folders and tables


def test_no_root_is_a_fault():
    with pytest.raises(CohortError, match=r"data.root: got null, expected a cohort"):
        index_cohort(DataRecipe())


def test_a_root_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match="nowhere: no such folder or table"):
        index(tmp_path / "nowhere")


def test_a_root_that_is_another_file_is_a_fault(tmp_path):
    touch(tmp_path, "scan.nii.gz")
    with pytest.raises(CohortError, match=r"scan.nii.gz: got a file that is no table"):
        index(tmp_path / "scan.nii.gz")


def test_no_image_says_which_suffixes_are_there(tmp_path):
    root = bids(tmp_path / "s", None, image("1", suffix="T2w"), image("2", suffix="T2w"))
    with pytest.raises(
        CohortError, match=r"looked for sub-\*/\[ses-\*/\]anat/\*_T1w.nii\[.gz\], got 2 ending in _T2w. Set data.suffix"
    ):
        index(root)


def test_no_image_says_what_is_there_instead(tmp_path):
    with pytest.raises(CohortError, match=r"no image found; .*got 1 sub-\* folder without NIfTI"):
        index(bids(tmp_path / "s", None, "sub-1/func/sub-1_bold.nii.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"no image found; .*got an empty folder"):
        index(tmp_path / "empty")
    touch(tmp_path, "papers/one.pdf")
    with pytest.raises(CohortError, match=r"no image found; .*got one.pdf"):
        index(tmp_path / "papers")


def test_an_image_without_row_is_a_fault(four):
    touch(four, image("0050"))
    with pytest.raises(
        CohortError, match=r"participants.tsv: got no row for sub-0050 \(sub-0050/anat/sub-0050_T1w.nii.gz\)"
    ):
        index(four)
    assert len(index(four, exclude=["0050"]).table) == 4


def test_a_table_that_lost_leading_zeros_is_recognised(tmp_path):
    with pytest.raises(CohortError, match=r"got no row for sub-0012 .*There is '12': were leading zeros lost\?"):
        index(bids(tmp_path / "s", "participant_id sex\n12 F\n", image("0012")))


def test_a_person_with_two_rows_is_a_fault(four):
    with open(four / "participants.tsv", "a") as file:
        file.write("0012\tF\t31\tnorth\ta\tcontrol\n")
    with pytest.raises(CohortError, match=r"participants.tsv: got 2 rows for 0012, expected one"):
        index(four)


def test_a_file_in_the_wrong_folder_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"sub-2_T1w.nii.gz: got a file of sub-2 in the folder of sub-1"):
        index(bids(tmp_path / "s", None, "sub-1/anat/sub-2_T1w.nii.gz"))


def test_a_link_to_nothing_is_a_fault(tmp_path):
    root = bids(tmp_path / "s", None, image("1"), image("2"))
    (root / image("2")).unlink()
    (root / image("2")).symlink_to(root / ".git/annex/objects/gone")
    with pytest.raises(CohortError, match=r"sub-2_T1w.nii.gz: got a link to a missing file.*datalad get"):
        index(root)


def test_many_faults_of_a_kind_are_cut_short(tmp_path):
    paths = "".join(f"im{number}.nii.gz\n" for number in range(67))
    (tmp_path / "list.tsv").write_text("path\n" + paths)
    with pytest.raises(CohortError) as caught:
        index(tmp_path / "list.tsv")
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1] == "... and 47 more"


def test_ids_that_do_not_match_the_table_are_one_line_with_examples_of_both_sides(four):
    touch(four, *(image(f"9{number:03d}") for number in range(67)))
    with open(four / "participants.tsv", "a") as file:
        file.write("".join(f"S_{number:03d}\tF\t20\tnorth\tn/a\tcontrol\n" for number in range(41)))
    with pytest.raises(CohortError) as caught:
        index(four)
    (line,) = caught.value.faults
    assert "no row for 67 people with images (sub-9000, sub-9001, sub-9002 and 64 more)" in line
    assert "41 rows have no image (S_000, S_001, S_002 and 38 more)" in line


def test_faults_of_different_kinds_come_together(four):
    touch(four, image("0050"))
    with pytest.raises(CohortError) as caught:
        index(four, exclude=["nobody"], where={"gruop": 1}, site_column="scannr")
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"participant_id,sex\nsub-1,F\n", "without a tab, expected columns separated by tabs"),
        (b"participant_id\tsex\nsub-1\tF\textra\n", "row 2: got 3 tab-separated values, expected 2"),
        (b"participant_id\tsex\nsub-1\n", "row 2: got 1 tab-separated values, expected 2"),
        (b"participant_id\tsex\tsex\nsub-1\tF\tM\n", "got several columns named sex"),
        (b"\n", "got an empty file"),
        (b"participant_id\tname\nsub-1\tM\xfcller\n", "not text in UTF-8"),
        (b"name\tsex\nsub-1\tF\n", "got the columns name, sex, expected participant_id"),
    ],
)
def test_an_unreadable_table_is_a_fault(tmp_path, text, message):
    root = bids(tmp_path / "s", None, image("1"))
    (root / "participants.tsv").write_bytes(text)
    with pytest.raises(CohortError, match=message):
        index(root)


def test_a_damaged_description_of_the_table_is_a_fault(four):
    (four / "participants.json").write_text("{")
    with pytest.raises(CohortError, match=r"participants.json: cannot be read as JSON"):
        index(four)
    (four / "participants.json").write_text("[1]")
    with pytest.raises(CohortError, match=r"participants.json: got a list, expected a JSON object"):
        index(four)


@pytest.mark.parametrize("kind", ["bids", "plain"])
def test_a_folder_that_may_not_be_read_is_a_fault(tmp_path, monkeypatch, kind):
    root = bids(tmp_path / "s", None, image("1"))
    if kind == "plain":
        (root / "dataset_description.json").unlink()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("sub-1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CohortError, match=r"sub-1: may not be read. Ask for the right"):
        index(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\n1.nii\n", "got the columns name, expected one with the paths"),
        ("path\tsex\nn/a\tF\n", "got no row with a path in column path"),
        ("path\n2.nii\n", "got the path .*2.nii, where there is no file"),
        ("path\n1.nii\n1.nii\n", "1.nii in several rows, expected one"),
        ("path\n1.png\n", "got 1.png in column path, expected a name ending in .nii.gz"),
        ("path\tparticipant_id\n1.nii\tn/a\n", "got no participant_id for"),
        ("path\na/t1.nii\nb/t1.nii\n", "got 2 images named t1 .*expected a file name for each person"),
        ("path\tparticipant_id\n1.nii\ta b\na/t1.nii\ta/b\n", "got the id a-b also for"),
    ],
)
def test_faults_of_a_table_of_paths(tmp_path, text, message):
    touch(tmp_path, "1.nii", "1.png", "a/t1.nii", "b/t1.nii")
    (tmp_path / "list.tsv").write_text(text)
    with pytest.raises(CohortError, match=message):
        index(tmp_path / "list.tsv")


def test_one_name_in_several_plain_folders_is_a_fault(tmp_path):
    touch(tmp_path, "1/t1.nii", "2/t1.nii")
    with pytest.raises(CohortError, match="got 2 images named t1"):
        index(tmp_path)


@pytest.mark.parametrize("name", ["sex", "age", "site", "family"])
def test_a_column_that_the_recipe_misspells_is_a_fault(four, name):
    with pytest.raises(CohortError, match=rf"data.{name}_column: got 'gruop', which no table.*Did you mean 'group'\?"):
        index(four, **{f"{name}_column": "gruop"})


def test_some_strange_ages_are_noted_and_only_strange_ones_are_a_fault(tmp_path):
    root = bids(
        tmp_path / "s", "participant_id sex age\nsub-1 F 89+\nsub-2 F -9\nsub-3 M 40\n", *(image(n) for n in "123")
    )
    cohort = index(root)
    np.testing.assert_equal(cohort.table["age"].to_numpy(), [np.nan, np.nan, 40.0])
    assert "2 ages not in years from 0 to 120 ('89+', '-9')" in cohort.notes[0]
    with pytest.raises(CohortError, match=r"age: got '89\+', '-9', expected years"):
        index(root, exclude=["3"])


# ---- scale and real data


def test_ten_thousand_people_are_indexed_without_opening_an_image(tmp_path):
    number = 10_000
    rows = ["participant_id\tsex\tage\tsite"]
    for person in range(number):
        folder = tmp_path / f"sub-{person:05d}" / "anat"
        folder.mkdir(parents=True)
        os.close(os.open(folder / f"sub-{person:05d}_T1w.nii.gz", os.O_CREAT, 0))  # nobody may open it
        rows.append(f"{person:05d}\t{'FM'[person % 2]}\t{20 + person % 60}\tsite{person % 7}")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    table = index(tmp_path, where={"site": ["site0", "site3"]}).table
    assert len(table) == sum(person % 7 in (0, 3) for person in range(number))
    assert table["sex"].tolist() == ["FM"[int(person[4:]) % 2] for person in table["participant_id"]]


def test_a_written_image_is_indexed(tmp_path):
    path = tmp_path / "s" / image("1")
    write_volume(path, np.arange(7 * 8 * 9, dtype=np.float32).reshape(7, 8, 9), np.diag([2.0, 3.0, 4.0, 1.0]))
    assert column(bids(tmp_path / "s", None), "path") == [str(path)]


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MRIGEN_REAL_DATA is not set")
def test_real_ixi_is_indexed():
    table = index(Path(REAL) / "ixi-hh", mask="dlmuse").table
    assert len(table) == 127
    assert table["sex"].value_counts(dropna=False).to_dict() == {"F": 64, "M": 60, None: 3}
    assert table["age"].between(20, 83).sum() == table["age"].notna().sum() > 120
    assert all(f"/derivatives/dlmuse/{row.participant_id}/" in row.mask_path for row in table.itertuples())
    assert {"group", "skull_stripped"} <= set(table)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MRIGEN_REAL_DATA is not set")
@pytest.mark.parametrize(("name", "women", "men"), [("ds002748", 12, 4), ("ds000011", 5, 3)])
def test_real_small_sets_are_indexed(name, women, men):
    table = index(Path(REAL) / name).table
    assert table["sex"].value_counts().to_dict() == {"F": women, "M": men}


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MRIGEN_REAL_DATA is not set")
def test_real_sets_are_indexed_together():
    names = {"ixi": "ixi-hh", "depression": "ds002748", "ucla": "ds000011"}
    cohorts = [
        CohortRecipe(name=name, root=f"{REAL}/{folder}", mask="dlmuse" if name == "ixi" else None)
        for name, folder in names.items()
    ]
    table = index_cohort(DataRecipe(cohorts=cohorts)).table
    assert table["cohort"].value_counts().to_dict() == {"ixi": 127, "depression": 16, "ucla": 8}
    assert table["scan_id"].is_unique
    assert table["mask_path"].notna().sum() == 127
    assert table["participant_id"].str.match(r"^(ixi|depression|ucla)\.sub-").all()
