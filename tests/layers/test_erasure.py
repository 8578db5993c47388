"""What latents tell of a covariate is taken out, and nothing else."""

import numpy as np
import pytest

from mrigen.layers import Erasure


@pytest.fixture
def people():
    """Correlated latents (80, 5) that tell two columns of three (80, 3), the last of which is unknown of everybody."""
    generator = np.random.default_rng(0)
    targets = np.concatenate([generator.normal(size=(80, 2)) + 3.0, np.zeros((80, 1))], axis=1)
    latents = generator.normal(size=(80, 5)) @ generator.normal(size=(5, 5))
    latents += targets @ generator.normal(size=(3, 5)) + [1.0, -2.0, 0.0, 5.0, 0.3]
    return latents, targets


def erased(latents, targets):
    layer = Erasure()
    layer.build(latents.shape)
    share = layer.learn(latents, targets)
    return layer, layer(latents.astype(np.float32)).numpy(), share


def covariance(a, b):
    return (a - a.mean(axis=0)).T @ (b - b.mean(axis=0)) / len(a)


def test_no_linear_model_can_tell_the_covariate_and_the_mean_stays(people):
    latents, targets = people
    _, after, share = erased(latents, targets)
    assert np.abs(covariance(latents, targets)).max() > 0.5
    np.testing.assert_allclose(covariance(after, targets), 0.0, atol=1e-5)
    np.testing.assert_allclose(after.mean(axis=0), latents.mean(axis=0), atol=1e-5)
    # The share is what least squares explain.
    own, wanted = (values - values.mean(axis=0) for values in (latents, targets))
    left = wanted - own @ np.linalg.lstsq(own, wanted, rcond=None)[0]
    assert share == pytest.approx(1.0 - np.square(left).sum() / np.square(wanted).sum(), rel=1e-6)


def test_latents_are_moved_as_little_as_possible(people):
    latents, targets = people
    _, after, _ = erased(latents, targets)
    # Leaving out the directions that vary with the covariate does the same, but moves people farther.
    directions = np.linalg.qr(covariance(latents, targets[:, :2]))[0]
    other = latents - (latents - latents.mean(axis=0)) @ directions @ directions.T
    np.testing.assert_allclose(covariance(other, targets), 0.0, atol=1e-9)
    assert np.square(after - latents).sum() < 0.99 * np.square(other - latents).sum()
    assert np.linalg.matrix_rank(after - latents, tol=1e-3) == 2


def test_people_of_whom_nothing_is_known_do_not_count(people):
    latents, targets = people
    strangers = np.full((10, 5), 100.0)
    layer, _, share = erased(latents, targets)
    other, _, same = erased(np.concatenate([latents, strangers]), np.concatenate([targets, np.zeros((10, 3))]))
    assert share == same
    np.testing.assert_array_equal(layer.matrix, other.matrix)


def test_it_is_the_identity_where_nothing_varies(people):
    latents, targets = people
    _, after, share = erased(np.ones_like(latents), targets)
    np.testing.assert_array_equal(after, 1.0)
    assert share == 0.0
