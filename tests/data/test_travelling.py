"""The synthetic people under several scanners: one anatomy, another pose and scanner each time."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mrigen.data.cohort import index_cohort
from mrigen.data.dataset import open_cohort
from mrigen.data.phantom import PhantomSettings, draw_factors, draw_scans, write_phantom_cohort
from mrigen.data.phantom_anatomy import draw_displacement, load_template
from mrigen.data.phantom_factors import OF_SCAN, POSE, SCANNER
from mrigen.data.splits import split_subjects
from mrigen.errors import UsageError
from mrigen.imaging.volumes import read_volume
from mrigen.recipe import DataRecipe

SETTINGS = PhantomSettings(num_subjects=4, seed=7, zooms=8.0, num_scanners=3)


@pytest.fixture(scope="module")
def travelling(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("travelling"), SETTINGS, num_workers=1)


@pytest.fixture(scope="module")
def stay_at_home(tmp_path_factory):
    settings = dataclasses.replace(SETTINGS, num_scanners=1)
    return write_phantom_cohort(tmp_path_factory.mktemp("home"), settings, num_workers=1)


def scan(root, name, session, kind="T1w"):
    folder = root if kind == "T1w" else root / "derivatives" / "phantom"
    return folder / name / session / "anat" / f"{name}_{session}_{kind}.nii.gz"


def test_scans_differ_only_in_pose_and_scanner():
    scans = draw_scans(SETTINGS)
    changed = scans.groupby("participant_id").nunique() > 1
    assert list(scans.columns[:2]) == ["participant_id", "session_id"]
    assert changed.all()[list(OF_SCAN)].all()
    assert not changed.drop(columns=list(OF_SCAN)).any(axis=None)


def test_first_scans_are_those_of_one_scanner():
    first = draw_scans(SETTINGS).query("session_id == 'ses-1'").drop(columns="session_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, draw_factors(SETTINGS))


def test_first_images_are_those_of_one_scanner(travelling, stay_at_home):
    name = "sub-phantom0002"
    alone = stay_at_home / name / "anat" / f"{name}_T1w.nii.gz"
    np.testing.assert_array_equal(read_volume(scan(travelling, name, "ses-1")).array, read_volume(alone).array)


def test_everyone_meets_every_scanner_once_where_there_are_as_many_sites():
    scans = draw_scans(dataclasses.replace(SETTINGS, num_subjects=12))
    assert (scans.groupby("participant_id")["site"].nunique() == 3).all()
    assert scans["site"].value_counts().nunique() == 1
    one_site = draw_scans(dataclasses.replace(SETTINGS, num_sites=1))
    assert (one_site["site"].str[-1] == one_site["session_id"].str[-1]).all()


def test_poses_are_drawn_anew():
    scans = draw_scans(PhantomSettings(num_subjects=300, num_scanners=2))
    poses = scans[list(POSE)].to_numpy().reshape(300, 2, 6)
    for axis in range(6):
        assert abs(np.corrcoef(poses[:, 0, axis], poses[:, 1, axis])[0, 1]) < 0.2
    np.testing.assert_allclose(poses.std(axis=0), 3.0, rtol=0.15)


def test_anatomy_is_the_same_in_every_scan():
    template = load_template(8.0)
    rows = draw_scans(SETTINGS).query("participant_id == 'sub-phantom0003'").to_dict("records")
    fields = [draw_displacement(template, SETTINGS, 2, row) for row in rows]
    np.testing.assert_array_equal(fields[0], fields[1])
    np.testing.assert_array_equal(fields[0], fields[2])


def test_masks_of_a_person_have_one_volume(travelling):
    for name in draw_factors(SETTINGS)["participant_id"]:
        volumes = [read_volume(scan(travelling, name, f"ses-{k}", "desc-brain_mask")).array.sum() for k in (1, 2, 3)]
        assert max(volumes) < 1.03 * min(volumes)


def test_images_of_a_person_differ(travelling):
    images = [read_volume(scan(travelling, "sub-phantom0001", f"ses-{k}")).array for k in (1, 2, 3)]
    assert all((images[0] != other).mean() > 0.05 for other in images[1:])


def test_grown_people_travel(tmp_path):
    settings = PhantomSettings(num_subjects=1, zooms=8.0, num_scanners=2, anatomy="grown")
    root = write_phantom_cohort(tmp_path / "grown", settings)
    labels = [read_volume(scan(root, "sub-phantom0001", f"ses-{k}", "dseg")).array for k in (1, 2)]
    sizes = [np.bincount(label.astype(int).ravel(), minlength=240)[1:] for label in labels]
    assert np.corrcoef(*sizes)[0, 1] > 0.95


def test_cohort_knows_the_sessions_and_their_sites(travelling):
    table = index_cohort(DataRecipe(root=str(travelling), mask="phantom", visits="all")).table
    truth = draw_scans(SETTINGS)
    assert table["scan_id"].tolist() == (truth["participant_id"] + "_" + truth["session_id"]).tolist()
    assert table["site"].tolist() == truth["site"].tolist()
    assert table["visit"].tolist() == [0, 1, 2] * 4
    assert table["mask_path"].notna().all()
    for name in ("age", "sex_shape", *POSE, *SCANNER):
        np.testing.assert_allclose(table[name].astype(float), truth[name].astype(float))


def test_first_visit_is_taken_unless_all_are_asked_for(travelling):
    table = index_cohort(DataRecipe(root=str(travelling), mask="phantom")).table
    assert table["session_id"].tolist() == ["ses-1"] * 4
    assert table["site"].tolist() == draw_factors(SETTINGS)["site"].tolist()


def test_recipe_makes_travelling_people(tmp_path):
    data = DataRecipe.model_validate(
        {"source": "phantom", "num_subjects": 4, "visits": "all", "phantom": {"zooms": 8.0, "num_scanners": 2}}
    )
    cohort = open_cohort(data, tmp_path)
    assert len(cohort.table) == 8
    split = split_subjects(cohort.table, data.split)
    assert len(split) == 4
    alone = open_cohort(
        data.model_copy(update={"phantom": data.phantom.model_copy(update={"num_scanners": 1})}), tmp_path
    )
    assert len(alone.table) == 4


def test_what_one_scanner_writes_does_not_know_of_several(stay_at_home):
    assert "num_scanners" not in (stay_at_home / "dataset_description.json").read_text()
    assert "num_scanners" not in str(PhantomSettings())


@pytest.mark.parametrize("number", [0, 21, 1.5])
def test_impossible_numbers_of_scanners_are_refused(number):
    with pytest.raises(UsageError, match=r"phantom.num_scanners: got .*, expected an integer from 1 to 20"):
        PhantomSettings(num_scanners=number)
