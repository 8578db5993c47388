"""Posterior and likelihood: known values, Monte Carlo, and what sigma does."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from mrigen.distributions import (
    DiagonalGaussianPosterior,
    GaussianLikelihood,
    LaplaceLikelihood,
    StudentLikelihood,
)

SHAPE = (3, 4, 5, 6, 1)
NUM_VOXELS = 4 * 5 * 6


@pytest.fixture
def volumes():
    return np.random.default_rng(0).uniform(size=SHAPE).astype("float32")


@pytest.fixture
def reconstruction():
    return np.random.default_rng(1).uniform(size=SHAPE).astype("float32")


def likelihood(sigma, **options):
    layer = GaussianLikelihood(sigma, **options)
    layer.build(SHAPE)
    return layer


def test_kl_known_values():
    kl = DiagonalGaussianPosterior.kl_per_dimension(tf.constant([[1.0, 0.0, 0.0]]), tf.constant([[1.0, 1.0, 2.0]]))
    np.testing.assert_allclose(kl, [[0.5, 0.0, 1.5 - math.log(2.0)]], rtol=1e-6, atol=1e-7)


def test_kl_equals_monte_carlo():
    loc, scale = tf.constant([[0.5, -1.0, 0.0]]), tf.constant([[0.3, 1.2, 2.0]])
    posterior = DiagonalGaussianPosterior.distribution(loc, scale)
    prior = DiagonalGaussianPosterior.distribution(tf.zeros((1, 3)), tf.ones((1, 3)))
    draws = posterior.sample(20000, seed=(0, 1))
    values = (posterior.log_prob(draws) - prior.log_prob(draws)).numpy()
    error = values.std() / math.sqrt(values.size)
    closed = tf.reduce_sum(DiagonalGaussianPosterior.kl_per_dimension(loc, scale))
    assert abs(values.mean() - closed) < 3 * error
    assert error < 0.02


def test_draws_have_the_posterior_mean_and_scale():
    loc, scale = tf.fill((20000, 2), 3.0), tf.constant([[0.1, 2.0]]) * tf.ones((20000, 1))
    posterior = {"loc": loc, "scale": scale}
    draws = DiagonalGaussianPosterior.draw(posterior, (5, 6)).numpy()
    np.testing.assert_allclose(draws.mean(0), [3.0, 3.0], atol=3 * 2.0 / math.sqrt(20000))
    np.testing.assert_allclose(draws.std(0), [0.1, 2.0], rtol=0.03)
    np.testing.assert_array_equal(draws, DiagonalGaussianPosterior.draw(posterior, (5, 6)))
    assert not np.array_equal(draws, DiagonalGaussianPosterior.draw(posterior, (5, 7)))
    assert not np.array_equal(draws[0], draws[1])


def test_posterior_starts_near_the_prior_and_its_scale_stays_above_zero():
    layer = DiagonalGaussianPosterior(16, seed=0)
    features = np.random.default_rng(0).normal(size=(4, 3, 4, 5, 2)).astype("float32")
    posterior = layer(features)
    assert tf.reduce_mean(DiagonalGaussianPosterior.kl_per_dimension(**posterior)) < 0.05
    np.testing.assert_allclose(posterior["scale"], 1.0, atol=0.5)
    layer.raw_scale.bias.assign(tf.fill(16, -1e4))
    assert np.all(layer(features)["scale"].numpy() > 0)


def test_optimal_sigma_is_the_root_mean_square_of_the_batch(volumes, reconstruction):
    layer = likelihood("optimal")
    mse = np.mean((volumes - reconstruction) ** 2, dtype=float)
    nll = layer(volumes, reconstruction, training=True)["nll"]
    # Rybkin 2021: the mean nll at the optimal sigma.
    expected = 0.5 * NUM_VOXELS * math.log(2 * math.pi * math.e * mse)
    np.testing.assert_allclose(np.mean(nll), expected, rtol=1e-5)


def test_optimal_sigma_is_the_minimum_over_sigma(volumes, reconstruction):
    best = np.mean(likelihood("optimal")(volumes, reconstruction, training=True)["nll"])
    rmse = math.sqrt(np.mean((volumes - reconstruction) ** 2))
    for factor in (0.9, 1.1):
        assert np.mean(likelihood(factor * rmse)(volumes, reconstruction)["nll"]) > best


def test_optimal_sigma_keeps_a_moving_average_of_its_logarithm(volumes, reconstruction):
    layer = likelihood("optimal", momentum=0.8)
    log_rmse = 0.5 * math.log(np.mean((volumes - reconstruction) ** 2))
    expected = math.log(0.1)
    for _ in range(3):
        layer(volumes, reconstruction, training=True)
        expected = 0.8 * expected + 0.2 * log_rmse
    np.testing.assert_allclose(layer.log_sigma, expected, rtol=1e-5)


def test_optimal_sigma_at_inference_is_the_moving_average_and_stays(volumes, reconstruction):
    layer = likelihood("optimal")
    layer.calibrate(0.04)
    got = layer(volumes, reconstruction)["nll"]
    np.testing.assert_allclose(layer.decoder_sigma, 0.2, rtol=1e-5)
    np.testing.assert_allclose(got, likelihood(0.2)(volumes, reconstruction)["nll"], rtol=1e-5)


def test_optimal_sigma_gives_the_gradient_of_half_d_log_mse(volumes, reconstruction):
    guess = tf.constant(reconstruction)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(guess)
        nll = tf.reduce_mean(likelihood("optimal")(volumes, guess, training=True)["nll"])
        closed = 0.5 * NUM_VOXELS * tf.math.log(tf.reduce_mean(tf.square(volumes - guess)))
    np.testing.assert_allclose(tape.gradient(nll, guess), tape.gradient(closed, guess), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_learned_sigma_is_pulled_towards_the_root_mean_square(volumes, reconstruction, factor):
    layer = likelihood("learned")
    mse = np.mean((volumes - reconstruction) ** 2, dtype=float)
    layer.log_sigma.assign(math.log(factor) + 0.5 * math.log(mse))
    with tf.GradientTape() as tape:
        nll = tf.reduce_mean(layer(volumes, reconstruction, training=True)["nll"])
    gradient = tape.gradient(nll, layer.log_sigma.value)
    np.testing.assert_allclose(gradient, NUM_VOXELS * (1 - factor**-2), rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.3, 1, 2.0])
def test_fixed_sigma_is_the_number_given_and_stays(volumes, reconstruction, sigma):
    layer = likelihood(sigma)
    layer(volumes, reconstruction, training=True)
    layer.calibrate(0.5)
    np.testing.assert_allclose(layer.decoder_sigma, sigma, rtol=1e-6)
    assert layer.trainable_weights == []


def test_likelihood_can_be_built_while_tracing(volumes, reconstruction):
    layer = GaussianLikelihood(0.3)
    traced = tf.function(lambda: layer(volumes, reconstruction)["nll"])()
    np.testing.assert_allclose(traced, likelihood(0.3)(volumes, reconstruction)["nll"], rtol=1e-5)


# Of standard deviation 1.
NOISE = {
    GaussianLikelihood: stats.norm(),
    LaplaceLikelihood: stats.laplace(scale=math.sqrt(0.5)),
    StudentLikelihood: stats.t(4, scale=math.sqrt(0.5)),
}


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("sigma", [0.3, "voxelwise"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_density_is_that_of_scipy(volumes, reconstruction, kind, sigma, masked):
    layer, mask = kind(sigma, masked=masked), np.ones(SHAPE[1:4], bool)
    layer.build(SHAPE)
    if masked:
        mask = np.random.default_rng(2).uniform(size=SHAPE[1:4]) < 0.5
        layer.limit_to(mask)
    scale = 0.3
    if sigma == "voxelwise":
        layer.log_sigma.assign(np.random.default_rng(3).normal(-1.0, 0.3, layer.log_sigma.shape))
        scale = layer.scale.numpy().astype(float)
        mean_square = np.square(np.broadcast_to(scale, SHAPE[1:])[mask]).mean()
        np.testing.assert_allclose(layer.decoder_sigma, math.sqrt(mean_square), rtol=1e-5)
    residual = volumes.astype(float) - reconstruction
    density = NOISE[kind].logpdf(residual / scale) - np.log(scale)
    expected = -(density * mask[..., None]).sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(layer(volumes, reconstruction)["nll"], expected, rtol=1e-4)


def test_the_optimal_sigma_of_laplace_is_its_mean_absolute_residual(volumes, reconstruction):
    layer = LaplaceLikelihood("optimal")
    layer.build(SHAPE)
    best = np.mean(layer(volumes, reconstruction, training=True)["nll"])
    scale = np.abs(volumes.astype(float) - reconstruction).mean()
    assert best == pytest.approx(NUM_VOXELS * (1.0 + math.log(2.0 * scale)), rel=1e-3)
    layer.calibrate(0.2)
    np.testing.assert_allclose(layer.decoder_sigma, 0.2 * math.sqrt(2.0), rtol=1e-3)
    assert float(StudentLikelihood.log_scale(0.04)) == pytest.approx(math.log(0.2), rel=1e-4)


def test_heads_of_a_posterior_start_apart_and_the_same_each_time():
    features = np.random.default_rng(0).normal(size=(2, 2, 2, 2, 3)).astype("float32")

    def kernels(seed):
        layer = DiagonalGaussianPosterior(4, seed=seed)
        layer(features)
        return [head.kernel.numpy() for head in layer.heads]

    loc, raw_scale = kernels(5)
    assert not np.allclose(loc, raw_scale)
    np.testing.assert_array_equal([loc, raw_scale], kernels(5))
    assert not np.allclose(loc, kernels(6)[0])
    assert not np.allclose(loc, kernels(None)[0])


def test_a_spatial_latent_has_sixteen_channels_a_place():
    assert DiagonalGaussianPosterior(None)(np.ones((2, 2, 3, 4, 5), "float32"))["loc"].shape == (2, 2 * 3 * 4 * 16)
