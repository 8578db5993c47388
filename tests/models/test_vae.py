"""The variational autoencoder's noise and its two objectives."""

import numpy as np
import pytest
import tensorflow as tf
from battery import SIDES, disturb

from mrigen.models import VariationalAutoencoder

NUM_VOXELS = 9 * 8 * 7


def vae(seed=0, **options):
    model = VariationalAutoencoder(SIDES, latent_dim=3, channels=(2, 2), seed=seed, **options)
    model.build((None, *SIDES, 1))
    settings = model.kl_weight.numpy(), model.likelihood.log_sigma.numpy()
    disturb(model)
    model.kl_weight.assign(settings[0])
    model.likelihood.log_sigma.assign(settings[1])
    return model


@pytest.fixture
def volumes():
    return tf.constant(np.random.default_rng(0).uniform(size=(4, *SIDES, 1)).astype("float32"))


def terms(model):
    return {name: float(tracker.result()) for name, tracker in model.reported.items()}


def test_draws_differ_between_steps_and_follow_the_seed(volumes):
    model, again, other = vae(), vae(), vae(seed=1)
    for each in (again, other):
        each.set_weights(model.get_weights())
    draws = [[each(volumes, training=True)["z"].numpy() for _ in range(2)] for each in (model, again, other)]
    assert not np.allclose(draws[0][0], draws[0][1])
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    np.testing.assert_allclose(draws[0][1], draws[1][1], rtol=1e-3, atol=1e-3)
    assert not np.allclose(draws[0][0], draws[2][0])


def test_draws_differ_between_the_subjects_of_a_batch(volumes):
    outputs = vae()(tf.repeat(volumes[:1], 4, axis=0))
    np.testing.assert_allclose(outputs["loc"][0], outputs["loc"][1], atol=1e-5)
    assert not np.allclose(outputs["z"][0], outputs["z"][1])


def test_encode_is_the_mean_of_the_draws(volumes):
    model = vae()
    outputs = model(tf.repeat(volumes[:1], 500, axis=0))
    error = outputs["scale"][0] / np.sqrt(500)
    np.testing.assert_array_less(np.abs(outputs["z"].numpy().mean(0) - model.encode(volumes[:1])[0]), 4 * error)


@pytest.mark.parametrize("decoder_sigma", ["optimal", "learned", 0.2])
@pytest.mark.parametrize("beta, warmth", [(1.0, 1.0), (4.0, 0.25), (0.5, 0.0)])
def test_loss_weighs_the_kl_and_the_elbo_does_not(volumes, decoder_sigma, beta, warmth):
    model = vae(decoder_sigma=decoder_sigma, beta=beta)
    model.kl_weight.assign(warmth)
    loss = float(model.compute_loss(x=volumes, y_pred=model(volumes), training=False))
    got, reference = terms(model), vae(decoder_sigma=decoder_sigma)
    reference.compute_loss(x=volumes, y_pred=reference(volumes), training=False)
    assert got == pytest.approx(terms(reference), rel=1e-5)
    assert loss == pytest.approx(got["nll_nats"] + beta * warmth * got["kl_nats"], rel=1e-5)
    assert got["elbo_nats"] == pytest.approx(-(got["nll_nats"] + got["kl_nats"]), rel=1e-5)
    assert got["kl_nats"] > 0.01


def test_elbo_equals_one_made_from_log_densities(volumes):
    model = vae(decoder_sigma=0.2)
    outputs = model(volumes)
    model.compute_loss(x=volumes, y_pred=outputs, training=False)
    residual = (volumes - outputs["reconstruction"]).numpy().astype(float).reshape(4, -1)
    nll = 0.5 * (residual**2).sum(1) / 0.2**2 + NUM_VOXELS * np.log(0.2 * np.sqrt(2 * np.pi))
    loc, scale = outputs["loc"].numpy().astype(float), outputs["scale"].numpy().astype(float)
    kl = (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).sum(1)
    got = terms(model)
    assert got["nll_nats"] == pytest.approx(nll.mean(), rel=1e-4)
    assert got["kl_nats"] == pytest.approx(kl.mean(), rel=1e-4)
    assert got["elbo_nats"] == pytest.approx(-(nll + kl).mean(), rel=1e-4)
    assert got["decoder_sigma"] == pytest.approx(0.2)


@pytest.mark.parametrize("training", [True, False])
def test_paper_objective_is_the_mean_squared_error_plus_the_summed_kl(volumes, training):
    model = vae(objective="paper", beta=7.0)
    outputs = model(volumes, training=training)
    loss = model.compute_loss(x=volumes, y_pred=outputs, training=training)
    loc, scale = outputs["loc"].numpy().astype(float), outputs["scale"].numpy().astype(float)
    kl = (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).sum(1).mean()
    mse = ((volumes - outputs["reconstruction"]).numpy().astype(float) ** 2).mean()
    np.testing.assert_allclose(loss, mse + kl, rtol=1e-5)


def test_paper_objective_is_the_elbo_of_a_decoder_with_half_the_voxels_as_variance(volumes):
    paper, honest = vae(objective="paper"), vae(decoder_sigma=float(np.sqrt(NUM_VOXELS / 2)))
    gradients = []
    for model in (paper, honest):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=volumes, y_pred=model(volumes))
        gradients.append(tape.gradient(loss, [weight.value for weight in model.trainable_weights]))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_what_latents_tell_is_that_of_their_means():
    model = VariationalAutoencoder(
        (8, 8, 8), latent_dim=3, channels=[2], condition_size=2, num_draws=2, invariant=(0,), invariance_weight=10.0
    )
    generator = np.random.default_rng(0)
    inputs = {
        "volumes": tf.constant(generator.uniform(size=(6, 8, 8, 8, 1)), tf.float32),
        "condition": tf.constant(generator.choice([-1.0, 1.0], (6, 2)), tf.float32),
    }
    outputs = model(inputs, training=True)
    losses = {}
    for name, loc in {"blind": tf.zeros((12, 3)), "telling": tf.tile(inputs["condition"][:, :1], (2, 3))}.items():
        model.predictability.kept_z.assign(tf.zeros_like(model.predictability.kept_z))
        model.predictability.kept_targets.assign(tf.zeros_like(model.predictability.kept_targets))
        model.reset_metrics()
        model.compute_loss(x=inputs, y_pred={**outputs, "loc": loc, "z": tf.zeros((12, 3))})
        losses[name] = float(model.reported["predictability"].result())
    assert losses["blind"] == pytest.approx(0.0, abs=1e-6)
    assert losses["telling"] > 0.4
