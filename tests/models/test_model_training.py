"""Models under `compile` and `fit`: history, evaluation, precision, and a loss that falls."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import MODEL_CASES, SIDES

from mrigen.models import Autoencoder, VariationalAutoencoder

every_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)
NAMES = {
    Autoencoder: {"loss", "mse"},
    VariationalAutoencoder: {"loss", "nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma"},
}


def heads(count=5):
    """Returns bright balls of different sizes, (count, *SIDES, 1)."""
    radii = np.sqrt(sum(np.linspace(-1, 1, side).reshape([-1 if a == i else 1 for a in range(3)]) ** 2 for i, side in enumerate(SIDES)))  # fmt: skip
    sizes = np.linspace(0.5, 1.2, count).reshape(-1, 1, 1, 1)
    return (1 / (1 + np.exp(10 * (radii - sizes))))[..., None].astype("float32")


def batches(volumes, batch_size):
    return tf.data.Dataset.from_tensor_slices(volumes).batch(batch_size)


def compiled(case, dtype="float32", learning_rate=1e-2):
    model = case.make(SIDES, 0, dtype)
    model.build((None, *SIDES, 1))
    model.compile(keras.optimizers.Adam(learning_rate))
    return model


@every_model
def test_thirty_steps_lower_the_loss_and_fill_the_history(case):
    model = compiled(case)
    data = batches(heads(4), 4)
    history = model.fit(data.repeat(), steps_per_epoch=10, epochs=3, validation_data=data, verbose=0).history
    names = NAMES[case.kind]
    assert set(history) == names | {f"val_{name}" for name in names}
    assert np.isfinite(list(history.values())).all()
    assert history["loss"][2] < history["loss"][0]
    assert history["mse"][2] < 0.7 * history["mse"][0]
    assert set(model.evaluate(data, return_dict=True, verbose=0)) == names


@every_model
def test_a_smaller_last_batch_counts_by_its_size(case):
    model = compiled(case)
    model.fit(batches(heads(), 2), epochs=3, verbose=0)
    got = model.evaluate(batches(heads(), 2), return_dict=True, verbose=0)
    if case.kind is Autoencoder:
        expected = 0.5 * model.num_voxels * got["mse"]
    elif model.objective == "paper":
        expected = got["mse"] + got["kl_nats"]
    else:
        expected = got["nll_nats"] + model.beta * got["kl_nats"]
    assert got["loss"] == pytest.approx(expected, rel=1e-4)


@every_model
def test_fit_builds_a_model_that_was_not_built(case):
    model = case.make(SIDES, 0, "float32")
    model.compile(keras.optimizers.Adam(1e-3))
    assert np.isfinite(model.fit(batches(heads(2), 2), verbose=0).history["loss"]).all()
    built = case.make(SIDES, 0, "float32")
    built.build((None, *SIDES, 1))
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in built.weights]


@every_model
def test_float16_trains_under_loss_scaling(case):
    model = compiled(case, "mixed_float16")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = model.get_weights()
    history = model.fit(batches(heads(4), 4).repeat(), steps_per_epoch=15, epochs=2, verbose=0).history
    assert history["mse"][1] < history["mse"][0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    moved = [not np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)]
    assert sum(moved) >= len(model.trainable_weights)


@every_model
def test_kl_warmth_and_trackers_start_anew_each_epoch(case):
    model = compiled(case, learning_rate=0.0)
    history = model.fit(batches(heads(4), 4), epochs=2, verbose=0).history
    assert history["mse"][0] == pytest.approx(history["mse"][1], rel=0.05)


def test_predict_returns_every_output():
    model = compiled(next(case for case in MODEL_CASES if case.kind is VariationalAutoencoder))
    outputs = model.predict(batches(heads(), 2), verbose=0)
    assert {name: value.shape for name, value in outputs.items()} == {
        "loc": (5, 4),
        "scale": (5, 4),
        "z": (5, 4),
        "reconstruction": (5, *SIDES, 1),
    }
