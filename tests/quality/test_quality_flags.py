"""Flags against planted values, in tables and in small heads."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from mrigen.data.quality import MEASURES
from mrigen.quality.flags import COHORT_MEASURES, COLUMNS, add_cohort_measures, flag_images, flag_measured
from mrigen.quality.likeness import coarsen, correlations, find_orientation, likeness, mean_head
from mrigen.quality.mirrors import asymmetry, mirrored_probability
from mrigen.quality.rules import FLAGS, LIMITS, RANGES

SHAPE, ZOOMS = (24, 28, 22), (8.0, 8.0, 8.0)
FINE = {
    "voxel_min": 1.0, "voxel_max": 1.0, "head_volume_ml": 3000.0, "width_mm": 155.0, "length_mm": 200.0,
    "height_mm": 200.0, "cut_top_cm2": 10.0, "cut_side_cm2": 15.0, "lowest": 0.0, "highest": 1500.0, "black": 0.0,
    "white": 700.0, "spike": 2.0, "grey_levels": 200.0, "noise": 0.03, "air": 0.005, "ghost": 0.02, "snr": 25.0,
    "efc": 0.5, "fber": 2000.0, "cjv": 0.7, "contrast": -0.8, "bias": 0.05, "fwhm_mm": 4.5,
}  # fmt: skip


def people(number, seed=0, **changes):
    """A table of measures that vary by 5 %."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame({name: value * generator.normal(1.0, 0.05, number) for name, value in FINE.items()})
    table["scan_id"] = [f"sub-{row:03d}" for row in range(number)]
    table["brain_volume_ml"] = np.nan
    return table.assign(voxel_max=1.0, **changes)


def heads(number, seed=0):
    """Heads of one shape, with a nose, a neck and one larger side, each a little different."""
    generator = np.random.default_rng(seed)
    x, y, z = (np.linspace(-1, 1, side).reshape([-1 if axis == other else 1 for other in range(3)])
               for axis, side in enumerate(SHAPE))  # fmt: skip
    shape = 1.0 * (x**2 / 0.5 + y**2 / 0.6 + (z - 0.1) ** 2 / 0.5 < 1) + 0.8 * (np.abs(x) < 0.2) * (np.abs(y) < 0.3) * (
        z < -0.3
    )
    shape = (
        shape
        + 0.5 * ((x**2 + (y - 0.7) ** 2 + (z + 0.2) ** 2) < 0.06)
        + 0.4 * (((x - 0.3) ** 2 + (y - 0.2) ** 2 + (z - 0.3) ** 2) < 0.08)
    )
    own = [ndimage.gaussian_filter(generator.normal(size=SHAPE), 2.0) for _ in range(number)]
    volumes = [100.0 * ndimage.gaussian_filter(shape, 0.7) + 60.0 * noise * (shape > 0) for noise in own]
    return np.clip(volumes, 0, 255).astype(np.uint8)


def test_a_cohort_like_itself_has_no_flags():
    flags = flag_images(people(40), heads(40), ZOOMS)
    assert list(flags.columns) == list(COLUMNS)
    assert flags.empty


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.flag}-{limit.measure}")
@pytest.mark.parametrize("number", [4, 40])
def test_what_no_head_has_is_told_in_cohorts_of_any_size(limit, number):
    table = add_cohort_measures(people(number), heads(number), ZOOMS)
    value = 0.5 * limit.low if limit.low is not None else 1.5 * limit.high
    table[limit.measure] = table.get(limit.measure, pd.Series(0.0, index=table.index))
    table.loc[2, limit.measure] = value
    flags = flag_measured(table, heads(number), ZOOMS)
    own = flags[(flags["scan_id"] == "sub-002") & (flags["flag"] == limit.flag)].iloc[0]
    assert own["level"] == limit.level and own["value"] == pytest.approx(value)
    assert f": {value:.4g}, expected at" in own["reason"] and own["reason"].endswith(FLAGS[limit.flag])
    assert set(flags["scan_id"]) == {"sub-002"}


@pytest.mark.parametrize("span", RANGES, ids=lambda span: f"{span.flag}-{span.measure}")
def test_what_is_far_from_the_cohort_is_told_on_its_own_side_only(span):
    table = add_cohort_measures(people(40), heads(40), ZOOMS)
    middle = table[span.measure].median()
    spread = max(
        1.4826 * (table[span.measure] - middle).abs().median() / (abs(middle) if span.is_log else 1), span.floor
    )
    for limit, sign in ((span.below, -1), (span.above, 1)):
        away = sign * 1.6 * spread * (limit or 8.0)
        changed = table.copy()
        changed.loc[7, span.measure] = middle * np.exp(away) if span.is_log else middle + away
        flags = flag_measured(changed, heads(40), ZOOMS)
        told = span.flag in set(flags["flag"][flags["scan_id"] == "sub-007"])
        of_others = [other for other in RANGES if other.measure == span.measure and other is not span]
        if limit is not None:
            assert told
        elif not of_others and not any(rule.measure == span.measure for rule in LIMITS):
            assert not told


def test_many_strange_images_do_not_hide_each_other():
    table = people(40)
    table.loc[:7, "noise"] = 0.09
    flags = flag_images(table, heads(40), ZOOMS)
    assert set(flags["scan_id"][flags["flag"] == "noise"]) == set(table["scan_id"][:8])


def test_images_are_compared_with_those_of_their_site():
    table = people(60, site=["a"] * 30 + ["b"] * 30)
    table.loc[30:, "noise"] *= 3.0
    assert flag_images(table, heads(60), ZOOMS).empty
    # A quiet site's image with the noise of the other one.
    table.loc[3, "noise"] = 0.1
    assert list(flag_images(table, heads(60), ZOOMS)["scan_id"]) == ["sub-003"]


def test_a_small_site_is_compared_with_everyone_unless_all_of_it_differs():
    table = people(46, site=["a"] * 40 + ["b"] * 6)
    table.loc[42, "noise"] = 0.1
    assert list(flag_images(table, heads(46), ZOOMS)["scan_id"]) == ["sub-042"]
    table.loc[40:, "noise"] = 0.1
    assert flag_images(table, heads(46), ZOOMS).empty


def test_volumes_that_fit_neither_sex_nor_age_are_told():
    generator = np.random.default_rng(0)
    table = people(80, sex=["F", "M"] * 40, age=generator.uniform(20, 80, 80))
    table["head_volume_ml"] = 2700 * np.where(table["sex"] == "M", 1.15, 1.0) * generator.normal(1, 0.03, 80)
    table.loc[4, "head_volume_ml"] = 3450.0  # A woman's row: a large head even for a man.
    flags = flag_images(table, heads(80), ZOOMS)
    assert list(flags["scan_id"]) == ["sub-004"] and flags["flag"][0] == "volume"
    assert "of women of" in flags["reason"][0]


def test_copies_that_are_handed_in_name_each_other():
    flags = flag_images(people(5), heads(5), ZOOMS, [(1, 3, "the same voxels")])
    assert [tuple(row) for row in flags[["scan_id", "flag", "level"]].to_numpy()] == [
        ("sub-001", "duplicate", "wrong"),
        ("sub-003", "duplicate", "wrong"),
    ]
    assert "The same as sub-003: the same voxels" in flags["reason"][0]


@pytest.mark.parametrize(
    ("turn", "axes", "signs"),
    [
        (lambda head: head, (0, 1, 2), (1, 1, 1)),
        (lambda head: head[:, :, ::-1], (0, 1, 2), (1, 1, -1)),
        (lambda head: head[:, ::-1, ::-1], (0, 1, 2), (1, -1, -1)),
        (lambda head: head[:, ::-1], (0, 1, 2), (1, -1, 1)),
        (lambda head: head.transpose(0, 2, 1), (0, 2, 1), (1, 1, 1)),
        (lambda head: head.transpose(1, 2, 0), (2, 0, 1), (1, 1, 1)),
    ],
)
def test_the_axes_of_a_turned_head_are_found_wherever_it_lies(turn, axes, signs):
    volumes = heads(12)
    moved = np.roll(turn(volumes[3]), 2, axis=2)
    found, as_is, best = find_orientation(np.ascontiguousarray(moved), volumes[4:].mean(axis=0))
    assert found == (axes, signs)
    assert best > 0.9 and (best > as_is + 0.02 or axes == (0, 1, 2) == tuple(np.abs(signs) * (0, 1, 2)))


def test_a_head_upside_down_is_wrong_and_said_so():
    volumes = heads(30)
    volumes[5] = volumes[5][:, :, ::-1]
    flags = flag_images(people(30), volumes, ZOOMS)
    own = flags[flags["flag"] == "orientation"]
    assert list(own["scan_id"]) == ["sub-005"] and "upside down" in own["reason"].iloc[0]


def test_mirrored_heads_are_found_where_the_heads_have_sides():
    volumes = heads(40)
    volumes[[6, 20]] = volumes[[6, 20]][:, ::-1]
    probability = mirrored_probability(volumes, np.arange(40))
    assert set(np.flatnonzero(probability > 0.5)) == {6, 20}
    even = np.where(np.random.default_rng(0).random((40, 1, 1, 1)) < 0.5, volumes, volumes[:, ::-1])
    assert mirrored_probability(even, np.arange(40)) is None


def test_the_asymmetry_of_a_mirrored_head_is_the_opposite_wherever_it_lies():
    head = heads(1)[0]
    first, second = asymmetry(head), asymmetry(np.roll(head[::-1], 1, axis=0))
    assert first @ second < -0.95


def test_likeness_leaves_the_head_itself_and_strange_ones_out():
    volumes = heads(20)
    volumes[0] = 255 - volumes[0]
    mean = mean_head(volumes)
    clean = volumes[1:].mean(axis=0)
    assert correlations(mean.reshape(1, -1), clean.ravel())[0] > 0.9999
    like = likeness(volumes, mean)
    assert like[0] < 0 and like[1:].min() > 0.9


def test_blocks_of_a_coarse_grid_are_means():
    volumes = np.random.default_rng(0).integers(0, 255, (2, 9, 8, 6)).astype(np.uint8)
    coarse = coarsen(volumes, (4.0, 2.0, 8.0))
    assert coarse.shape == (2, 4, 2, 6)
    assert coarse[1, 2, 1, 3] == np.rint(volumes[1, 4:6, 4:8, 3].mean())


def test_every_rule_has_words():
    assert {rule.flag for rule in (*LIMITS, *RANGES)} <= set(FLAGS)
    assert all(rule.measure in MEASURES or rule.measure in {*COHORT_MEASURES, "lost_fraction"}
               for rule in (*LIMITS, *RANGES))  # fmt: skip
