"""Loss terms against scipy and by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from mrigen.losses import gaussian_nll, squared_error


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
