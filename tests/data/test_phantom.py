"""The synthetic cohort: known truth, nothing confounded, the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest

from mrigen.data import phantom_anatomy
from mrigen.data.phantom import PhantomSettings, draw_factors, write_phantom_cohort
from mrigen.errors import UsageError
from mrigen.imaging.volumes import apply_affine, read_volume

NUM_SUBJECTS = 4
# Coarse images keep the fixture quick; 6 mm is still fine enough for volumes and positions.
SETTINGS = PhantomSettings(num_subjects=NUM_SUBJECTS, seed=7, zooms=6.0)


@pytest.fixture(scope="module")
def finished():
    return []


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, finished):
    return write_phantom_cohort(tmp_path_factory.mktemp("phantom"), SETTINGS, num_workers=2, progress=finished.append)


@pytest.fixture(scope="module")
def table(cohort):
    return pd.read_csv(cohort / "participants.tsv", sep="\t")


@pytest.fixture(scope="module")
def template():
    return phantom_anatomy.load_template(4.0)


def image_path(cohort, name):
    return cohort / name / "anat" / f"{name}_T1w.nii.gz"


def mask_path(cohort, name):
    return cohort / "derivatives" / "phantom" / name / "anat" / f"{name}_desc-brain_mask.nii.gz"


def file_bytes(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_cohort_is_a_bids_dataset(cohort, table):
    raw = json.loads((cohort / "dataset_description.json").read_text())
    derived = json.loads((cohort / "derivatives" / "phantom" / "dataset_description.json").read_text())
    columns = json.loads((cohort / "participants.json").read_text())
    assert (raw["BIDSVersion"], raw["DatasetType"], derived["DatasetType"]) == ("1.9.0", "raw", "derivative")
    assert raw["GeneratedBy"][0]["Settings"]["seed"] == SETTINGS.seed
    assert list(columns) == list(table.columns)
    assert all(image_path(cohort, name).is_file() for name in table["participant_id"])


def test_cohort_reports_each_subject(cohort, finished):
    assert finished == [1] * NUM_SUBJECTS


def test_cohort_is_the_same_bytes_for_any_number_of_workers(cohort, tmp_path):
    again = write_phantom_cohort(tmp_path / "again", SETTINGS, num_workers=1)
    assert file_bytes(again) == file_bytes(cohort)


def test_subject_does_not_depend_on_cohort_size(cohort, tmp_path):
    shorter = PhantomSettings(num_subjects=2, seed=7, zooms=6.0)
    first_two = write_phantom_cohort(tmp_path / "shorter", shorter)
    images = [path for path in file_bytes(first_two) if path.name.startswith("sub-")]
    assert len(images) == 4
    assert all((first_two / path).read_bytes() == (cohort / path).read_bytes() for path in images)
    assert (cohort / "participants.tsv").read_text().startswith((first_two / "participants.tsv").read_text())


def test_another_seed_makes_other_people():
    first, second = (draw_factors(PhantomSettings(num_subjects=8, seed=seed)) for seed in (0, 1))
    assert (first["brain_volume_true_ml"] != second["brain_volume_true_ml"]).all()


def test_masks_hold_the_volume_of_the_table(cohort, table):
    for row in table.itertuples():
        mask = read_volume(mask_path(cohort, row.participant_id))
        volume_ml = mask.array.sum() * np.prod(mask.zooms) / 1000
        assert volume_ml == pytest.approx(row.brain_volume_true_ml, rel=0.02)


def test_images_are_brains_in_scanner_units(cohort, table):
    for row in table.itertuples():
        volume = read_volume(image_path(cohort, row.participant_id))
        mask = read_volume(mask_path(cohort, row.participant_id)).array > 0
        assert not volume.array[~mask].any()
        np.testing.assert_array_equal(volume.array, np.rint(volume.array))
        assert np.percentile(volume.array[mask], 90) == pytest.approx(row.intensity_scale, rel=0.25)
        edges = np.ones(mask.shape, dtype=bool)
        edges[2:-2, 2:-2, 2:-2] = False
        assert not mask[edges].any()


def test_brain_lies_where_the_shifts_put_it(cohort, table):
    for row in table.itertuples():
        mask = read_volume(mask_path(cohort, row.participant_id))
        assert mask.zooms == (6.0, 6.0, 6.0)
        middle = apply_affine(mask.affine, np.argwhere(mask.array)).mean(axis=0)
        # Random anatomy moves the centre too, by a few mm.
        np.testing.assert_allclose(middle, [row.shift_x, row.shift_y, row.shift_z], atol=5)


def test_pull_back_applies_size_and_pose(template):
    factors = dict.fromkeys(draw_factors(PhantomSettings(num_subjects=1)).columns, 0.0)
    factors |= {"brain_volume_true_ml": 1200.0, "shift_x": 3.0, "shift_y": -5.0, "shift_z": 7.0, "rotation_z": 90.0}
    scale = (1200 / phantom_anatomy._deformed_volume_ml(template, np.zeros((3, *template.envelope.shape)))) ** (1 / 3)
    points = np.array([[3.0, -5.0, 7.0], [3.0, 5.0, 7.0]]).T
    seen = phantom_anatomy.pull_back(template, np.zeros((3, *template.envelope.shape)), factors, points)
    # A head turned left by a quarter: what lies 10 mm in front of its centre is its right side.
    np.testing.assert_allclose(seen.T - template.centre, [[0, 0, 0], [10 / scale, 0, 0]], atol=1e-9)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_no_brain_is_folded_or_torn(template, strength):
    settings = PhantomSettings(num_subjects=4, seed=3, sex_effect_strength=strength, age_effect_strength=strength)
    points = phantom_anatomy.grid_points(*phantom_anatomy.subject_grid(4.0))
    for index, factors in enumerate(draw_factors(settings).to_dict("records")):
        displacement = phantom_anatomy.draw_displacement(template, settings, index, factors)
        seen = phantom_anatomy.pull_back(template, displacement, factors, points)
        brain = phantom_anatomy.sample(template, "mask", seen) > 0.5
        volume_factor = phantom_anatomy.jacobian_determinant(seen, 4.0)[brain]
        assert volume_factor.min() > 0.03
        assert volume_factor.max() < 30


def test_exponential_of_minus_v_undoes_exponential_of_v(template):
    forward = phantom_anatomy.exponential(template.sex_velocity)
    backward = phantom_anatomy.exponential(-template.sex_velocity)
    points = phantom_anatomy.grid_points(template.envelope.shape, template.grid_affine)
    there_and_back = forward + phantom_anatomy.velocity_at(template, backward, points + forward)
    assert np.abs(forward).max() > 1
    assert np.abs(there_and_back).max() < 0.1


@pytest.mark.parametrize(
    ("sex_effect", "has_size", "has_shape"),
    [("none", False, False), ("size", True, False), ("shape", False, True), ("both", True, True)],
)
def test_sex_effect_switches_size_and_shape(sex_effect, has_size, has_shape):
    table = draw_factors(PhantomSettings(num_subjects=400, sex_effect=sex_effect))
    effect = table.groupby("sex")[["brain_volume_true_ml", "sex_shape"]].mean().diff().loc["M"]
    assert effect["brain_volume_true_ml"] == pytest.approx(130 if has_size else 0, abs=30)
    assert effect["sex_shape"] == pytest.approx(2 if has_shape else 0, abs=0.25)


def test_effects_change_nothing_but_their_factors():
    without, both = (draw_factors(PhantomSettings(num_subjects=10, sex_effect=effect)) for effect in ("none", "both"))
    changed = {name for name in both if not both[name].equals(without[name])}
    assert changed == {"brain_volume_true_ml", "head_size_scale", "sex_shape"}


def test_shape_effect_leaves_volume_alone(template):
    factors = draw_factors(PhantomSettings(num_subjects=1)).loc[0].to_dict()
    settings = PhantomSettings(num_subjects=1)
    points = phantom_anatomy.grid_points(*phantom_anatomy.subject_grid(4.0))
    volumes = []
    for sex_shape in (-2.0, 2.0):
        row = factors | {"sex_shape": sex_shape}
        displacement = phantom_anatomy.draw_displacement(template, settings, 0, row)
        seen = phantom_anatomy.pull_back(template, displacement, row, points)
        volumes.append(phantom_anatomy.sample(template, "mask", seen).sum())
    assert volumes[0] == pytest.approx(volumes[1], rel=0.005)


@pytest.mark.parametrize("num_sites", [1, 3])
def test_sex_site_and_age_are_not_confounded(num_sites):
    table = draw_factors(PhantomSettings(num_subjects=120, num_sites=num_sites))
    counts = pd.crosstab(table["site"], table["sex"])
    assert counts.shape == (num_sites, 2)
    assert (counts == 60 // num_sites).all(axis=None)
    assert table.groupby("sex")["age"].mean().diff().abs().max() < 2
    assert table["age"].between(20, 80).all()
    assert table["age"].std() > 14
    if num_sites > 1:
        assert np.ptp(table.groupby("site")["age"].mean()) < 6


def test_age_widens_ventricles_and_thins_cortex():
    aged, timeless = (draw_factors(PhantomSettings(num_subjects=100, age_effect_strength=s)) for s in (1.0, 0.0))
    for factor in ("ventricle_expansion", "cortical_thinning"):
        assert aged["age"].corr(aged[factor]) > 0.6
        assert abs(timeless["age"].corr(timeless[factor])) < 0.25


def test_sites_differ_only_by_their_strength():
    table = draw_factors(PhantomSettings(num_subjects=100, site_effect_strength=0.0))
    scales = table.groupby("site")["intensity_scale"].mean()
    assert scales.max() / scales.min() < 1.1
    table = draw_factors(PhantomSettings(num_subjects=100))
    scales = table.groupby("site")["intensity_scale"].mean()
    assert scales.max() / scales.min() > 1.8


def test_siblings_resemble_each_other(template):
    settings = PhantomSettings(num_subjects=8)
    table = draw_factors(settings)
    assert table.loc[7, "family"] == table.loc[3, "family"]
    assert table["family"].nunique() == 7
    # The same factors for all three, so that only the random anatomy is compared.
    row = table.loc[0].to_dict()
    third, sibling, stranger = (
        phantom_anatomy.draw_displacement(template, settings, index, row).ravel() for index in (3, 7, 6)
    )
    assert np.corrcoef(third, sibling)[0, 1] > np.corrcoef(third, stranger)[0, 1] + 0.2


def test_truth_lies_in_template_space(cohort, template):
    truth = cohort / "derivatives" / "phantom" / "truth"
    region = read_volume(truth / "planted_region.nii.gz")
    brain = read_volume(truth / "template_T1w.nii.gz")
    assert region.array.shape == brain.array.shape
    np.testing.assert_allclose(region.affine, brain.affine)
    assert {path.name for path in truth.iterdir()} >= {"sex_velocity.nii.gz", "age_velocity.nii.gz"}
    inside = region.array > 0
    assert not inside[brain.array < 0.01].any()
    assert 0.02 < inside.sum() / (brain.array > 0.1).sum() < 0.4


def test_sex_velocity_is_local(template):
    points = phantom_anatomy.grid_points(*phantom_anatomy.template_grid(template, 4.0))
    speed = np.linalg.norm(phantom_anatomy.velocity_at(template, template.sex_velocity, points), axis=0)
    region = phantom_anatomy.planted_region(points)
    assert speed[~region].max() < 0.12 * speed.max()
    assert speed[region].mean() > 20 * speed[~region].mean()


def test_age_velocity_pushes_outwards_from_the_ventricles(template):
    points = np.array([[-14.0, -20.0, 22.0], [14.0, -20.0, 22.0]]).T
    left, right = phantom_anatomy.velocity_at(template, template.age_velocity, points)[0]
    assert left < -0.5
    assert right > 0.5


def test_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="got a folder with 1 entry in it, expected a new or empty folder"):
        write_phantom_cohort(tmp_path, SETTINGS)
    with pytest.raises(UsageError, match=r"thesis\.txt: got a file, expected a new or empty folder"):
        write_phantom_cohort(tmp_path / "thesis.txt", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_workers_are_at_least_one(tmp_path):
    with pytest.raises(UsageError, match="num_workers: got 0, expected at least 1"):
        write_phantom_cohort(tmp_path / "cohort", SETTINGS, num_workers=0)


def test_settings_report_all_faults_together():
    with pytest.raises(UsageError, match=r"phantom\.num_subjects: got 0, expected an integer from 1") as caught:
        PhantomSettings(num_subjects=0, zooms="4", sex_effect="big")
    assert len(caught.value.faults) == 3
    assert "phantom.zooms: got '4', expected a number from 1 to 16" in caught.value.faults[1]
    assert "phantom.sex_effect: got 'big', expected one of none, size, shape, both" in caught.value.faults[2]
