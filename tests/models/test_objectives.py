"""Objectives by their definitions, and what latents tell."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from mrigen.distributions import pairwise_log_density
from mrigen.layers import Erasure, Predictability
from mrigen.losses import mean_discrepancy, predictability
from mrigen.models.vae.memory import Memory
from mrigen.models.vae.objectives import OBJECTIVES, Objective, Terms, log_aggregate

BATCH, LATENT = 4, 3


def terms(num_draws=1, **changes):
    generator = np.random.default_rng(0)
    rows = BATCH * num_draws
    per_dimension = generator.uniform(0.0, 2.0, (rows, LATENT))
    values = {
        "nll": generator.uniform(50, 60, rows),
        "mse": generator.uniform(0, 1, rows),
        "kl": per_dimension.sum(axis=1),
        "kl_per_dimension": per_dimension,
        "log_ratio": generator.uniform(1, 4, rows),
        "z": generator.normal(size=(rows, LATENT)),
        "loc": generator.normal(size=(rows, LATENT)),
        "scale": generator.uniform(0.5, 1.5, (rows, LATENT)),
        "prior_draws": generator.normal(size=(rows, LATENT)),
    }
    values = {name: tf.constant(value, tf.float32) for name, value in values.items()} | changes
    return Terms(**values, num_draws=num_draws, num_people=100)


def mean(values):
    return float(np.mean(values, dtype=float))


def test_elbo_beta_and_the_schedule():
    given = terms()
    assert float(Objective().loss(given, 1.0)) == pytest.approx(mean(given.nll) + mean(given.kl), rel=1e-5)
    weighed = float(Objective(beta=3.0).loss(given, 0.5))
    assert weighed == pytest.approx(mean(given.nll) + 1.5 * mean(given.kl), rel=1e-5)


def test_free_bits_are_a_floor_for_each_latent_variable():
    given = terms()
    floor = np.maximum(np.mean(given.kl_per_dimension, axis=0), 1.0).sum()
    assert float(Objective(free_bits=1.0).loss(given, 1.0)) == pytest.approx(mean(given.nll) + floor, rel=1e-5)
    whole = float(Objective(free_bits=5.0).loss(terms(kl_per_dimension=None), 1.0))
    assert whole == pytest.approx(mean(given.nll) + max(mean(given.kl), 15.0), rel=1e-5)


def test_paper_and_capacity():
    given = terms()
    assert float(Objective("paper", beta=9.0).loss(given, 1.0)) == pytest.approx(
        mean(given.mse) + mean(given.kl), rel=1e-5
    )
    for warmth in (0.0, 0.5, 1.0):
        expected = mean(given.nll) + 2.0 * abs(mean(given.kl) - warmth * 8.0)
        got = float(Objective("capacity", beta=2.0, capacity_nats=8.0).loss(given, warmth))
        assert got == pytest.approx(expected, rel=1e-5)


def test_importance_weighting_of_equal_draws_is_the_elbo_and_of_others_larger():
    given = terms(3)
    log_weights = -(np.asarray(given.nll) + np.asarray(given.log_ratio)).reshape(3, BATCH).astype(float)
    expected = -np.mean(np.log(np.mean(np.exp(log_weights), axis=0)))
    got = float(Objective("iw").loss(given, 1.0))
    assert got == pytest.approx(expected, rel=1e-5)
    assert got < -log_weights.mean()
    one = terms(1)
    assert float(Objective("iw").loss(one, 1.0)) == pytest.approx(mean(one.nll) + mean(one.log_ratio), rel=1e-5)


def test_total_correlation_with_weight_one_is_the_elbo_and_by_its_definition():
    given = terms()
    plain = mean(given.nll) + mean(given.log_ratio)
    assert float(Objective("tc", tc_weight=1.0).loss(given, 1.0)) == pytest.approx(plain, rel=1e-5)
    z, loc, scale = (np.asarray(values, float) for values in (given.z, given.loc, given.scale))
    density = -0.5 * ((z[:, None] - loc) / scale) ** 2 - np.log(scale * math.sqrt(2 * math.pi))
    # Everyone is one of a hundred people; the others of the batch stand for the other 99.
    shares = np.where(np.eye(BATCH), 1 / 100, 99 / 100 / (BATCH - 1))
    joint = np.log((shares * np.exp(density.sum(axis=2))).sum(axis=1))
    product = np.log((shares[..., None] * np.exp(density)).sum(axis=1)).sum(axis=1)
    got = float(Objective("tc", tc_weight=4.0).loss(given, 1.0))
    assert got == pytest.approx(plain + 3.0 * np.mean(joint - product), rel=1e-4)
    # Of a single person nothing is known of any other: no correlation.
    alone = Terms(
        **{name: values[:1] for name, values in vars(given).items() if name not in ("num_draws", "num_people", "kept")},
        num_draws=1, num_people=100,
    )  # fmt: skip
    assert float(Objective("tc").loss(alone, 1.0)) == pytest.approx(float(alone.nll[0] + alone.log_ratio[0]), rel=1e-5)


PEOPLE, WIDTH, STEP = 160, 32, 8


def some_people(factors):
    """Returns posteriors (160, 32) of people whose latents have `factors` causes, and their total correlation."""
    generator = np.random.default_rng(1)
    loc = generator.normal(size=(PEOPLE, factors)) @ generator.normal(size=(factors, WIDTH))
    loc = 0.95 * loc / loc.std(axis=0)
    scale = np.full_like(loc, 0.3)
    z = loc + scale * generator.normal(size=loc.shape)
    density = -0.5 * ((z[:, None] - loc) / scale) ** 2 - np.log(scale * math.sqrt(2 * math.pi))
    joint = special.logsumexp(density.sum(axis=-1), axis=1) - math.log(PEOPLE)
    product = (special.logsumexp(density, axis=1) - math.log(PEOPLE)).sum(axis=1)
    return loc.astype("float32"), scale.astype("float32"), float((joint - product).mean())


def steps_of(loc, scale):
    """Yields the terms of batches of 8 people, in epochs, with half of the people kept from the batches before."""
    generator, memory = np.random.default_rng(2), Memory({"loc": WIDTH, "scale": WIDTH}, PEOPLE // 2)
    memory.build()
    nothing = tf.zeros(STEP)
    for _ in range(4):
        for people in generator.permutation(PEOPLE).reshape(-1, STEP):
            rows = {"loc": tf.gather(loc, people), "scale": tf.gather(scale, people)}
            z = rows["loc"] + rows["scale"] * generator.normal(size=(STEP, WIDTH)).astype("float32")
            kept = memory(rows, training=True)
            yield Terms(
                nothing, nothing, nothing, None, nothing, z, **rows, prior_draws=z, num_draws=1, num_people=PEOPLE,
                kept=kept,
            )  # fmt: skip


@pytest.mark.parametrize("factors", [4, 32])
def test_total_correlation_of_small_batches_is_that_of_all_people(factors):
    """Of batches alone it was 341 nats for 68."""
    loc, scale, expected = some_people(factors)
    found = [float(tf.reduce_mean(tf.subtract(*log_aggregate(given)))) for given in steps_of(loc, scale)][20:]
    assert np.mean(found) == pytest.approx(expected, rel=0.06)
    assert np.std(found) < 0.2 * expected


def test_the_gradient_of_small_batches_is_that_of_all_people():
    loc, scale = (tf.Variable(values) for values in some_people(4)[:2])

    @tf.function
    def exact(noise):
        with tf.GradientTape() as tape:
            pairs = pairwise_log_density(loc + scale * noise, loc, scale)
            joint = tf.reduce_logsumexp(tf.reduce_sum(pairs, axis=-1), axis=1)
            value = tf.reduce_mean(joint - tf.reduce_sum(tf.reduce_logsumexp(pairs, axis=1), axis=-1))
        return tape.gradient(value, [loc, scale])

    noise = np.random.default_rng(3).normal(size=(15, PEOPLE, WIDTH)).astype("float32")
    expected = np.mean([np.stack(exact(tf.constant(draw))) for draw in noise], axis=0)
    found, batches = [], steps_of(loc, scale)
    for _ in range(3 * PEOPLE // STEP):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(tf.subtract(*log_aggregate(next(batches))))
        found.append([tf.convert_to_tensor(part).numpy() for part in tape.gradient(value, [loc, scale])])
    # Noise is not along what is expected, a bias would be.
    for one, other in zip(np.mean(found, axis=0), expected, strict=True):
        assert np.sum(one * other) / np.sum(other**2) == pytest.approx(1.0, abs=0.2)


def test_the_discrepancy_of_small_batches_is_steady_with_what_is_kept():
    generator = np.random.default_rng(0)
    objective, found = Objective("mmd", mmd_weight=1000.0), {"alone": [], "kept": []}
    for _ in range(40):
        z, prior = (generator.normal(size=(count, 16)).astype("float32") for count in (104, 104))
        rows = {"z": tf.constant(z[:8]), "prior_draws": tf.constant(prior[:8])}
        given = terms(2, nll=tf.zeros(8), kl=tf.zeros(8), **rows)
        found["alone"].append(float(objective.loss(given, 1.0)))
        kept = {"z": tf.constant(z[8:]), "is_kept": tf.ones(96, bool)}
        given = dataclasses.replace(given, prior_draws=tf.constant(prior), kept=kept)
        found["kept"].append(float(objective.loss(given, 1.0)))
    assert np.std(found["alone"]) > 5.0 * np.std(found["kept"])
    assert abs(np.mean(found["kept"])) < 4.0
    # What is not kept yet does not count.
    empty = dataclasses.replace(given, kept={**kept, "is_kept": tf.zeros(96, bool)})
    assert float(objective.loss(empty, 1.0)) == pytest.approx(found["alone"][-1], abs=1e-2)


def test_what_is_kept_leaves_the_batch_its_push():
    """In the mean a batch is moved as if it were all people, though only it can move."""
    generator, objective, pushes = np.random.default_rng(0), Objective("mmd", mmd_weight=1000.0), {8: [], 104: []}
    for _ in range(30):
        z, prior = (generator.normal(size=(104, 4)).astype("float32") + shift for shift in (1.0, 0.0))
        for count, kept in ((8, None), (104, {"z": tf.constant(z[8:]), "is_kept": tf.ones(96, bool)})):
            batch = tf.constant(z[:8])
            with tf.GradientTape() as tape:
                tape.watch(batch)
                given = terms(2, nll=tf.zeros(8), kl=tf.zeros(8), z=batch, prior_draws=tf.constant(prior[:count]))
                loss = objective.loss(dataclasses.replace(given, kept=kept), 1.0)
            pushes[count].append(float(tf.reduce_sum(tape.gradient(loss, batch))))
    assert np.mean(pushes[104]) == pytest.approx(np.mean(pushes[8]), rel=0.15) and np.mean(pushes[8]) > 0
    assert np.std(pushes[104]) < np.std(pushes[8])


def test_discrepancy_is_near_zero_for_equal_distributions_and_grows_with_distance():
    generator = np.random.default_rng(0)
    one, other = (tf.constant(generator.normal(size=(400, 3)), tf.float32) for _ in range(2))
    near, far = float(mean_discrepancy(one, other)), float(mean_discrepancy(one, other + 1.0))
    assert abs(near) < 0.02 < 0.3 < far
    assert float(mean_discrepancy(one[:1], other[:1])) == pytest.approx(0.0, abs=1e-5)


def test_every_objective_is_finite_and_has_a_gradient():
    for name in OBJECTIVES:
        with tf.GradientTape() as tape:
            given = terms(2)
            tape.watch(given.nll)
            tape.watch(given.mse)
            loss = Objective(name).loss(given, 1.0)
        gradients = tape.gradient(loss, [given.nll, given.mse])
        assert np.isfinite(loss) and any(g is not None and np.any(g) for g in gradients), name


def test_predictability_of_known_cases():
    generator = np.random.default_rng(0)
    z = tf.constant(generator.normal(size=(2000, 3)), tf.float32)
    noise = tf.constant(generator.normal(size=(2000, 1)), tf.float32)
    assert float(predictability(z, noise)) < 0.01
    # Ridge regression with a penalty as large as the people's sum of squares halves a perfect effect.
    assert float(predictability(z, z[:, :1])) == pytest.approx(0.5, abs=0.01)
    assert float(predictability(10.0 * z + 5.0, z[:, :1])) == pytest.approx(0.5, abs=0.01)
    assert float(predictability(0.01 * z, z[:, :1])) < 0.01
    # People of whom nothing is known do not count.
    known = tf.constant((np.arange(2000) % 2 == 0)[:, None], tf.float32)
    assert float(predictability(z, known * (z[:, :1] + 10.0))) == pytest.approx(0.5, abs=0.01)
    assert float(predictability(z, tf.zeros((2000, 1)))) == 0.0


def test_latents_that_hardly_vary_are_hardly_pushed():
    """Else a penalty of some hundred nats keeps all latents from ever saying anything."""
    z = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    pushes = []
    for scale in (1.0, 0.1, 0.01):
        small = tf.Variable(scale * z)
        with tf.GradientTape() as tape:
            value = predictability(small, z[:, :1])
        pushes.append(float(tf.norm(tape.gradient(value, small))))
    assert pushes[1] < 5.0 * pushes[0] and pushes[2] < 0.5 * pushes[0]


def test_small_batches_unlearn_what_latents_tell():
    generator = np.random.default_rng(0)
    target = generator.choice([-1.0, 1.0], (64, 1)).astype("float32")
    z = tf.Variable(generator.normal(size=(64, 4)) + target * [2.0, 0.0, 0.0, 0.0], dtype=tf.float32)
    layer, before = Predictability(64), float(predictability(z, target))
    for step in range(600):
        rows = generator.choice(64, 4, replace=False)
        with tf.GradientTape() as tape:
            value = layer(tf.gather(z, rows), target[rows], training=True)
        gradient = tf.convert_to_tensor(tape.gradient(value, z))
        z.assign_sub(2.0 * gradient)
        assert np.isfinite(value), step
    assert before > 0.3
    assert float(predictability(z, target)) < 0.1


def test_erased_latents_tell_nothing_linearly_and_move_as_little_as_that_allows():
    generator = np.random.default_rng(0)
    site = generator.integers(0, 3, size=400)
    targets = np.eye(3, dtype=np.float32)[site]
    latents = generator.normal(size=(400, 6)) @ generator.normal(size=(6, 6)) + 2.0 * targets @ generator.normal(
        size=(3, 6)
    )
    targets[:20] = 0.0  # Unknown.
    layer = Erasure()
    layer.build((None, 6))
    np.testing.assert_array_equal(layer(latents.astype(np.float32)), latents.astype(np.float32))
    share = layer.learn(latents, targets)
    erased = layer(latents.astype(np.float32)).numpy().astype(np.float64)
    means = np.stack([erased[20:][site[20:] == level].mean(axis=0) for level in range(3)])
    np.testing.assert_allclose(means, means[[0]].repeat(3, axis=0), atol=1e-4)
    assert 0.3 < share < 1.0
    # Two of six directions are gone, the others whole; who tells nothing is left alone.
    np.testing.assert_allclose(np.sort(np.abs(np.linalg.eigvals(layer.matrix.numpy()))), [0, 0, 1, 1, 1, 1], atol=1e-3)
    assert layer.learn(erased, targets) < 1e-6
