"""Cohorts of files in any container and of any spelling."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from mrigen.data.cohort import index_cohort
from mrigen.imaging.volumes import read_volume
from mrigen.recipe import DataRecipe
from mrigen.runs.images import stem_of

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
NAMES = ("sub-01_T1w.nii", "sub-02_T1w.NII.GZ", "sub-03_T1w.mgz", "sub-04_T1w.nii.bz2", "sub-05_T1w.MGH")


def save(path, number):
    kind = nibabel.MGHImage if ".mg" in path.name.lower() else nibabel.Nifti1Image
    nibabel.save(kind(np.full((9, 10, 11), number, np.float32), AFFINE), path)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES, start=1):
        save(tmp_path / name, number)
    return tmp_path


def index(root):
    return index_cohort(DataRecipe(source="files", root=str(root))).table


def test_a_plain_folder_takes_every_container(folder):
    table = index(folder)
    assert list(table["participant_id"]) == [f"sub-0{number}" for number in range(1, 6)]
    assert [read_volume(path).array[0, 0, 0] for path in table["path"]] == [1, 2, 3, 4, 5]


def test_a_bids_folder_takes_every_container(folder):
    for name in NAMES:
        anat = folder / "bids" / name[:6] / "anat"
        anat.mkdir(parents=True)
        (folder / name).rename(anat / name)
    (folder / "bids" / "dataset_description.json").write_text("{}")
    assert len(index(folder / "bids")) == 5


def test_a_table_takes_the_tree_of_freesurfer(tmp_path):
    """There the folder has the name of the person, and everyone's file the same."""
    for number in (1, 2):
        (tmp_path / f"p{number}" / "mri").mkdir(parents=True)
        save(tmp_path / f"p{number}" / "mri" / "T1.mgz", number)
    frame = pd.DataFrame({"participant_id": ["p1", "p2"], "path": ["p1/mri/T1.mgz", "p2/mri/T1.mgz"]})
    frame.to_csv(tmp_path / "people.tsv", sep="\t", index=False)
    table = index(tmp_path / "people.tsv")
    assert [read_volume(path).array[0, 0, 0] for path in table["path"]] == [1, 2]


def test_one_image_in_two_containers_counts_once(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.mgz"):
        save(tmp_path / name, 1)
    assert [path.rpartition("/")[2] for path in index(tmp_path)["path"]] == ["a.nii.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_of_an_image_begins_with_its_name(name):
    assert stem_of(name) == name[:6]
