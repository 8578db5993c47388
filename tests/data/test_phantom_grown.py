"""Brains grown by procedure: own folds, known truth, and the same truth found by the same means as in warped ones."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from sklearn.metrics import average_precision_score

from mrigen.data import phantom_anatomy, phantom_grown
from mrigen.data.phantom import PhantomSettings, draw_factors, planted_truth, write_phantom_cohort
from mrigen.data.phantom_factors import typical_factors
from mrigen.data.phantom_scanner import scan_subject
from mrigen.errors import UsageError
from mrigen.imaging.volumes import apply_affine, read_volume

SETTINGS = PhantomSettings(num_subjects=3, seed=7, zooms=6.0, anatomy="grown")
DERIVED = "derivatives/phantom"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("grown"), SETTINGS, num_workers=2)


@pytest.fixture(scope="module")
def table(cohort):
    return pd.read_csv(cohort / "participants.tsv", sep="\t")


@pytest.fixture(scope="module")
def typical():
    return typical_factors(SETTINGS)


def derived(cohort, name, kind):
    return read_volume(cohort / DERIVED / name / "anat" / f"{name}_{kind}.nii.gz")


def grow(index, factors, zooms=4.0):
    return phantom_grown.grow_subject(SETTINGS, index, factors, *phantom_anatomy.subject_grid(zooms))


def test_cohort_has_the_columns_and_files_of_both_families(cohort, table):
    assert set(table) > set(draw_factors(PhantomSettings(num_subjects=1)))
    assert list(json.loads((cohort / "participants.json").read_text())) == list(table)
    assert "Nobody" not in (cohort / "README").read_text()
    assert "nobody is a deformation of anybody" in (cohort / "README").read_text()
    truth = {path.name.removesuffix(".nii.gz") for path in (cohort / DERIVED / "truth").iterdir()}
    assert truth == {"planted_region", "template_T1w", "sex_velocity", "age_velocity"}


def test_cohort_is_the_same_bytes_for_any_number_of_workers_and_people(cohort, tmp_path):
    again = write_phantom_cohort(
        tmp_path / "again", PhantomSettings(num_subjects=2, seed=7, zooms=6.0, anatomy="grown"), num_workers=1
    )
    images = [path.relative_to(again) for path in again.rglob("sub-*.nii.gz")]
    assert len(images) == 6
    assert all((again / path).read_bytes() == (cohort / path).read_bytes() for path in images)


def test_what_is_not_of_the_anatomy_is_drawn_as_for_warped_brains(table):
    warped = draw_factors(PhantomSettings(num_subjects=3, seed=7, zooms=6.0))
    pd.testing.assert_frame_equal(table[list(warped)], warped)


def test_masks_hold_the_volume_of_the_table_and_lie_where_the_shifts_say(cohort, table):
    for row in table.itertuples():
        mask = derived(cohort, row.participant_id, "desc-brain_mask")
        volume_ml = mask.array.sum() * np.prod(mask.zooms) / 1000
        assert volume_ml == pytest.approx(row.brain_volume_true_ml, rel=0.01)
        middle = apply_affine(mask.affine, np.argwhere(mask.array)).mean(axis=0)
        np.testing.assert_allclose(middle, [row.shift_x, row.shift_y, row.shift_z], atol=4)


def test_images_are_brains_in_scanner_units(cohort, table):
    for row in table.itertuples():
        name = row.participant_id
        volume = read_volume(cohort / name / "anat" / f"{name}_T1w.nii.gz")
        mask = derived(cohort, name, "desc-brain_mask").array > 0
        assert not volume.array[~mask].any()
        assert np.percentile(volume.array[mask], 90) == pytest.approx(row.intensity_scale, rel=0.25)


def test_labels_fill_the_mask_and_have_names(cohort, table):
    names = pd.read_csv(cohort / DERIVED / "dseg.tsv", sep="\t").set_index("index")["name"]
    labels = derived(cohort, table["participant_id"][0], "dseg")
    mask = derived(cohort, table["participant_id"][0], "desc-brain_mask").array > 0
    assert ((labels.array > 0) == mask).all()
    assert set(np.unique(labels.array)) <= set(names.index)
    assert names[117] == "left cortex 17"


def test_regions_are_those_of_their_side(typical):
    labels = grow(0, typical)[2]
    right = np.argwhere(labels // 100 == 2)[:, 0]
    assert np.mean(right >= labels.shape[0] // 2) > 0.98


def test_everyone_has_folds_of_their_own_and_siblings_share_some(typical):
    # The same factors for all: what differs is the anatomy that was drawn.
    third, sibling, stranger, other = (grow(index, typical)[0] for index in (3, 7, 6, 8))
    mean = (third + sibling + stranger + other) / 4
    inside = mean > 0.5

    def likeness(first, second):
        return np.corrcoef((first - mean)[inside], (second - mean)[inside])[0, 1]

    assert likeness(third, sibling) > likeness(third, stranger) + 0.2
    assert likeness(stranger, other) < 0
    # Strangers differ by as much as a tenth of white matter at a root mean square voxel of the brain.
    assert np.std((stranger - other)[inside]) > 0.1


def test_sex_moves_the_surface_as_planted_and_leaves_volume_and_depth_alone(typical):
    shape, affine = phantom_anatomy.subject_grid(4.0)
    masks, labels = {}, {}
    for side in (-1.0, 1.0):
        _, masks[side], labels[side] = grow(0, typical | {"sex_shape": side})
    assert masks[1.0].sum() == pytest.approx(masks[-1.0].sum(), rel=0.005)
    region, _, _ = planted_truth("grown", shape, affine)
    changed = masks[1.0] != masks[-1.0]
    assert changed.sum() > 300
    assert changed[scipy.ndimage.binary_dilation(region, iterations=2)].sum() > 0.8 * changed.sum()
    deep = phantom_grown.LABELS.index("deep gray")
    assert np.mean((labels[1.0] == deep) == (labels[-1.0] == deep)) > 0.999


def test_age_widens_ventricles_and_sulci_and_thins_cortex(typical):
    def count(**factors):
        labels = grow(0, typical | factors)[2]
        return (labels == phantom_grown.LABELS.index("fluid")).sum(), (labels >= phantom_grown.CORTEX).sum()

    (fluid, cortex), (wider, _), (_, thinner) = (
        count(),
        count(ventricle_expansion=1.5),
        count(cortical_thickness_mm=2.2),
    )
    assert wider > fluid + 100
    assert thinner < 0.9 * cortex
    assert count(sulcal_width_mm=typical["sulcal_width_mm"] + 1)[0] > 1.15 * fluid
    young, old = (
        draw_factors(PhantomSettings(num_subjects=60, anatomy="grown")).query(q) for q in ("age<40", "age>60")
    )
    assert young["cortical_thickness_mm"].mean() > old["cortical_thickness_mm"].mean() + 0.2


def test_truth_lies_in_the_space_of_the_average_brain(cohort):
    truth = {path.name.split(".")[0]: path for path in (cohort / DERIVED / "truth").iterdir()}
    region, brain = read_volume(truth["planted_region"]), read_volume(truth["template_T1w"])
    np.testing.assert_allclose(region.affine, brain.affine)
    assert not (region.array > 0)[brain.array < 0.01].any()
    assert 0.02 < region.array.sum() / (brain.array > 0.1).sum() < 0.2


def test_ventricle_walls_move_outwards(typical):
    points = phantom_anatomy.grid_points(*phantom_grown.head_grid(4.0))
    velocity = phantom_grown.wall_velocity_at(typical, points)
    speed = np.linalg.norm(velocity, axis=0)
    assert speed.max() == pytest.approx(phantom_grown.VENTRICLE_GROWTH_MM, rel=0.1)
    right = (points[0] > 19) & (points[0] < 24) & (np.abs(points[1] + 12) < 8) & (np.abs(points[2] - 20) < 4)
    assert velocity[0][right].min() > 0.5


@pytest.mark.parametrize("anatomy", ["warped", "grown"])
def test_planted_truth_is_recovered_by_a_direct_method(anatomy):
    """Heads set upright by their true pose; the change of their masks that the planted velocity foretells."""
    settings = PhantomSettings(num_subjects=32, zooms=8.0, sex_effect="shape", anatomy=anatomy)
    shape, affine = phantom_anatomy.subject_grid(settings.zooms)
    template = phantom_anatomy.load_template(settings.zooms) if anatomy == "warped" else None
    table = draw_factors(settings)
    masks = np.array(
        [
            _upright(scan_subject(template, settings, index, row)[1], affine, row)
            for index, row in enumerate(table.to_dict("records"))
        ]
    )
    region, brain, velocity = planted_truth(anatomy, shape, affine)
    mean = masks.mean(axis=0)
    foretold = -(np.stack(np.gradient(mean, settings.zooms)) * velocity).sum(axis=0)
    coefficients = ((masks - mean) * foretold).sum(axis=(1, 2, 3)) / (foretold**2).sum()
    slope, _ = np.polyfit(table["sex_shape"], coefficients, 1)
    assert np.corrcoef(coefficients, table["sex_shape"])[0, 1] > 0.85
    assert 0.8 < slope < 1.2
    male = (table["sex"] == "M").to_numpy()
    effect = masks[male].mean(axis=0) - masks[~male].mean(axis=0)
    size = np.abs(effect) / (masks[male].std(axis=0) + masks[~male].std(axis=0) + 0.02)
    head = scipy.ndimage.binary_dilation(brain)
    assert average_precision_score(region[head], size[head]) > 6 * region[head].mean()


def _upright(mask, affine, row):
    turn = phantom_anatomy.rotation_matrix([row["rotation_x"], row["rotation_y"], row["rotation_z"]])
    width, height = row["head_width"], row["head_height"]
    stretch = row["head_size_scale"] * np.exp([width, -(width + height), height])
    points = phantom_anatomy.grid_points(mask.shape, affine).reshape(3, -1)
    world = turn @ (points * stretch[:, None]) + np.array([[row["shift_x"]], [row["shift_y"]], [row["shift_z"]]])
    voxels = (world - affine[:3, 3:]) / affine[0, 0]
    upright = scipy.ndimage.map_coordinates(mask.astype(float), voxels, order=1).reshape(mask.shape)
    return scipy.ndimage.gaussian_filter(upright, 4.0 / affine[0, 0])


def test_anatomy_is_one_that_is_known():
    with pytest.raises(UsageError, match=r"phantom\.anatomy: got 'real', expected one of warped, grown"):
        PhantomSettings(anatomy="real")
