"""Models under `compile` and `fit`: history, evaluation, precision, and a loss that falls."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import MODEL_CASES, SIDES

from mrigen.models import Autoencoder, MorphingAutoencoder, VariationalAutoencoder

every_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)
# One case of each kind and objective: tracing a training step takes seconds.
each_objective = pytest.mark.parametrize(
    "case",
    {(case.kind, "paper" in case.name): case for case in reversed(MODEL_CASES) if not case.is_told}.values(),
    ids=str,
)
NAMES = {
    Autoencoder: {"loss", "mse"},
    VariationalAutoencoder: {"loss", "nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma"},
}
NAMES[MorphingAutoencoder] = NAMES[VariationalAutoencoder] | {"smoothness_nats"}


def heads(count=5):
    """Returns bright balls of different sizes, (count, *SIDES, 1)."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, side) for side in SIDES], indexing="ij")
    radii = np.sqrt(x**2 + y**2 + z**2)
    sizes = np.linspace(0.5, 1.2, count).reshape(-1, 1, 1, 1)
    return (1 / (1 + np.exp(10 * (radii - sizes))))[..., None].astype("float32")


def batches(volumes, batch_size):
    return tf.data.Dataset.from_tensor_slices(volumes).batch(batch_size)


@each_objective
def test_thirty_steps_lower_the_loss_and_fill_the_history(case):
    model, data = case.make(SIDES, 0, "float32"), batches(heads(5), 2)
    model.build((None, *SIDES, 1))
    model.compile(keras.optimizers.Adam(1e-2))
    # From noise, not from the mean: there is something to learn.
    options = {"validation_data": data, "validation_freq": 10, "shuffle": False, "verbose": 0}
    history = model.fit(data, epochs=10, adapt=False, **options).history
    names = NAMES[case.kind]
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["loss"][-1] < history["loss"][0]
    assert history["mse"][-1] < 0.7 * history["mse"][0]

    # Five volumes in batches of two: a smaller last batch counts by its size.
    last = {name: values[0] for name, values in history.items() if name.startswith("val_")}
    assert last["val_loss"] == pytest.approx(expected_loss(model, last), rel=1e-4)
    evaluated = model.evaluate(data, return_dict=True, verbose=0)
    assert set(evaluated) == names
    assert evaluated["mse"] == pytest.approx(last["val_mse"], rel=0.2)


def expected_loss(model, terms):
    """Returns the loss as its definition makes it of the tracked terms."""
    if isinstance(model, Autoencoder):
        return 0.5 * model.num_voxels * terms["val_mse"]
    if model.objective.name == "paper":
        return terms["val_mse"] + terms["val_kl_nats"]
    return terms["val_nll_nats"] + model.objective.beta * terms["val_kl_nats"] + terms.get("val_smoothness_nats", 0.0)


@every_model
def test_fit_builds_a_model_that_was_not_built(case):
    model = case.make(SIDES, 0, "float32")
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    volumes = heads(2)
    data = {"volumes": volumes, "condition": np.ones((2, 3), np.float32)} if case.is_told else volumes
    assert np.isfinite(model.fit(batches(data, 2), shuffle=False, verbose=0).history["loss"]).all()
    built = case.make(SIDES, 0, "float32")
    built.build((None, *SIDES, 1))
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in built.weights]


@pytest.mark.parametrize("kind", NAMES)
def test_float16_trains_under_loss_scaling(kind):
    model = next(case for case in MODEL_CASES if case.kind is kind and not case.is_told).make(SIDES, 0, "mixed_float16")
    model.build((None, *SIDES, 1))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = [weight.numpy() for weight in model.trainable_weights]
    # The first steps are skipped: the scale starts at 2^15 and halves until the gradients are finite.
    history = model.fit(batches(heads(3), 3), epochs=20, shuffle=False, verbose=0).history
    assert history["mse"][-1] < history["mse"][0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    for weight, start in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(weight, start), weight.path


def test_predict_returns_every_output():
    model = next(case for case in MODEL_CASES if case.kind is VariationalAutoencoder).built()
    model.compile(run_eagerly=True)
    outputs = model.predict(batches(heads(), 2), verbose=0)
    assert {name: value.shape for name, value in outputs.items()} == {
        "loc": (5, 4),
        "scale": (5, 4),
        "z": (5, 4),
        "reconstruction": (5, *SIDES, 1),
    }
