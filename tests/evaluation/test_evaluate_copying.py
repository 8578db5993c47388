"""Copies of people that were learned from: planted ones are found, others are not."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from synthetic_heads import make_material

from mrigen.evaluation.contenders import made_people, moved, pca_volumes, quantised
from mrigen.evaluation.copying import FIGURES, gaps, judge, weighted_share
from mrigen.evaluation.heads import COPIES, FLOOR, MEAN, PCA, SAMPLES, Heads

ZOOMS = (8.0, 8.0, 8.0)


def blur(volume):
    return ndimage.gaussian_filter(volume, 1.0 / 2.3548)


def with_noise(volume):
    return volume + 0.03 * np.random.default_rng(5).standard_normal(volume.shape)


def with_field(volume):
    ramp = np.linspace(-0.3, 0.3, volume.shape[0])[:, None, None]
    return volume * (1.0 + ramp)


CONTRASTS = {
    "same": lambda volume: volume,
    "moved and nodded": lambda volume: moved(volume, ZOOMS, (4.0, -3.0, 3.3), 5.0),
    "mirrored": lambda volume: volume[::-1],
    "gamma": lambda volume: volume**0.7,
    "field": with_field,
    "noise": with_noise,
    "blurred": blur,
    "sharpened": lambda volume: 2.0 * volume - blur(volume),
    "moved, gamma, noise": lambda volume: with_noise(moved(volume, ZOOMS, (0.0, 6.0, 0.0), -5.0) ** 0.8),
}


@pytest.fixture(scope="module")
def material(unheard):
    return make_material(unheard)


@pytest.fixture(scope="module")
def result(material):
    return judge(material)


@pytest.fixture(scope="module")
def as_good(result):
    return {(row.figure, row.of): row for row in result.rows}


def judged(material, volumes):
    """The figures of these samples, and the pairs."""
    heads = Heads(volumes, made_people(len(volumes), "made"), volumes > 0.1)
    result = judge(dataclasses.replace(material, contenders={SAMPLES: heads}))
    return {row.figure: row for row in result.rows}, result.facts["copying"][SAMPLES]["pairs"], result


def copied(pairs):
    return {(pair["head"], pair["person"]) for pair in pairs if pair["is_copied"]}


def test_every_figure_of_every_contender_is_there(material, as_good):
    assert set(as_good) == {(figure, name) for figure in FIGURES for name in material.contenders}


@pytest.mark.parametrize("of", [SAMPLES, FLOOR])
def test_people_are_new(as_good, of):
    assert as_good["new_share", of].value > 0.9
    assert as_good["copied_share", of].value == 0.0 and as_good["alike_share", of].value == 0.0
    assert 0.6 < as_good["self_distance", of].value < 1.6 and 0.6 < as_good["person_distance", of].value < 1.6


def test_leaning_of_people_is_chance(as_good):
    assert as_good["nearest_taught", SAMPLES].p > 0.02 and as_good["nearest_ratio", SAMPLES].p > 0.02
    assert as_good["widest_gap", SAMPLES].p > 0.05


def test_draws_of_components_are_no_copies(as_good):
    assert as_good["copied_share", PCA].value == 0.0 and as_good["widest_gap", PCA].p > 0.05


def test_copies_that_were_moved_are_not_new(as_good):
    assert as_good["copied_share", COPIES].value == 1.0 and as_good["new_share", COPIES].value == 0.0
    assert as_good["nearest_taught", COPIES].value == 1.0
    assert as_good["nearest_taught", COPIES].p <= 0.002 and as_good["nearest_ratio", COPIES].p <= 0.002


def test_the_mean_head_again_and_again_is_not_new(as_good):
    assert as_good["alike_share", MEAN].value == 1.0 and as_good["new_share", MEAN].value == 0.0
    assert as_good["self_distance", MEAN].value < 0.5


def test_noise_is_not_new(material):
    noise = quantised(np.random.default_rng(0).uniform(size=material.unseen.volumes.shape))
    rows, _, result = judged(material, noise)
    assert rows["new_share"].value < 0.1 and rows["person_distance"].value > 1.2
    assert any("further from everybody" in note for note in result.notes)


@pytest.mark.parametrize("empty", [0.0, 0.4])
def test_empty_and_constant_heads_are_not_new(material, empty):
    rows, _, _ = judged(material, np.full_like(material.unseen.volumes, quantised(np.array([empty]))[0]))
    assert rows["new_share"].value == 0.0 and rows["copied_share"].value == 0.0


@pytest.mark.parametrize("kind", CONTRASTS)
def test_two_copies_among_people_are_found(material, unheard, kind):
    volumes = unheard.volumes.copy()
    for row, person in ((3, 30), (20, 7)):
        volumes[row] = quantised(CONTRASTS[kind](material.taught.volumes[person]))
    rows, pairs, result = judged(material, volumes)
    names = material.taught.people["participant_id"]
    assert copied(pairs) == {("made-0003", names[30]), ("made-0020", names[7])}
    assert rows["copied_share"].value == pytest.approx(2 / 24)
    assert rows["widest_gap"].p < 0.01
    assert any(names[30] in note for note in result.notes)


def test_four_copies_of_four_hundred_samples_are_found(material):
    volumes = pca_volumes(material.taught.volumes, 400, 16)
    kinds = ("moved and nodded", "gamma", "blurred", "noise")
    for row, kind in enumerate(kinds):
        volumes[100 * row] = quantised(CONTRASTS[kind](material.taught.volumes[11 * row]))
    rows, pairs, _ = judged(material, volumes)
    names = material.taught.people["participant_id"]
    assert copied(pairs) == {(f"made-{100 * row:04d}", names[11 * row]) for row in range(4)}
    assert rows["widest_gap"].p < 1e-4


def test_a_copy_of_somebody_never_seen_is_no_copy(material, unheard):
    volumes = unheard.volumes.copy()
    volumes[5] = material.unseen.volumes[9]
    rows, pairs, _ = judged(material, volumes)
    assert copied(pairs) == set() and rows["widest_gap"].p > 0.05


def test_samples_that_are_named_as_people_are_compared_with_them(material):
    copies = material.taught.take(np.arange(24))
    found = judge(dataclasses.replace(material, contenders={SAMPLES: copies}))
    assert next(row for row in found.rows if row.figure == "copied_share").value == 1.0


def test_the_worst_pairs_are_shown(result):
    figure = result.pictures["copying"]
    assert len([axis for axis in figure.axes if axis.get_title()]) == 18


def test_the_same_seed_gives_the_same_figures(material):
    volumes = material.contenders[PCA].volumes
    assert judged(material, volumes)[2].rows == judged(material, volumes)[2].rows


def test_too_few_heads_say_so(material):
    few = {name: heads.take(np.arange(5)) for name, heads in material.contenders.items()}
    found = judge(dataclasses.replace(material, unseen=material.unseen.take(np.arange(5)), contenders=few))
    assert all(row.value is None for row in found.rows) and found.notes


def test_gaps_leave_out_relatives():
    gap, nearest, following = gaps(np.array([[1.0, 1.1, 4.0], [3.0, 2.0, 1.0]]), np.array(["a", "a", "b"]))
    assert np.exp(gap) == pytest.approx([4.0, 2.0])
    assert nearest.tolist() == [0, 2] and following.tolist() == [2, 1]


def test_shares_are_weighted_by_the_people_of_each_side():
    near, other = np.array([1.0, 1.0, 2.0, 1.0]), np.array([2.0, 2.0, 1.0, 1.0])
    assert weighted_share(near, other, 10, 10) == pytest.approx(2.5 / 4)
    assert weighted_share(near, other, 25, 15) == pytest.approx(0.5)
