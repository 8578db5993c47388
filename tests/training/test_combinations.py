"""Every prior under every objective, for a few steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mrigen.distributions import LIKELIHOODS, POSTERIORS, PRIORS
from mrigen.models import VariationalAutoencoder
from mrigen.models.vae.objectives import OBJECTIVES


def trained(**options):
    """Returns a small model before and after three steps on one batch: its loss each time."""
    model = VariationalAutoencoder(
        (5, 6, 5), latent_dim=3, channels=(2,), prior_components=2, capacity_nats=5.0, **options
    )
    model.build((None, 5, 6, 5, 1))
    volumes = tf.constant(np.random.default_rng(0).uniform(size=(4, 5, 6, 5, 1)).astype("float32"))
    optimizer, losses = keras.optimizers.SGD(1e-4, global_clipnorm=10.0), []
    variables = model.trainable_variables
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=volumes, y_pred=model(volumes, training=True))
        optimizer.apply(tape.gradient(loss, variables), variables)
        losses.append(float(loss))
    return model, losses


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("prior", PRIORS)
def test_each_prior_trains_under_each_objective(prior, objective):
    model, losses = trained(prior=prior, objective=objective, num_draws=2 if objective == "iw" else 1)
    assert np.isfinite(losses).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    reported = {name: float(tracker.result()) for name, tracker in model.reported.items()}
    assert set(reported) == {"nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma"}
    assert reported["elbo_nats"] == pytest.approx(-reported["nll_nats"] - reported["kl_nats"], rel=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_each_posterior_trains_under_each_likelihood(posterior, likelihood):
    sigma = "learned" if likelihood == "student" else "optimal"
    _, losses = trained(posterior=posterior, likelihood=likelihood, decoder_sigma=sigma)
    assert np.isfinite(losses).all()
