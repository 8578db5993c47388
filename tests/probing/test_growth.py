"""How much larger a man's tissue is than a woman's, of heads whose fields are known."""

import numpy as np
import pytest
import tensorflow as tf

from mrigen.layers import jacobian_determinant
from mrigen.models import MorphingAutoencoder
from mrigen.probing.growth import growth_maps, growth_spacing

SIDES = (28, 24, 20)
COARSE = (14, 12, 10)
MIDDLE = np.array(COARSE) / 2 - 0.5
INSIDE = (slice(6, -6),) * 3


@pytest.fixture(scope="module")
def model():
    model = MorphingAutoencoder(SIDES, latent_dim=2, channels=(2, 2), field_channels=2, field_spacing=2)
    model.build((None, *SIDES, 1))
    return model


def places():
    return np.stack(np.indices(COARSE), axis=-1) - MIDDLE


def shift(by):
    return np.broadcast_to(np.float32(by), (*COARSE, 3))


def swelling(amount, centre=(0.0, 0.0, 0.0), width=2.0):
    """Returns a velocity that makes what is near a place, in voxels of the coarse grid from the middle, larger."""
    away = places() - np.array(centre)
    # A voxel of the head sees the template nearer to that place.
    return np.float32(-amount * away * np.exp(-0.5 * (away**2).sum(axis=-1, keepdims=True) / width**2))


def grown(model, woman, man):
    return growth_maps(model, woman[None], man[None])[0].numpy()


def test_a_head_that_is_larger_throughout_has_grown_by_as_much_everywhere(model):
    larger = np.float32(np.log(0.9) * places() + 0.5)
    growth = grown(model, shift(0), larger)
    assert growth.shape == SIDES and growth.dtype == np.float32
    np.testing.assert_allclose(growth[INSIDE], -3 * np.log(0.9), rtol=0.02)
    np.testing.assert_allclose(grown(model, larger, shift(0))[INSIDE], 3 * np.log(0.9), rtol=0.02)


def test_heads_that_are_alike_have_no_growth_between_them_wherever_they_are(model):
    np.testing.assert_allclose(grown(model, swelling(0.4), swelling(0.4)), 0.0, atol=1e-5)
    np.testing.assert_allclose(grown(model, shift((-1, 0.5, 0)), shift((1, -0.5, 0)))[INSIDE], 0.0, atol=1e-4)


def test_growth_is_by_how_much_a_ball_becomes_larger(model):
    """A ball of tissue that lies elsewhere in the two heads is followed: at one voxel there is other tissue."""
    distance = np.sqrt(((np.stack(np.indices(SIDES), axis=-1) - (np.array(SIDES) - 1) / 2) ** 2).sum(axis=-1))
    model.start_at_mean(np.clip(4.0 - distance, 0.0, 1.0).astype("float32"))
    woman, man = shift((-2.0, 0, 0)), shift((2.0, 0, 0)) + swelling(0.3, (-1.0, 0, 0))
    displacement = model.displacement(tf.constant(np.stack([woman, man, (woman + man) / 2])))
    smaller, larger, middle = model.mean(displacement).numpy()[..., 0]
    growth = grown(model, woman, man)
    expected = np.log(larger.sum() / smaller.sum())
    assert expected > 0.2
    assert np.average(growth, weights=middle) == pytest.approx(expected, rel=0.1)
    same_voxel = -np.diff(np.log(jacobian_determinant(displacement[:2])), axis=0)[0]
    assert np.average(same_voxel, weights=middle) < 0.9 * expected


def test_growth_is_the_divergence_where_it_is_small(model):
    velocity = swelling(0.01, centre=(2.0, -1.0, 1.0))
    growth = grown(model, -velocity / 2, velocity / 2)
    fine = model.displacement(tf.constant(velocity[None]))[0].numpy()
    divergence = -sum(np.gradient(fine[..., axis], axis=axis) for axis in range(3))
    np.testing.assert_allclose(growth[INSIDE], divergence[INSIDE], atol=2e-4)
    assert np.abs(divergence).max() > 0.02


def test_resolution_is_the_spacing_of_the_velocity_in_mm(model):
    assert growth_spacing(model, (1.5, 2.0, 4.0)) == (3.0, 4.0, 8.0)
