"""Thresholds that permuted people set, with a linear decoder that takes no time."""

import numpy as np
import pytest
import tensorflow as tf

from mrigen.probing import map_tests
from mrigen.probing.direction import Direction, fit_direction
from mrigen.probing.map_tests import decoded_maps, exchanged, maps_with_tests, permuted_rows, strength_of

SIDES, LATENT = (6, 7, 8), 5
ZOOMS = (16.0, 16.0, 16.0)


class LinearDecoder:
    """Latent k brightens a block of its own."""

    blocks = np.zeros((LATENT, *SIDES), np.float32)
    for number in range(LATENT):
        blocks[number, number : number + 2, 2:5, 2:6] = 0.05

    def graph(self, function):
        return lambda z, condition: function(self, z, condition)

    def decode_parts(self, z, condition=None):
        return {"reconstruction": tf.einsum("nk,kxyz->nxyz", z, self.blocks)[..., None] + 0.5}


def marked_maps(latents, targets, confounds=None, groups=None, sites=None, **options):
    groups = np.arange(len(targets)).astype(str) if groups is None else groups
    sites = np.full(len(targets), "here") if sites is None else sites
    direction = fit_direction(latents, targets, groups, 0.1, confounds)
    options = {"zooms": ZOOMS, "num_permutations": 60, **options}
    return maps_with_tests(LinearDecoder(), direction, latents, targets, groups, sites, confounds, **options)


def people(effect=0.0, seed=0, num_people=60):
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(num_people) % 2)
    latents = generator.normal(size=(num_people, LATENT))
    latents[:, 1] += effect * (targets - 0.5)
    return latents, targets


def test_a_planted_difference_is_marked_where_it_is():
    test = marked_maps(*people(2.0))["difference"]
    block = LinearDecoder.blocks[1] > 0
    assert test.mask[block].mean() > 0.8 and test.z[block].min() > 2.0 and test.values[block].min() > 0.02
    far = LinearDecoder.blocks[4] > 0
    assert test.mask[far].mean() < 0.2 and test.p_value == pytest.approx(1 / 41)


def test_nothing_is_marked_where_there_is_nothing():
    """Once in twenty times, that is: more than 6 of 40 have a probability of 1 in 300."""
    marked = sum(marked_maps(*people(0.0, seed))["difference"].mask.any() for seed in range(40))
    assert marked <= 6


def test_what_goes_with_a_confound_is_not_marked_and_what_goes_beyond_it_is():
    generator = np.random.default_rng(3)
    marked = []
    for seed in range(10):
        latents, targets = people(0.0, seed, 120)
        size = generator.normal(size=(120, 1)) + 1.5 * targets[:, None]
        latents[:, 2] += 2.0 * size[:, 0]
        marked.append(marked_maps(latents, targets, size)["difference"].mask.any())
        assert marked_maps(latents, targets)["difference"].mask.any()
    assert sum(marked) <= 3
    latents[:, 0] += 2.0 * (targets - 0.5)
    assert marked_maps(latents, targets, size)["difference"].mask[LinearDecoder.blocks[0] > 0].mean() > 0.8


def test_sexes_that_differ_as_sites_do_are_not_marked():
    """Women come from one site, men from another in the main: people exchange inside a site only."""
    marked = 0
    for seed in range(10):
        latents, targets = people(0.0, seed, 120)
        site = np.where(np.random.default_rng(seed).uniform(size=120) < 0.8, targets, 1 - targets)
        latents[:, 3] += 3.0 * site
        marked += marked_maps(latents, targets, sites=site.astype(str))["difference"].mask.any()
    assert marked <= 3


def test_people_exchange_inside_sites_and_families_as_wholes():
    groups = np.array(["a", "a", "b", "b", "c", "d", "e", "f"])
    sites = np.array(["x", "x", "x", "x", "x", "x", "y", "y"])
    for seed in range(20):
        rows = permuted_rows(groups, sites, np.random.default_rng(seed))
        assert sorted(rows) == list(range(8)) and set(rows[6:]) == {6, 7} and set(rows[4:6]) == {4, 5}
        assert set(rows[:2]) in ({0, 1}, {2, 3})


def test_what_goes_with_a_confound_stays_with_the_person():
    latents, _ = people()
    size = np.random.default_rng(0).normal(size=(60, 1))
    rows = np.random.default_rng(1).permutation(60)
    moved = exchanged(latents + 3.0 * size, size, rows)
    design = np.concatenate([np.ones((60, 1)), size], axis=1)
    fit = [np.linalg.lstsq(design, values, rcond=None)[0] for values in (latents + 3.0 * size, moved)]
    residuals = [values - design @ one for values, one in zip((latents + 3.0 * size, moved), fit, strict=True)]
    np.testing.assert_allclose(moved - design @ fit[0], residuals[0][rows])
    np.testing.assert_array_equal(exchanged(latents, None, rows), latents[rows])


def test_strength_is_the_root_mean_square_in_mm():
    z = np.zeros((41, 41, 41))
    z[20, 20, 20] = -3.0
    found = strength_of(z, (2.0, 2.0, 2.0))
    assert found.max() == found[20, 20, 20]
    # At half the width from the middle the mean square is half of what it is there: 10 mm are 5 voxels.
    assert found[25, 20, 20] ** 2 / found.max() ** 2 == pytest.approx(0.5, abs=0.01)
    assert strength_of(np.full((9, 9, 9), -2.0), (4.0, 4.0, 4.0)) == pytest.approx(2.0)
    assert map_tests.WINDOW_MM == 20.0


def test_maps_are_of_what_is_seen():
    """Of a head darker than black and brighter than white: 0 and 1."""
    pattern = np.zeros(LATENT)
    pattern[1] = 100.0
    directions = [Direction(np.zeros(LATENT), pattern, pattern, ends, 1.0) for ends in [(-1.0, 1.0), (1.0, -1.0)] * 3]
    maps = list(decoded_maps(LinearDecoder(), directions, None))
    block = LinearDecoder.blocks[1] > 0
    assert len(maps) == 6 and set(maps[0]) == {"difference"}
    for number, found in enumerate(maps):
        np.testing.assert_array_equal(found["difference"], np.where(block, (-1.0) ** number, 0.0))


def test_the_same_seed_gives_the_same_thresholds():
    first, again, other = (marked_maps(*people(1.0), seed=seed)["difference"] for seed in (0, 0, 1))
    assert first.threshold == again.threshold != other.threshold
    np.testing.assert_array_equal(first.mask, again.mask)
