"""What names of files say: kinds of image, phases, masks; folders that are BIDS enough; the summary of a cohort."""

import pytest

from mrigen.data.cohort import index_cohort
from mrigen.data.kinds import is_magnitude, is_mask
from mrigen.errors import CohortError
from mrigen.recipe import CohortRecipe, DataRecipe


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def anat(person, words="", suffix="T1w"):
    return f"sub-{person}/anat/sub-{person}_{words}{suffix}.nii.gz"


def index(root, **keys):
    return index_cohort(DataRecipe(root=str(root), **keys))


def names(cohort):
    return [path.rpartition("/")[2] for path in cohort.table["path"]]


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("sub-1_part-phase_T1w", False), ("sub-1_part-imag_T1w", False), ("sub-1_part-imag_run-2_T1w", False),
        ("p1_t1_phase", False), ("p1_ph", False), ("p1_imaginary", False), ("p1_imaginarya_T1w", False),
        ("sub-1_part-mag_T1w", True), ("sub-1_part-real_T1w", True), ("graph_p1", True), ("phase2-study_p1", True),
        ("sub-image1_T1w", True), ("sub-ph_T1w", True),
    ],
)  # fmt: skip
def test_phases_are_told_by_their_names(stem, expected):
    assert is_magnitude(stem) == expected


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("p1_mask", True), ("p1_brain_mask", True), ("p1_brainmask", True), ("p1-seg", True), ("mask_p1", True),
        ("p1.aseg", True), ("p1_aparc+aseg", True), ("p1_T1_lesion_mask", True), ("sub-1_space-T1w_dseg", True),
        ("p1_masked", False), ("p1_brain", False), ("segal_p1", False), ("unmasked_p1", False), ("p1_T1", False),
    ],
)  # fmt: skip
def test_masks_are_told_by_their_names(stem, expected):
    assert is_mask(stem) == expected


def test_phases_are_never_a_t1_not_even_alone(tmp_path):
    root = touch(tmp_path, "dataset_description.json", anat("1", "part-mag_"), anat("1", "part-phase_"), anat("2"))
    touch(root, anat("3", "part-imag_"))
    cohort = index(root, visits="all")
    assert names(cohort) == ["sub-1_part-mag_T1w.nii.gz", "sub-2_T1w.nii.gz"]
    assert any("2 files left out as phase and imaginary parts" in note for note in cohort.notes)
    with pytest.raises(CohortError, match=r"got only 1 mask, phase or imaginary image"):
        index(touch(tmp_path / "only", "dataset_description.json", anat("1", "part-phase_")))


def test_masks_of_a_plain_folder_are_no_people(tmp_path):
    root = touch(tmp_path, "p1.nii.gz", "p1_mask.nii.gz", "p2.nii", "masks/p2_brainmask.nii", "p2_phase.nii")
    cohort = index(root)
    assert cohort.table["participant_id"].tolist() == ["p1", "p2"]
    assert any("3 files left out as masks" in note for note in cohort.notes)


def test_masks_may_be_asked_for(tmp_path):
    root = touch(tmp_path, "sub-1_mask.nii.gz", "sub-1_T1w.nii.gz")
    assert names(index(root, suffix="mask")) == ["sub-1_mask.nii.gz"]


def test_longer_names_beside_a_persons_are_noted(tmp_path):
    notes = index(touch(tmp_path, "p1.nii.gz", "p1_brain.nii.gz", "p10.nii.gz", "p2.nii.gz")).notes
    assert any("1 file with another's name and more words (p1_brain beside p1)" in note for note in notes)
    assert not any("more words" in note for note in index(touch(tmp_path / "b", "a_1.nii", "a_2.nii")).notes)


def test_one_name_in_several_folders_is_a_fault_of_bids_names_too(tmp_path):
    with pytest.raises(CohortError, match="got 2 images named sub-1_T1w"):
        index(touch(tmp_path, "a/sub-1_T1w.nii.gz", "b/sub-1_T1w.nii.gz"))


@pytest.mark.parametrize("entity", ["space-MNI", "ce-gad", "acq-lowres", "res-2", "desc-brain", "part-mag", "rec-norm"])
def test_kinds_of_image_across_people_are_counted_and_can_be_chosen(tmp_path, entity):
    root = touch(tmp_path, "dataset_description.json", anat("1"), anat("2"), anat("3", f"{entity}_"))
    (note,) = [note for note in index(root).notes if "different kinds" in note]
    assert f"plain (2), {entity} (1)" in note
    key, _, value = entity.partition("-")
    assert f"`data.where={{{key}: n/a}}`" in note
    plain, other = index(root, where={key: "n/a"}), index(root, where={key: value})
    assert (len(plain.table), len(other.table)) == (2, 1)
    assert not any("different kinds" in note for note in (*plain.notes, *other.notes))


def test_one_kind_is_not_noted_and_runs_are_no_kinds(tmp_path):
    root = touch(tmp_path, "dataset_description.json", anat("1", "acq-x_run-1_"), anat("2", "acq-x_run-2_"))
    assert not any("kinds" in note for note in index(root).notes)


# ---- BIDS enough


@pytest.mark.parametrize("folder", ["anat", "ses-1/anat"])
def test_people_with_anat_are_bids_enough(tmp_path, folder):
    session = "ses-1_" if folder.startswith("ses") else ""
    root = touch(tmp_path, *(f"sub-{n}/{folder}/sub-{n}_{session}T1w.nii.gz" for n in "12"))
    touch(root, "sourcedata/sub-1_T1w.nii.gz", "code/template_T1w.nii.gz", "rawdata/sub-3/anat/sub-3_T1w.nii.gz")
    touch(root, "sub-1/raw.nii", "atlas.nii.gz")
    cohort = index(root)
    assert cohort.table["participant_id"].tolist() == ["sub-1", "sub-2"]
    assert any("no dataset_description.json" in note for note in cohort.notes)
    elsewhere = "2 NIfTI files outside sub-*/[ses-*/]anat left out (atlas.nii.gz, sub-1/raw.nii)"
    assert any(elsewhere in note for note in cohort.notes)


def test_a_plain_folder_has_no_people_in_sourcedata_and_code(tmp_path):
    root = touch(tmp_path, "p1.nii.gz", "sourcedata/p2.nii.gz", "code/p3.nii.gz", "derivatives/p4.nii.gz")
    assert index(root).table["participant_id"].tolist() == ["p1"]


def test_anat_with_names_of_its_own_is_a_plain_folder(tmp_path):
    assert names(index(touch(tmp_path, "sub-1/anat/IXI012-T1.nii.gz", "sub-2/anat/IXI013-T1.nii.gz"))) == [
        "IXI012-T1.nii.gz",
        "IXI013-T1.nii.gz",
    ]


def test_images_beside_anat_alone_are_named(tmp_path):
    with pytest.raises(CohortError, match=r"got 1 NIfTI file outside anat \(sub-1/sub-1_T1w.nii.gz\)"):
        index(touch(tmp_path, "dataset_description.json", "sub-1/sub-1_T1w.nii.gz"))


def test_a_phase_in_a_table_of_paths_is_left_out(tmp_path):
    touch(tmp_path, "sub-1_part-phase_T1w.nii", "sub-2_T1w.nii")
    (tmp_path / "list.tsv").write_text("path\tsex\nsub-1_part-phase_T1w.nii\tF\nsub-2_T1w.nii\tM\n")
    cohort = index(tmp_path / "list.tsv")
    assert cohort.table["sex"].tolist() == ["M"]
    assert any("1 file left out as phase and imaginary parts" in note for note in cohort.notes)


def test_a_table_of_people_under_another_name_is_pointed_at(tmp_path):
    root = touch(tmp_path, "dataset_description.json", anat("1"), "participants.csv")
    assert any("no participants.tsv" in note and "There is participants.csv" in note for note in index(root).notes)


def test_a_dataset_below_the_folder_is_pointed_at(tmp_path):
    root = touch(tmp_path, f"study/{anat('1')}", f"study/{anat('2')}", "study/participants.tsv")
    assert any(f"images lie in the dataset {root}/study" in note for note in index(root).notes)
    assert not any("images lie in" in note for note in index(touch(tmp_path / "b", "a/p1.nii")).notes)


def test_people_in_folders_of_their_own_without_anat_are_a_plain_folder(tmp_path):
    assert names(index(touch(tmp_path, "sub-1/sub-1_T1w.nii.gz", "sub-2/sub-2_T1w.nii.gz"))) == [
        "sub-1_T1w.nii.gz",
        "sub-2_T1w.nii.gz",
    ]


# ---- the summary


def test_the_summary_counts_people_and_what_is_known_of_them(tmp_path):
    root = touch(tmp_path / "a", "dataset_description.json", anat("1"), anat("2"), anat("3"))
    for number in (1, 2):
        touch(root, f"sub-4/ses-{number}/anat/sub-4_ses-{number}_T1w.nii.gz", f"m/sub-{number}.nii.gz")
    (root / "participants.tsv").write_text(
        "participant_id\tsex\tage\tsite\tfamily\nsub-1\tF\t20\tx\tk\nsub-2\tM\t0.5\tx\tk\nsub-3\tX\tn/a\ty\tj\n"
        "sub-4\tF\t60\tx\tn/a\n"
    )
    assert index(root, visits="all").summary() == [
        "people: 4 with 5 images",
        "sex: 2 F, 1 M, 1 neither or not known",
        "age: known of 3, 0.5 to 60 years (median 20)",
        "site: 2 sites, x (3), y (1)",
        "mask: none",
        "sessions: ses-1 (1), ses-2 (1); several of 1 person",
        "family: known of 3; 1 family with 2 people who stay together",
    ]


def test_the_summary_of_bare_cohorts(tmp_path):
    cohorts = []
    for name in "ab":
        touch(tmp_path / name, "p1.nii.gz", "masks/p1.nii.gz")
        cohorts.append(CohortRecipe(name=name, root=str(tmp_path / name), mask="masks/{id}.nii.gz"))
    lines = index_cohort(DataRecipe(cohorts=cohorts)).summary()
    assert "cohorts: a (1), b (1)" in lines
    assert "age: nobody's is known" in lines
    assert "mask: 2 of 2 images" in lines
    assert "family: nobody's is known" in lines
