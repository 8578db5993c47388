"""Harmonising: sites become alike, the target stays, and nothing is learned from test people."""

import dataclasses

import numpy as np
import pytest

from mrigen.errors import CohortError
from mrigen.probing.harmonise import SiteHarmonizer, harmonised
from mrigen.probing.plan import ProbePlan
from mrigen.probing.protocol import run_probe
from mrigen.probing.sites import predict_site

pytestmark = pytest.mark.usefixtures("small_grids")

NUM_PEOPLE, NUM_LATENTS = 150, 6
SITE = np.array(["a", "b", "c"])[np.arange(NUM_PEOPLE) % 3]


@pytest.fixture
def latents():
    """Three sites of other location and scale in every latent."""
    generator = np.random.default_rng(0)
    shift, scale = generator.normal(size=(3, NUM_LATENTS)) * 2.0, np.array([[0.5], [1.0], [2.0]])
    place = np.arange(NUM_PEOPLE) % 3
    return generator.normal(size=(NUM_PEOPLE, NUM_LATENTS)) * scale[place] + shift[place]


def test_sites_get_one_location_and_scale(latents):
    clean = harmonised(latents, SITE)(np.arange(NUM_PEOPLE))
    for site in "abc":
        own = clean[site == SITE]
        # Empirical Bayes holds back a little.
        np.testing.assert_allclose(own.mean(axis=0), clean.mean(axis=0), atol=0.15 * clean.std())
        np.testing.assert_allclose(own.std(axis=0), clean[SITE == "b"].std(axis=0), rtol=0.35)
    assert np.ptp([latents[site == SITE].std() for site in "abc"]) > 1.0


def test_little_is_believed_of_a_small_site():
    generator = np.random.default_rng(1)
    latents = generator.normal(size=(104, 40))
    matrix = np.concatenate([latents, np.repeat([[1, 0], [0, 1]], [100, 4], axis=0)], axis=1)
    location = SiteHarmonizer(2).fit(matrix).location_[1]
    plain = (latents[100:].mean(axis=0) - latents.mean(axis=0)) / latents[:100].std(axis=0)
    assert (location**2).mean() < 0.5 * (plain**2).mean()


def test_test_people_are_not_learned_from_and_unknown_sites_stay(latents):
    train, test = np.arange(100), np.arange(100, NUM_PEOPLE)
    first = harmonised(latents, SITE)(train)
    moved = latents.copy()
    moved[test] = 100.0 * moved[test] + 7.0
    np.testing.assert_array_equal(harmonised(moved, SITE)(train)[train], first[train])
    site = np.where(np.arange(NUM_PEOPLE) < 100, SITE, "new")
    np.testing.assert_allclose(harmonised(latents, site)(train)[test], latents[test])


def test_harmonised_latents_no_longer_tell_the_site_and_still_tell_sex(make_inputs, latents):
    inputs = make_inputs(num_people=NUM_PEOPLE, site=SITE, latents_draw=None, brain_volume=None)
    latents = latents.copy()
    latents[:, 0] += 1.0 * (2 * inputs.targets - 1)
    inputs = dataclasses.replace(inputs, latents=latents, volumes=inputs.volumes[:, :9])
    quick = {"num_folds": 4, "num_repeats": 1}
    told = {row["predictor"]: row for row in predict_site(inputs, **quick).rows() if row["protocol"] == "transductive"}
    assert told["latents"]["roc_auc"] > 0.9
    assert told["latents_harmonised"]["roc_auc"] < 0.65
    rows = run_probe(inputs, plan=ProbePlan(harmonise="site"), **quick).rows()
    auc = {row["predictor"]: row["roc_auc"] for row in rows if row["protocol"] == "transductive"}
    assert auc["latents_harmonised"] > 0.7


def test_one_site_is_an_error(make_inputs):
    inputs = make_inputs(num_people=20)
    with pytest.raises(CohortError, match="harmonise='site': got one site, expected at least two"):
        run_probe(inputs, plan=ProbePlan(harmonise="site"), num_repeats=1)
    with pytest.raises(CohortError, match="got 1 sites of several families, expected at least two"):
        predict_site(inputs)
