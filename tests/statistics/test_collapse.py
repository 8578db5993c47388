"""The forecast against the theory of the linear VAE, which is probabilistic PCA."""

import numpy as np
import pytest

from mrigen.statistics.collapse import Forecast, count_active, describe_collapse, forecast_active
from mrigen.statistics.pca import fit_pca, spectrum

VARIANCES = np.array([50.0, 20.0, 8.0, 2.0, 0.5])


def forecast(**options) -> Forecast:
    return forecast_active(VARIANCES, 6, 10_000, **{"latent_size": 8, **options})


def test_a_fixed_noise_drops_directions_that_vary_less():
    assert forecast(decoder_sigma=1.0).num_directions == 4
    assert forecast(decoder_sigma=3.0).num_directions == 2
    assert forecast(decoder_sigma=3.0, latent_size=1).num_directions == 1
    assert forecast(decoder_sigma=8.0).num_directions == 0


def test_beta_multiplies_the_noise():
    assert forecast(decoder_sigma=1.0, beta=9.0).num_directions == forecast(decoder_sigma=3.0).num_directions
    assert forecast(decoder_sigma=1.0, beta=9.0).critical_variance == pytest.approx(50.0 / 9.0)


def test_the_papers_loss_is_a_noise_of_half_the_voxels():
    told = forecast(objective="paper", decoder_sigma=0.01)
    assert (told.num_directions, told.decoder_variance) == (0, 5000.0)
    assert forecast_active(VARIANCES, 6, 10, 8, "paper").num_directions == 3


def test_a_fitted_noise_is_that_of_probabilistic_pca():
    matrix = np.random.default_rng(0).normal(size=(30, 200)) * np.linspace(3.0, 0.2, 200)
    pca = fit_pca(matrix.astype("float32"), 7)
    told = forecast_active(spectrum(matrix), 30, 200, 7)
    assert told.num_directions == 7
    assert told.decoder_variance == pytest.approx(pca.noise_variance, rel=1e-4)


def test_a_fitted_noise_goes_round_until_it_stays():
    """Under a large beta the weakest directions fall, what they leave raises the noise, and more fall."""
    told = forecast(latent_size=4, beta=2400.0)
    assert told.num_directions == 3
    assert told.decoder_variance == pytest.approx((2.0 + 0.5) / (10_000 - 3 * 2400))


def test_few_people_show_few_directions():
    told = forecast(latent_size=64)
    assert told.num_directions == 5
    assert "at least 5 of 64" in told.in_words()
    assert "at least" not in forecast(latent_size=2).in_words()


def test_the_spectrum_is_that_of_pca():
    matrix = np.random.default_rng(1).normal(size=(9, 40)) + 100.0
    values = np.linalg.svd(matrix - matrix.mean(axis=0), compute_uv=False)[:8] ** 2 / 9
    np.testing.assert_allclose(spectrum(matrix), values, rtol=1e-6)


def test_active_variables_differ_between_people():
    locations = np.random.default_rng(2).normal(size=(50, 3)) * [1.0, 0.05, 0.5] + 7.0
    assert count_active(locations) == 2
    assert "2 of 3 latent variables are active" in describe_collapse(2, 3)
