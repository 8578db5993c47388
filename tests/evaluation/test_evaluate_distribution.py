"""Distances of distributions: agreement with references, and known good told from known bad."""

import dataclasses

import numpy as np
import pytest
from synthetic_heads import make_material, synthetic_people

from mrigen.evaluation.contenders import blurred, moved, quantised
from mrigen.evaluation.distribution import (
    FIGURES,
    bandwidth,
    frechet_distance,
    gaussian_kernel,
    judge,
    neighbourhoods,
    permuted_sides,
    unbiased_mmd,
)
from mrigen.evaluation.features import OTHERS, SPACES, UNSEEN, others, random_network, scaled, standardised
from mrigen.evaluation.heads import COPIES, FLOOR, MEAN, SAMPLES, Heads

ZOOMS = (8.0, 8.0, 8.0)


def table(result):
    return {(row.figure, row.of): row for row in result.rows}


@pytest.fixture(scope="module")
def material(unheard):
    return make_material(unheard)


@pytest.fixture(scope="module")
def as_good(material):
    return table(judge(material))


def judged(material, space, volumes, brains=None):
    """The figures of samples in one space."""
    heads = material.samples
    own = Heads(volumes, heads.people, heads.brains if brains is None else brains)
    # The floor decides who makes the space, and is not asked.
    contenders = {SAMPLES: own, FLOOR: material.contenders[FLOOR]}
    made = SPACES[space](dataclasses.replace(material, contenders=contenders))
    alone = dataclasses.replace(material, contenders={SAMPLES: own})
    return {row.figure.split("_")[0]: row for row in judge(alone, {space: lambda _: made}).rows}


def points(num=40, width=4, seed=0, shift=0.0):
    return np.random.default_rng(seed).standard_normal((num, width)) + shift


def test_neighbourhoods_agree_with_prdc(capsys):
    prdc = pytest.importorskip("prdc")
    real, made = points(60, 5), points(50, 5, 1, 0.7)
    reference = prdc.compute_prdc(real, made, 5)
    for figure, counted in neighbourhoods(real, made, 5).items():
        assert counted.mean() == pytest.approx(reference[figure], abs=1e-3)


def test_neighbourhoods_are_what_their_definitions_say():
    real, made, num = points(30, 3), points(25, 3, 1, 0.5), 5

    def reach(each, row):
        return sorted(np.linalg.norm(each - each[row], axis=1))[num]

    def distance(a, b):
        return np.linalg.norm(real[a] - made[b])

    rows, others = range(len(real)), range(len(made))
    reaches, made_reaches = [reach(real, row) for row in rows], [reach(made, row) for row in others]
    expected = {
        "precision": np.mean([any(distance(a, b) < reaches[a] for a in rows) for b in others]),
        "recall": np.mean([any(distance(a, b) < made_reaches[b] for b in others) for a in rows]),
        "density": np.mean([sum(distance(a, b) < reaches[a] for a in rows) / num for b in others]),
        "coverage": np.mean([any(distance(a, b) < reaches[a] for b in others) for a in rows]),
    }
    found = neighbourhoods(real, made, num)
    assert {name: each.mean() for name, each in found.items()} == pytest.approx(expected, abs=1e-12)


def test_frechet_distance_agrees_with_a_matrix_root():
    from scipy.linalg import sqrtm
    from sklearn.covariance import LedoitWolf

    first, second = points(40, 6), 1.7 * points(30, 6, 1, 0.4)
    one, other = (LedoitWolf().fit(each).covariance_ for each in (first, second))
    shift = first.mean(axis=0) - second.mean(axis=0)
    expected = shift @ shift + np.trace(one + other - 2.0 * np.real(sqrtm(one @ other)))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_discrepancy_agrees_with_sums_over_pairs():
    first, second = points(12), points(9, 4, 1, 1.0)
    width = bandwidth(first)

    def mean(one, other, same):
        values = [
            np.exp(-((a - b) ** 2).sum() / (2 * width**2))
            for i, a in enumerate(one)
            for j, b in enumerate(other)
            if not (same and i == j)
        ]
        return np.mean(values)

    expected = mean(first, first, True) + mean(second, second, True) - 2.0 * mean(first, second, False)
    kernel = gaussian_kernel(np.concatenate([first, second]), width)
    sides = np.arange(21) < 12
    assert float(unbiased_mmd(kernel, sides)) == pytest.approx(expected, abs=1e-12)


def test_discrepancy_has_no_bias():
    values = []
    for seed in range(200):
        both = points(20, 3, seed)
        values.append(float(unbiased_mmd(gaussian_kernel(both, 1.5), np.arange(20) < 10)))
    assert abs(np.mean(values)) < 3.0 * np.std(values) / np.sqrt(len(values))


def test_families_stay_together_under_permutation():
    families = np.array(["a", "a", "a", "b", "c", "d", "e", "f", "f", "g"])
    sides = permuted_sides(families, 5, 50, np.random.default_rng(0))
    assert sides[0].tolist() == [True] * 5 + [False] * 5
    for family in np.unique(families):
        assert (np.ptp(sides[1:, families == family].astype(int), axis=1) == 0).all()


def test_every_figure_of_every_contender_is_there(material, as_good):
    assert set(as_good) == {(figure, name) for figure in FIGURES for name in material.contenders}
    assert all(row.n == 24 for row in as_good.values())


@pytest.mark.parametrize("space", SPACES)
def test_people_are_at_the_floor_and_the_mean_head_is_not(as_good, space):
    for figure, times in (("frechet", 2.0), ("mmd", 1.0)):
        samples, floor, mean = (as_good[f"{figure}_{space}", of] for of in (SAMPLES, FLOOR, MEAN))
        assert min(samples.p, floor.p) > 0.01 >= mean.p
        assert mean.value > times * max(samples.value, floor.value)
    assert as_good[f"recall_{space}", MEAN].value == 0.0
    assert as_good[f"coverage_{space}", SAMPLES].value > 0.7


def test_the_network_sees_copies_that_were_moved_by_their_interpolation(as_good):
    assert as_good["frechet_network", COPIES].value > 2.0 * as_good["frechet_network", FLOOR].value


def test_more_blur_is_further_away(material, unheard, as_good):
    found = [as_good["frechet_network", SAMPLES].value]
    for fwhm in (6.0, 10.0, 16.0):
        found.append(judged(material, "network", blurred(unheard.volumes, ZOOMS, fwhm))["frechet"].value)
    assert np.all(np.diff(found) > 0.0)


def test_shifted_heads_are_far_in_components(material, unheard, as_good):
    shifted = np.stack([moved(volume, ZOOMS, (0.0, 8.0, 0.0)) for volume in unheard.volumes])
    found = judged(material, "pca", shifted)
    assert found["frechet"].p <= 0.01
    assert found["frechet"].value > 3.0 * as_good["frechet_pca", SAMPLES].value


def test_one_head_again_and_again_is_precise_and_covers_nobody(material, unheard):
    noise = np.random.default_rng(0).normal(0.0, 0.01, unheard.volumes.shape)
    found = judged(material, "pca", quantised(unheard.volumes[:1] + noise))
    assert found["recall"].value < 0.2 and found["coverage"].value < 0.5
    assert found["frechet"].p <= 0.01


def test_one_sex_alone_is_seen_by_its_volumes(material, as_good):
    people = synthetic_people(24, first=1000)
    men = np.resize(np.flatnonzero(people.people["sex"] == "M"), 24)
    found = judged(material, "morphometry", people.volumes[men], people.brains[men])
    assert found["frechet"].value > as_good["frechet_morphometry", SAMPLES].value


@pytest.mark.parametrize("space", SPACES)
def test_nothing_breaks_on_empty_heads(material, space):
    found = judged(material, space, np.zeros_like(material.samples.volumes), np.zeros_like(material.samples.brains))
    assert found["frechet"].p <= 0.01 and np.isfinite(found["frechet"].value)
    assert found["recall"].value == 0.0


def test_too_few_heads_say_so(material):
    few = {name: heads.take(np.arange(6)) for name, heads in material.contenders.items()}
    small = dataclasses.replace(material, unseen=material.unseen.take(np.arange(6)), contenders=few)
    rows = judge(small, {"pca": SPACES["pca"]}).rows
    assert all(row.value is None and row.note == "6 heads, expected at least 8" for row in rows)


def test_a_space_of_the_readers_own_is_taken(material):
    def brightness(material):
        groups = {UNSEEN: material.unseen, **material.contenders}
        return {name: heads.volumes.mean(axis=(1, 2, 3))[:, None] for name, heads in groups.items()}

    rows = judge(material, {"brightness": brightness}).rows
    assert {row.figure for row in rows} == {
        f"{figure}_brightness" for figure in ("frechet", "mmd", "precision", "recall", "density", "coverage")
    }


def test_the_same_seed_gives_the_same_figures(material):
    spaces = {"pca": SPACES["pca"]}
    assert judge(material, spaces).rows == judge(material, spaces).rows


def test_a_space_is_made_by_people_who_are_not_in_the_floor(material):
    assert not set(others(material).families) & set(material.contenders[FLOOR].families)


def test_random_features_are_of_the_size_that_is_said(material):
    small = dataclasses.replace(material, contenders={FLOOR: material.contenders[FLOOR]})
    found = random_network(small)
    assert found[UNSEEN].shape == (24, 112) and len(found[OTHERS]) == 24


def test_scaled_features_vary_by_one_in_all():
    found = scaled({OTHERS: points(50, 6) * [1, 10, 100, 0, 5, 2] + 3.0, UNSEEN: points(20, 6, 1)})
    assert found[OTHERS].shape == (50, 6)
    assert found[OTHERS].var(axis=0).sum() == pytest.approx(1.0)


def test_standardised_features_are_those_that_vary():
    found = standardised({OTHERS: points(50, 6) * [1, 10, 100, 0, 5, 2] + 3.0, UNSEEN: points(20, 6, 1)})
    assert found[UNSEEN].shape == (20, 5)
    assert found[OTHERS].std(axis=0) == pytest.approx(1.0)
