"""The densities that samples are drawn from."""

import numpy as np
import pytest

from mrigen.densities import GaussianDensity, MixtureDensity, PriorDensity, choose_density
from mrigen.errors import UsageError


def test_the_mixture_draws_what_the_training_latents_look_like(finished_run):
    density = MixtureDensity.fit(finished_run)
    draws = np.stack([density.draw(np.random.default_rng([0, index]), 1.0) for index in range(2000)])
    loc = finished_run.load_latents("train")["loc"]
    np.testing.assert_allclose(draws.mean(axis=0), loc.mean(axis=0), atol=4 * loc.std(axis=0).max() / np.sqrt(2000))
    # The half of the directions that are kept hold most of the variance.
    assert 0.5 < draws.var(axis=0).sum() / loc.var(axis=0, ddof=1).sum() < 1.2


def with_latents(run, loc, scale=0.1):
    """Puts `loc` in the place of a copied run's latents."""
    names = run.load_latents()["scan_id"]
    loc = np.asarray(loc, np.float32)
    run.save_latents({"scan_id": names, "loc": loc, "scale": np.full_like(loc, scale)})
    return run


def test_the_gaussian_has_the_mean_and_spread_of_training_people(run_copy):
    generator = np.random.default_rng(0)
    middle, spread = np.arange(8.0), np.linspace(0.5, 2.0, 8)
    count = len(run_copy.load_latents()["scan_id"])
    loc = middle + spread * generator.standard_normal((count, 8))
    density = GaussianDensity.fit(with_latents(run_copy, loc))
    train = run_copy.load_latents("train")["loc"]
    assert 2 < len(train) < count
    np.testing.assert_allclose(density.loc, train.mean(axis=0), rtol=1e-5)
    assert np.trace(density.covariance) == pytest.approx(train.var(axis=0).sum() + 8 * 0.01, rel=1e-4)
    draws = np.stack([density.draw(np.random.default_rng([0, k]), 1.0) for k in range(4000)])
    np.testing.assert_allclose(draws.mean(axis=0), density.loc, atol=0.15)
    np.testing.assert_allclose(np.cov(draws.T), density.covariance, atol=0.25)
    cold = np.stack([density.draw(np.random.default_rng([0, k]), 0.5) for k in range(10)])
    np.testing.assert_allclose(cold - density.loc, (draws[:10] - density.loc) / 2, atol=1e-5)


@pytest.mark.parametrize(("shift", "chosen"), [(0.0, "prior"), (5.0, "gaussian")])
def test_auto_takes_the_density_under_which_validation_people_are_likelier(run_copy, shift, chosen):
    count = len(run_copy.load_latents()["scan_id"])
    loc = shift + np.random.default_rng(0).standard_normal((count, 8))
    run = with_latents(run_copy, loc, scale=1.0 if shift == 0 else 0.1)
    assert choose_density(run, run.load_model()).name == chosen
    assert choose_density(run, run.load_model(), "prior").name == "prior"
    assert choose_density(run, run.load_model(), "mixture").name == "gaussian-mixture"


@pytest.mark.parametrize("density", [PriorDensity(3), GaussianDensity(np.zeros(3), np.eye(3))])
def test_log_densities_are_in_nats(density):
    expected = -0.5 * 3 * np.log(2 * np.pi) - 0.5 * np.array([3.0, 12.0])
    np.testing.assert_allclose(density.log_density(np.array([[1, 1, 1], [2, -2, 2]], np.float32)), expected, rtol=1e-6)


def test_an_unknown_density_is_refused(finished_run):
    with pytest.raises(UsageError, match="--density: got flow, expected one of auto, prior, gaussian, mixture for"):
        choose_density(finished_run, finished_run.load_model(), "flow")
