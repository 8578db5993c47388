"""A small cohort with planted faults, from files to the page and the list of whom to leave out."""

import re
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

import mrigen
from benchmarks.planted import plant
from mrigen.data.cohort import index_cohort
from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
from mrigen.errors import UsageError
from mrigen.recipe import load_recipe

PEOPLE = 26


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A synthetic cohort."""
    return write_phantom_cohort(tmp_path_factory.mktemp("qc") / "clean", PhantomSettings(num_subjects=PEOPLE))


@pytest.fixture(scope="module")
def spoiled(clean, tmp_path_factory):
    """A copy with faults, and person -> the flag that is expected."""
    folder = tmp_path_factory.mktemp("qc") / "spoiled"
    shutil.copytree(clean, folder)
    people = pd.read_csv(folder / "participants.tsv", sep="\t")["participant_id"].tolist()
    paths = {person: folder / person / "anat" / f"{person}_T1w.nii.gz" for person in people}

    def change(person, make):
        image = nibabel.load(paths[person])
        array, affine = make(np.asarray(image.dataobj).astype(np.float32), image.affine.copy())
        nibabel.save(nibabel.Nifti1Image(array, affine), paths[person])

    generator = np.random.default_rng(0)
    change(people[2], lambda array, affine: (array, affine @ np.diag([0.5, 0.5, 0.5, 1.0])))
    change(people[5], lambda array, affine: (array[:, :, ::-1], affine))
    change(people[8], lambda array, affine: (array + 0.3 * array.max() * generator.normal(size=array.shape), affine))
    paths[people[11]].write_bytes(paths[people[11]].read_bytes()[:5000])
    image = nibabel.load(paths[people[14]])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine), paths[people[15]])
    change(people[20], lambda array, affine: plant("other contrast", array, affine, generator))
    wanted = {
        2: "size",
        5: "orientation",
        8: "noise",
        11: "unreadable",
        14: "duplicate",
        15: "duplicate",
        20: "contrast",
    }
    return folder, {people[number]: flag for number, flag in wanted.items()}


@pytest.fixture(scope="module")
def found(spoiled):
    return mrigen.qc(str(spoiled[0]))


def test_what_is_planted_is_found_and_nothing_else(found, spoiled):
    wanted = spoiled[1]
    frame = found.to_frame().set_index("scan_id")
    assert {name: flag for name, flag in wanted.items() if flag not in str(frame["flags"][name])} == {}
    assert set(frame.index[frame["verdict"] != "fine"]) == set(wanted)
    assert len(frame) == PEOPLE and (frame["verdict"][[*wanted][:2]] == "wrong").all()
    assert str(frame["reasons"][next(iter(wanted))]).startswith("Width of the head")


def test_a_clean_cohort_has_no_flags(clean):
    found = mrigen.qc(str(clean))
    assert found.flags.empty, found
    assert repr(found) == f"{PEOPLE} images: 0 wrong, 0 to be looked at, {PEOPLE} fine"


def test_the_measures_know_the_volume_of_the_masks(clean):
    frame = mrigen.qc({"root": str(clean), "mask": "phantom"}).to_frame()
    person = frame.iloc[3]
    path = next(clean.rglob(f"{person['scan_id']}_desc-brain_mask.nii.gz"))
    mask = nibabel.load(path)
    wanted = np.count_nonzero(np.asarray(mask.dataobj)) * np.prod(mask.header.get_zooms()) / 1000
    assert person["brain_volume_ml"] == pytest.approx(wanted, rel=1e-5)


def test_files_are_written_once_and_stand_alone(found, spoiled, tmp_path):
    paths = found.write(tmp_path / "qc")
    assert [path.name for path in paths] == ["qc.tsv", "qc.html", "qc.png", "exclude.txt"]
    table = pd.read_csv(paths[0], sep="\t", na_values="n/a")
    assert len(table) == PEOPLE and table["verdict"].value_counts()["fine"] == PEOPLE - len(spoiled[1])
    page = paths[1].read_text()
    assert not re.search(r"https?://|src=\"(?!data:)|href=", page)
    assert page.count("<img") == PEOPLE - 1 + 1  # A picture of everyone who can be read, and the measures.
    with pytest.raises(UsageError, match="is there already"):
        found.write(tmp_path / "qc")
    assert found.write(tmp_path / "qc", force=True) == paths


def test_the_list_leaves_wrong_people_out_and_only_names_the_others(found, spoiled, tmp_path):
    path = found.write(tmp_path)[-1]
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    listed = [line for line in lines if line]
    frame = found.to_frame()
    assert listed == list(frame["participant_id"][frame["verdict"] == "wrong"])
    strange = set(frame["participant_id"][frame["verdict"] == "look"])
    assert strange == set(re.findall(r"^# (\S+)  # ", path.read_text(), re.MULTILINE))
    cohort = index_cohort(load_recipe("vae", [f"data.root={spoiled[0]}", f"data.exclude=[{','.join(listed)}]"]).data)
    again = mrigen.qc({"root": str(spoiled[0]), "exclude": listed})
    assert len(again.table) == len(cohort.table) == PEOPLE - len(listed)
    assert "wrong" not in set(again.table["verdict"])


def test_a_page_escapes_what_tables_hold(found):
    import dataclasses

    table = found.table.assign(site="<script>alert(1)</script>")
    from mrigen.quality.page import render_page

    assert "<script>alert" not in render_page(dataclasses.replace(found, table=table))


def test_images_in_memory_and_a_single_one_can_be_looked_at(clean):
    paths = sorted(clean.glob("sub-*/anat/*_T1w.nii.gz"))
    assert len(mrigen.qc([nibabel.load(path) for path in paths[:3]]).table) == 3
    one = mrigen.qc([paths[0]])
    assert list(one.table["verdict"]) == ["fine"]
    assert one.plot() is not None


def test_a_cohort_that_cannot_be_read_is_told_in_full(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.nii.gz").write_bytes(b"no image")
    found = mrigen.qc(str(tmp_path))
    assert list(found.table["verdict"]) == ["wrong", "wrong"]
    assert all(str(tmp_path) in reason for reason in found.flags["reason"])
    assert len(found.write(tmp_path / "out")) == 4


def test_results_do_not_depend_on_the_number_of_threads(spoiled, found):
    again = mrigen.qc(str(spoiled[0]), num_workers=1)
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame())


def test_a_run_is_looked_at_as_it_prepares_its_images(finished_run):
    found = mrigen.open_run(finished_run.directory).qc()
    assert list(found.table["scan_id"]) == list(finished_run.subjects["scan_id"])
    assert found.directory == finished_run.directory / "qc"
    np.testing.assert_allclose(found.table["head_volume_ml"], finished_run.subjects["head_volume_ml"])
