"""Cohorts with every kind of bad file and bad id: one line each, all together; odd ids that come back as they are."""

import os
import re
import shutil

import bad_files
import nibabel
import numpy as np
import pandas as pd
import pytest
from mrigen_cli.main import main

from mrigen.data.cohort import index_cohort
from mrigen.errors import CohortError, RecipeError
from mrigen.recipe import DataRecipe, load_recipe
from mrigen.system.files import write_table

# They are told before any voxel is read.
LINKS = ("a link to nothing", "a link to itself")
FEW = [bad for bad in bad_files.IMAGES if bad.kind in ("sides of 32767", "MGH, a wrong type", "text", "a folder")]


def save_head(path, number=0):
    """Writes an image that is fit, another one for each number."""
    array = np.zeros((16, 18, 20), np.float32)
    array[3:13, 3:15, 3:17] = 100 + np.random.default_rng(number).normal(0, 5, (10, 12, 14))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([10.0, 10.0, 10.0, 1.0])), path)


def index(root, **settings):
    return index_cohort(DataRecipe(source="files", root=str(root), **settings))


def lines_of(root, **settings):
    with pytest.raises(CohortError) as caught:
        index(root, **settings)
    return list(caught.value.faults)


def run(capfd, *arguments):
    """Returns the exit status and the lines on stderr of a command."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return caught.value.code, capfd.readouterr().err.splitlines()


def bad_cohort(folder, kinds):
    """Makes a BIDS cohort of bad files, and returns path -> kind."""
    made = {}
    for number, bad in enumerate(kinds):
        name = f"sub-{number:03d}"
        path = folder / name / "anat" / f"{name}_T1w.{bad.file.partition('.')[2]}"
        path.parent.mkdir(parents=True)
        bad.build(path)
        made[str(path)] = bad
    return made


def test_every_bad_file_of_a_cohort_is_one_line_among_all(tmp_path, capfd):
    made = bad_cohort(tmp_path / "cohort", [bad for bad in bad_files.IMAGES if bad.kind not in LINKS])
    for number in range(2):
        save_head(tmp_path / "cohort" / f"sub-good{number}" / "anat" / f"sub-good{number}_T1w.nii.gz", number)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    status, lines = run(capfd, "check", "smoke", "--set", "data.source=files", "--set", f"data.root={tmp_path}/cohort")
    assert status == 2
    lines = [line.removeprefix("mrigen: ") for line in lines if line.startswith("mrigen: ")]
    for path, bad in made.items():
        own = [line.removeprefix(f"{path}: ") for line in lines if line.startswith(f"{path}: ")]
        assert any(re.fullmatch(bad.line.replace(r"to a\.", r"to sub-\d+_T1w\."), line) for line in own), (
            bad.kind,
            own,
        )
    assert not [line for line in lines if "good" in line or "not foreseen" in line]
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("is_table", [False, True])
def test_a_missing_image_does_not_hide_bad_heads(tmp_path, is_table):
    kinds = [bad for bad in bad_files.IMAGES if bad.kind in LINKS]
    paths = [*bad_cohort(tmp_path, [*FEW, *kinds])]
    if is_table:
        write_table(tmp_path / "people.tsv", pd.DataFrame({"path": paths}))
    lines = lines_of(tmp_path / "people.tsv" if is_table else tmp_path)
    assert all(any(path in line for line in lines) for path in paths), lines


@pytest.mark.parametrize("bad", bad_files.NAMES, ids=lambda bad: bad.kind)
def test_a_bad_id_in_a_table_is_one_line(tmp_path, bad):
    save_head(tmp_path / "a.nii.gz")
    write_table(tmp_path / "people.tsv", pd.DataFrame({"participant_id": [bad.name], "path": ["a.nii.gz"]}))
    (line,) = lines_of(tmp_path / "people.tsv")
    assert re.fullmatch(rf"{tmp_path}/people.tsv: got the id '{re.escape(bad.name)}', {bad.line}", line)


@pytest.mark.parametrize("bad", bad_files.NAMES_OF_FILES, ids=lambda bad: bad.kind)
def test_a_bad_name_of_a_file_is_told_with_all_others(tmp_path, bad, capfd):
    for number, name in enumerate(("good", bad.name, f"other{bad.name}")):
        save_head(tmp_path / "cohort" / f"{name}_T1w.nii.gz", number)
    lines = lines_of(tmp_path / "cohort")
    assert len(lines) == 4
    assert all(line.startswith(f"{tmp_path}/cohort") for line in lines)
    status, said = run(capfd, "check", "smoke", "--set", "data.source=files", "--set", f"data.root={tmp_path}/cohort")
    assert status == 2
    assert len(said) == 4
    assert all(line.isprintable() for line in said)


def test_a_bad_session_is_one_line(tmp_path):
    save_head(tmp_path / "sub-01" / "ses-a\nb" / "anat" / "sub-01_ses-ab_T1w.nii.gz")
    lines = lines_of(tmp_path)
    assert len(lines) == 2
    assert r"got the session" in lines[1]


def test_odd_ids_are_taken_and_have_safe_files(tmp_path):
    names = list(bad_files.GOOD_NAMES)
    for number in range(len(names)):
        save_head(tmp_path / f"{number}.nii.gz", number)
    frame = pd.DataFrame({"participant_id": names, "path": [f"{number}.nii.gz" for number in range(len(names))]})
    write_table(tmp_path / "people.tsv", frame.assign(site="=site"))
    table = index(tmp_path / "people.tsv").table
    assert set(table["participant_id"]) == set(names)
    assert set(table["site"]) == {"=site"}
    ids = table.set_index("participant_id")["scan_id"]
    assert ids["-dev"] == "_dev"
    assert ids["a/b"] == "a-b"
    assert ids["0012"] == "0012"


def test_ids_that_differ_in_case_alone_are_noted(tmp_path):
    for number, name in enumerate(("p1", "P1", "p2")):
        save_head(tmp_path / f"{name}.nii.gz", number)
    assert [note for note in index(tmp_path).notes if note.startswith("2 ids differ in case alone (")]


@pytest.mark.parametrize("build", ["fifo", "folder", "loop", "link"])
def test_a_table_that_is_no_file_is_one_line(tmp_path, build):
    save_head(tmp_path / "sub-01_T1w.nii.gz")
    path = tmp_path / "participants.tsv"
    {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "link": lambda: path.symlink_to("none"),
    }[build]()
    (line,) = lines_of(tmp_path)
    assert re.fullmatch(rf"{path}: (got (a named pipe|a folder|a link that leads to itself)|no such file), .*", line)


def test_a_description_that_is_no_json_is_one_line(tmp_path):
    save_head(tmp_path / "sub-01_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\n")
    for text in ("[" * 100_000, '{"sex": ' + "1" * 5000 + "}", '{"sex": "\ud800"'.encode("utf-8", "surrogatepass")):
        (tmp_path / "participants.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        (line,) = lines_of(tmp_path)
        assert line.startswith(f"{tmp_path}/participants.json: cannot be read as JSON")


@pytest.mark.parametrize("name", ["..", "a\nb", "a" * 200])
def test_a_cohort_has_a_name_that_can_be_written(tmp_path, name):
    with pytest.raises((RecipeError, ValueError), match="got a cohort named"):
        DataRecipe(source="files", cohorts=[{"name": name, "root": str(tmp_path)}])


def test_an_argument_that_is_no_utf_8_is_one_line(capfd):
    status, lines = run(capfd, "check", os.fsdecode(b"\xff.yaml"))
    assert (status, lines) == (
        2,
        [r"mrigen: got \udcff.yaml, which is no UTF-8, expected text. Rename the file that it names."],
    )


def test_a_list_of_ids_that_is_a_pipe_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "ids.txt")
    with pytest.raises(RecipeError, match=r"ids.txt, which cannot be read \(a named pipe, not a file\)"):
        load_recipe("smoke", [f"data.exclude={tmp_path}/ids.txt"])
    shutil.rmtree(tmp_path)
