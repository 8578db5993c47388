"""Loss terms against scipy and by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from mrigen.losses import gaussian_nll, mean_discrepancy, predictability, squared_error


@pytest.fixture
def volumes():
    return np.random.default_rng(0).uniform(size=(3, 4, 5, 6, 1)).astype("float32")


@pytest.fixture
def reconstruction():
    return np.random.default_rng(1).uniform(size=(3, 4, 5, 6, 1)).astype("float32")


def test_squared_error_sums_the_voxels_of_each_volume(volumes, reconstruction):
    expected = ((volumes - reconstruction) ** 2).sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(squared_error(volumes, reconstruction), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_squared_error_of_half_precision_volumes_is_summed_in_float32(dtype):
    # 0.0625 * 2^21 = 131072 overflows float16, and bfloat16 stops counting long before.
    volumes = tf.fill((1, 128, 128, 128, 1), tf.cast(0.25, dtype))
    error = squared_error(volumes, tf.zeros_like(volumes))
    assert error.dtype == tf.float32
    np.testing.assert_allclose(error, [131072.0])


@pytest.mark.parametrize("sigma", [0.05, 1.0, 3.0])
def test_gaussian_nll_equals_scipy(volumes, reconstruction, sigma):
    expected = -norm.logpdf(volumes.astype(float), reconstruction, sigma).sum(axis=(1, 2, 3, 4))
    nll = gaussian_nll(squared_error(volumes, reconstruction), 4 * 5 * 6, sigma)
    np.testing.assert_allclose(nll, expected, rtol=1e-4)


def test_gaussian_nll_known_value():
    np.testing.assert_allclose(gaussian_nll(tf.zeros(1), 1, 1.0), [0.5 * math.log(2 * math.pi)], rtol=1e-6)


def naive_discrepancy(one, other):
    """The unbiased squared discrepancy, kernel by kernel and pair by pair."""
    total, number = 0.0, len(one)
    for width in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        constant = 2.0 * one.shape[1] * width

        def kernel(a, b, constant=constant):
            return constant / (constant + ((a - b) ** 2).sum())

        for i in range(number):
            for j in range(number):
                if i != j:
                    total += kernel(one[i], one[j]) + kernel(other[i], other[j]) - 2.0 * kernel(one[i], other[j])
    return total / (number * (number - 1))


def test_the_discrepancy_is_that_of_its_kernels_pair_by_pair():
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(5, 3)), 1.0 + 2.0 * generator.normal(size=(5, 3))
    as_tensors = [tf.constant(values, tf.float32) for values in (one, other)]
    assert float(mean_discrepancy(*as_tensors)) == pytest.approx(naive_discrepancy(one, other), rel=1e-4)
    assert float(mean_discrepancy(as_tensors[0], as_tensors[0])) == pytest.approx(naive_discrepancy(one, one), rel=1e-4)
    assert float(mean_discrepancy(*(values[:1] for values in as_tensors))) == 0.0


def test_rows_without_weight_have_no_part_in_the_discrepancy():
    generator = np.random.default_rng(1)
    one, other = (tf.constant(generator.normal(size=(6, 2)), tf.float32) for _ in range(2))
    weights = [1, 0, 1, 1, 0, 1]
    kept = np.flatnonzero(weights)
    expected = mean_discrepancy(tf.gather(one, kept), tf.gather(other, kept))
    np.testing.assert_allclose(mean_discrepancy(one, other, weights), expected, rtol=1e-5)


def naive_predictability(z, targets, ridge):
    """The share of variance that ridge regression explains, in its primal form, of people that are known."""
    known = (targets != 0).any(axis=1)
    z, targets = z[known] - z[known].mean(axis=0), targets[known] - targets[known].mean(axis=0)
    z = z / np.maximum(z.std(axis=0), 1.0)
    weights = np.linalg.solve(z.T @ z + ridge * len(z) * np.eye(z.shape[1]), z.T @ targets)
    return (targets * (z @ weights)).sum() / (targets**2).sum()


@pytest.mark.parametrize("ridge", [1.0, 0.1])
@pytest.mark.parametrize("scale", [0.3, 1.2, 3.0])
def test_predictability_is_that_of_ridge_regression(ridge, scale):
    """Latents that vary less than under the prior (scale .3) keep their size; larger ones are brought to one."""
    generator = np.random.default_rng(2)
    z = scale * generator.normal(size=(20, 3))
    targets = np.stack([z[:, 0] / scale + generator.normal(size=20), generator.normal(size=20)], axis=1)
    targets[4] = targets[11] = 0.0
    found = predictability(tf.constant(z, tf.float32), tf.constant(targets, tf.float32), ridge)
    assert float(found) == pytest.approx(naive_predictability(z, targets, ridge), rel=1e-4)


def test_nobody_who_is_known_is_predicted_by_nothing():
    z = tf.random.stateless_normal((4, 2), (0, 1))
    assert float(predictability(z, tf.zeros((4, 1)))) == 0.0


def test_the_gradient_of_predictability_shuns_growing():
    """Latents that grow as a whole are as telling as before: the scale is held still in the gradient."""
    generator = np.random.default_rng(3)
    z = tf.Variable(3.0 * generator.normal(size=(12, 1)), dtype=tf.float32)
    targets = tf.constant(generator.normal(size=(12, 1)), tf.float32)
    with tf.GradientTape() as tape:
        loss = predictability(z, targets)
    gradient = tape.gradient(loss, z)
    along = float(tf.reduce_sum(gradient * z))
    # Were the scale not held, the gradient along the latents themselves would be nought.
    assert along > 1e-3
