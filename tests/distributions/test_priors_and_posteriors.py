"""Priors and the low-rank posterior: known values, densities that integrate, KL against Monte Carlo."""

import math

import numpy as np
import pytest
import tensorflow as tf
from battery import disturb
from scipy import integrate, stats

from mrigen.distributions import (
    DiagonalGaussianPosterior,
    FlowPrior,
    LowRankGaussianPosterior,
    MixturePrior,
    NormalPrior,
    VampPrior,
    has_closed_form,
    kl_nats,
    pairwise_log_density,
)

CONDITION = tf.constant([[0.5, -1.0, 2.0]])


def vamp(condition_size=0):
    prior = VampPrior(2, condition_size, volume_shape=(4, 4, 4), num_components=3)
    prior.encode = lambda volumes: {
        "loc": 2.0 * tf.stack([volumes[:, 0, 0, 0, 0], volumes[:, 3, 3, 3, 0]], axis=-1),
        "scale": tf.fill([3, 2], 0.7),
    }
    return prior


KINDS = {
    "normal": lambda condition_size: NormalPrior(2, condition_size),
    "mixture": lambda condition_size: MixturePrior(2, condition_size, seed=1, num_components=3),
    "vamp": vamp,
    "flow": lambda condition_size: FlowPrior(2, condition_size, seed=1, num_couplings=3, width=4),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def built(kind, condition_size=0):
    prior = KINDS[kind](condition_size)
    prior.build((None, 2))
    disturb(prior)
    return prior


@every_kind
@pytest.mark.parametrize("condition", [None, CONDITION], ids=["untold", "told"])
def test_a_prior_is_a_density_and_its_draws_follow_it(kind, condition):
    prior = built(kind, 0 if condition is None else 3)
    grid = np.linspace(-9.0, 9.0, 121)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
    told = None if condition is None else tf.repeat(condition, len(points), axis=0)
    mass = np.exp(prior(points, told).numpy().astype(float)).reshape(121, 121)

    def integral(values):
        return integrate.simpson(integrate.simpson(values, x=grid), x=grid)

    assert integral(mass) == pytest.approx(1.0, abs=2e-3)
    told = None if condition is None else tf.repeat(condition, 20000, axis=0)
    draws = prior.draw(20000, (1, 2), told).numpy().astype(float)
    for axis, values in enumerate(np.meshgrid(grid, grid, indexing="ij")):
        error = draws[:, axis].std() / math.sqrt(20000)
        assert abs(draws[:, axis].mean() - integral(mass * values)) < 4 * error
        variance = integral(mass * values**2) - integral(mass * values) ** 2
        assert draws[:, axis].var() == pytest.approx(variance, rel=0.08)
    np.testing.assert_array_equal(draws[:3], prior.draw(20000, (1, 2), told)[:3])


@every_kind
def test_nothing_known_is_zeros_and_a_fresh_prior_does_not_care(kind):
    prior = KINDS[kind](3)
    prior.build((None, 2))
    z = np.random.default_rng(0).standard_normal((4, 2)).astype("float32")
    np.testing.assert_allclose(prior(z), prior(z, tf.repeat(CONDITION, 4, axis=0)), rtol=1e-5)
    disturb(prior)
    np.testing.assert_allclose(prior(z), prior(z, tf.zeros((4, 3))), rtol=1e-5)
    assert not np.allclose(prior(z), prior(z, tf.repeat(CONDITION, 4, axis=0)))


def test_the_flow_inverts_and_starts_as_the_standard_normal():
    prior = FlowPrior(5, seed=0, num_couplings=4, width=6)
    prior.build((None, 5))
    z = np.random.default_rng(0).standard_normal((7, 5)).astype("float32")
    np.testing.assert_allclose(prior(z), stats.norm.logpdf(z).sum(axis=1), rtol=1e-5)
    disturb(prior)
    bijector = prior.base().bijector
    moved = bijector.forward(z)
    assert not np.allclose(moved, z, atol=0.1)
    # A copy, or the bijector remembers what it was made from.
    np.testing.assert_allclose(bijector.inverse(tf.constant(moved.numpy())), z, atol=1e-4)
    with pytest.raises(ValueError, match="latent_size: got 1, expected at least 2 for a flow"):
        FlowPrior(1)


def test_a_plain_prior_is_the_standard_normal_and_learns_nothing():
    prior = NormalPrior(3)
    prior.build((None, 3))
    assert prior.weights == [] and prior.distribution().batch_shape == ()
    np.testing.assert_array_equal(prior.base().stddev(), np.ones(3))


def test_the_mixture_equals_one_made_with_scipy():
    prior = built("mixture")
    weights = np.exp(prior.logits.numpy()) / np.exp(prior.logits.numpy()).sum()
    scales = np.exp(np.arcsinh(prior.raw_scale.numpy()))
    z = np.array([0.3, -0.8])
    expected = np.log(
        sum(w * stats.norm.pdf(z, m, s).prod() for w, m, s in zip(weights, prior.loc.numpy(), scales, strict=True))
    )
    assert float(prior(z[None].astype("float32"))[0]) == pytest.approx(expected, rel=1e-5)


def test_the_vamp_prior_is_the_mixture_of_its_pseudo_inputs():
    prior = built("vamp")
    prior.start_at(np.full((4, 4, 4), 0.25))
    assert prior.pseudo_inputs.shape == (3, 4, 4, 4, 1)
    # As in the weights of runs that were saved: a control point every four voxels.
    wide = VampPrior(2, volume_shape=(8, 9, 4), num_components=3)
    wide.build((None, 2))
    assert wide.fields.shape == (3, 2, 3, 1, 1)
    loc = prior.encode(prior.pseudo_inputs)["loc"].numpy()
    weights = np.exp(prior.logits.numpy()) / np.exp(prior.logits.numpy()).sum()
    z = np.array([0.3, 0.8])
    expected = np.log(sum(w * stats.norm.pdf(z, m, 0.7).prod() for w, m in zip(weights, loc, strict=True)))
    assert float(prior(z[None].astype("float32"))[0]) == pytest.approx(expected, rel=1e-4)


def low_rank():
    generator = np.random.default_rng(0)
    scale = generator.uniform(0.5, 1.5, (1, 3)).astype("float32")
    factor = (0.3 * scale[..., None] * generator.uniform(-1, 1, (1, 3, 2))).astype("float32")
    return {"loc": generator.normal(size=(1, 3)).astype("float32"), "scale": scale, "factor": factor}


def test_the_low_rank_posterior_is_the_gaussian_it_says():
    posterior = low_rank()
    factor = posterior["factor"][0]
    covariance = np.diag(posterior["scale"][0] ** 2 - (factor**2).sum(axis=1)) + factor @ factor.T
    np.testing.assert_allclose(np.diag(covariance), posterior["scale"][0] ** 2, rtol=1e-6)
    z = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    got = LowRankGaussianPosterior.distribution(**posterior).log_prob(z)
    expected = stats.multivariate_normal.logpdf(z, posterior["loc"][0], covariance)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    many = {name: tf.repeat(value, 20000, axis=0) for name, value in posterior.items()}
    draws = LowRankGaussianPosterior.draw(many, (0, 1)).numpy()
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.06)


def test_the_diagonal_of_a_low_rank_posterior_never_vanishes():
    layer = LowRankGaussianPosterior(5, seed=0, rank=2)
    layer.build((None, 2, 2, 2, 3))
    layer.raw_factor.bias.assign(tf.fill(10, 50.0))
    posterior = layer(np.ones((2, 2, 2, 2, 3), "float32"))
    diagonal = posterior["scale"].numpy() ** 2 - (posterior["factor"].numpy() ** 2).sum(axis=-1)
    assert np.all(diagonal > 0.04 * posterior["scale"].numpy() ** 2)


@pytest.mark.parametrize("condition", [None, CONDITION], ids=["untold", "told"])
def test_the_kl_of_a_low_rank_posterior_is_that_of_whole_matrices(condition):
    generator, size = np.random.default_rng(2), 40
    prior = NormalPrior(size, 0 if condition is None else 3)
    prior.build((None, size))
    disturb(prior)
    layer = LowRankGaussianPosterior(size, seed=0, rank=4)
    layer.build((None, 2, 2, 2, 3))
    disturb(layer)
    posterior = layer(generator.normal(size=(3, 2, 2, 2, 3)).astype("float32"))
    q, p = layer.distribution(**posterior), prior.distribution(condition)
    got = kl_nats(q, p, posterior["loc"]).numpy()
    middle, width = (np.broadcast_to(part.numpy(), (3, size)).astype(float) for part in (p.mean(), p.stddev()))
    for row, value in enumerate(got):
        loc, scale, factor = (np.asarray(posterior[name][row], float) for name in ("loc", "scale", "factor"))
        covariance = (np.diag(scale**2 - (factor**2).sum(axis=1)) + factor @ factor.T) / np.outer(
            width[row], width[row]
        )
        away = (loc - middle[row]) / width[row]
        expected = 0.5 * (np.trace(covariance) + away @ away - size - np.linalg.slogdet(covariance)[1])
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("prior", "posterior", "closed"),
    [
        ("normal", "diagonal", True),
        ("normal", "low_rank", True),
        ("mixture", "diagonal", False),
        ("flow", "diagonal", False),
    ],
)
def test_kl_is_closed_where_known_and_equals_monte_carlo(prior, posterior, closed):
    kind = {
        "normal": NormalPrior(3),
        "mixture": MixturePrior(3, seed=0, num_components=2),
        "flow": FlowPrior(3, seed=0),
    }
    prior = kind[prior]
    prior.build((None, 3))
    disturb(prior)
    parameters, of = low_rank(), LowRankGaussianPosterior
    if posterior == "diagonal":
        del parameters["factor"]
        of = DiagonalGaussianPosterior
    q, p = of.distribution(**parameters), prior.distribution()
    known = has_closed_form(q, p)
    assert known == closed
    many = {name: tf.repeat(value, 20000, axis=0) for name, value in parameters.items()}
    z = of.draw(many, (3, 4))
    values = (of.distribution(**many).log_prob(z) - p.log_prob(z)).numpy()
    error = values.std() / math.sqrt(values.size)
    got = kl_nats(q, p, z[:1]).numpy()[0] if known else kl_nats(of.distribution(**many), p, z).numpy().mean()
    assert abs(got - values.mean()) < 3 * error + 1e-6


def test_pairwise_log_densities():
    z, loc, scale = (np.random.default_rng(k).uniform(0.5, 2.0, (count, 2)) for k, count in enumerate((4, 3, 3)))
    got = pairwise_log_density(*(tf.constant(values, tf.float32) for values in (z, loc, scale)))
    np.testing.assert_allclose(got, stats.norm.logpdf(z[:, None], loc[None], scale[None]), rtol=1e-4)
