"""The flow of detail: what it is before it has learned, what it learns of a planted truth, and what its loss is."""

import keras
import numpy as np
import tensorflow as tf

from mrigen.distributions import DetailFlow
from mrigen.models.detail import DetailModel, places_on_grid

SIDES = (8, 8, 8)


def volumes(seed, count=4, scale=1.0):
    values = np.random.default_rng(seed).standard_normal((count, *SIDES, 1)).astype(np.float32)
    return tf.constant(scale * values)


def places(count=4):
    return tf.constant(np.repeat(places_on_grid(SIDES)[None], count, axis=0))


def test_untaught_it_draws_white_noise_of_the_spread_around_the_mean():
    flow, noise, mean = DetailFlow((4, 6), 1, seed=0), volumes(0), volumes(1, scale=0.1) + 0.5
    spread = tf.fill(mean.shape, 0.2)
    # The best linear guess, integrated, scales noise by sqrt(t^2 + (1 - t)^2), which is 1 at both ends.
    drawn = flow.draw(mean, spread, places(), noise, steps=20)
    np.testing.assert_allclose(drawn, mean + 0.2 * noise, atol=0.02)


def test_the_loss_of_the_best_linear_guess_is_one_where_that_is_all_there_is():
    flow = DetailFlow((4, 6), 1, seed=0)
    images, mean = volumes(2, 64, 0.2), tf.zeros((64, *SIDES, 1))
    for time in (0.1, 0.5, 0.9):
        loss = flow.loss(images, mean, tf.fill(images.shape, 0.2), places(64), tf.fill([64], time), volumes(3, 64))
        np.testing.assert_allclose(tf.reduce_mean(loss), 1.0, atol=0.03)


def test_it_learns_a_planted_detail_and_draws_both_kinds_of_it():
    pattern = np.where(np.indices(SIDES).sum(axis=0) // 2 % 2, 1.0, -1.0).astype(np.float32)[..., None]
    model = DetailModel(SIDES, (12, 16), 1, seed=0)
    model.spread.assign(np.full((*SIDES, 1), 0.1, dtype=np.float32))
    model.compile(optimizer=keras.optimizers.Adam(3e-3), jit_compile=False)
    learn, generator = tf.function(model.learn), np.random.default_rng(0)
    mean = np.full((8, *SIDES, 1), 0.5, dtype=np.float32)
    for _ in range(400):
        signs = generator.choice([-1.0, 1.0], 8).astype(np.float32)[:, None, None, None, None]
        times = (1.0 / (1.0 + np.exp(-generator.standard_normal(8)))).astype(np.float32)
        noise = generator.standard_normal(mean.shape, dtype=np.float32)
        learn(*map(tf.constant, (mean + 0.1 * signs * pattern, mean, np.full_like(mean, 0.1))), places(8), times, noise)
    drawn = np.stack([model.draw(mean[0, ..., 0], places_on_grid(SIDES), [seed], 8) for seed in range(12)]) - 0.5
    alike = [np.corrcoef(one.ravel(), pattern.ravel())[0, 1] for one in drawn]
    assert np.abs(alike).min() > 0.7  # Of white noise at most .15.
    assert min(alike) < 0 < max(alike)
    np.testing.assert_allclose(drawn.std(), 0.1, atol=0.03)


def test_the_same_seed_draws_the_same_and_another_another():
    model, mean = DetailModel(SIDES, (4,), 1, seed=0), np.full(SIDES, 0.5, dtype=np.float32)
    first, again, other = (model.draw(mean, places_on_grid(SIDES), seed, 3) for seed in ([1, 2], [1, 2], [1, 3]))
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_places_of_a_moved_head_are_those_of_the_template():
    moved = np.zeros((*SIDES, 3), dtype=np.float32)
    moved[..., 0] = 1.0  # A voxel of eight, on a scale of 2.
    np.testing.assert_allclose(places_on_grid(SIDES, moved) - places_on_grid(SIDES), np.eye(3)[0] * 0.25 + 0 * moved)
    assert places_on_grid(SIDES).min() == -0.875 and places_on_grid(SIDES).max() == 0.875
