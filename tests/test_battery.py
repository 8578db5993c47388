"""What every public layer and every model has to pass; the cases are in `battery.py`."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import CASES, MODEL_CASES, PRECISIONS, SIDES, as_model, disturb, flat, save_and_load

import mrigen.distributions
import mrigen.layers
from mrigen.distributions import VampPrior
from mrigen.models import families, split_inputs

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def test_the_battery_misses_no_public_layer_or_model():
    public = {
        thing
        for module in (mrigen.layers, mrigen.distributions)
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, keras.layers.Layer) and not inspect.isabstract(thing)
    }
    # A VampPrior is nothing without an encoder: it is tested in a model.
    assert {case.kind for case in CASES} == (public - {VampPrior}) | {family.load() for family in families().values()}


@every_case
@pytest.mark.parametrize("sides", [(29, 35, 29), SIDES, (6, 5, 11)], ids=str)
def test_outputs_have_the_promised_shape_at_any_sides(case, sides):
    layer = case.built(sides)
    outputs = layer(*case.inputs(sides))
    assert tf.nest.map_structure(lambda output: tuple(output.shape), outputs) == case.shapes(sides, 2)
    assert all(np.isfinite(output).all() for output in flat(outputs))


@every_case
def test_symbolic_shapes_equal_the_real_ones(case):
    symbolic = case.built()(*case.each_input(keras.KerasTensor))
    assert tf.nest.map_structure(lambda output: tuple(output.shape), symbolic) == case.shapes(SIDES, None)


@every_case
def test_building_by_call_or_by_shape_makes_the_same_weights(case):
    called = case.make(SIDES, 0, "float32")
    called(*case.inputs())
    built = case.built()
    assert [w.name for w in called.weights] == [w.name for w in built.weights]
    assert [w.shape for w in called.weights] == [w.shape for w in built.weights]


@every_case
def test_config_round_trip(case):
    layer = case.make(SIDES, 0, "mixed_bfloat16")
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.dtype_policy == layer.dtype_policy
    case.build(again)
    disturb(again)
    for one, other in zip(
        flat(again(*case.inputs())), flat(case.built(dtype="mixed_bfloat16")(*case.inputs())), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@every_case
def test_keras_serialisation_round_trip(case):
    layer = case.built(dtype="mixed_bfloat16")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]


@every_case
def test_weights_survive_a_file(case):
    source, target = (as_model(case.built(seed=seed), case) for seed in (1, 2))
    inputs = case.inputs()
    save_and_load(source, target)
    for one, other in zip(source.weights, target.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    if case.is_model:
        volumes, _ = split_inputs(inputs[0])
        expected, got = source.posterior(volumes), target.posterior(volumes)
        expected["volumes"], got["volumes"] = source.decode(expected["loc"]), target.decode(got["loc"])
    else:
        expected, got = source(inputs), target(inputs)
    for one, other in zip(flat(expected), flat(got), strict=True):
        np.testing.assert_array_equal(one, other)


@every_case
@every_precision
def test_precision_policies_are_finite_and_near_float32(case, precision):
    layer, reference = case.built(dtype=precision), case.built()
    outputs, expected = layer(*case.inputs()), reference(*case.inputs())
    tolerance = {"float32": 1e-6, "mixed_bfloat16": 0.05, "mixed_float16": 0.01}[precision]
    for got, wanted in zip(flat(outputs), flat(expected), strict=True):
        assert np.isfinite(got).all()
        assert np.linalg.norm(got - wanted) <= tolerance * np.linalg.norm(wanted)
    compute = "float32" if case.always_float32 else keras.dtype_policies.get(precision).compute_dtype
    assert {output.dtype.name for output in tf.nest.flatten(outputs)} == {compute}
    # Whole numbers are counters.
    assert {weight.dtype for weight in layer.weights if "int" not in weight.dtype} <= {"float32"}


@every_model
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_a_global_policy_changes_no_latent_to_half_precision(case, precision):
    inputs = case.inputs()
    expected = case.built(dtype=precision)(*inputs)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = case.built(dtype=precision)
        outputs = model(*inputs)
        loss = model.compute_loss(x=inputs[0], y_pred=outputs)
    finally:
        keras.config.set_dtype_policy(before)
    for got, wanted in zip(flat(outputs), flat(expected), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert loss.dtype == tf.float32


@every_case
@every_precision
def test_a_few_training_steps_move_every_trainable_weight(case, precision):
    layer = case.make(SIDES, 0, precision)
    case.build(layer)
    inputs = case.inputs()
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = case.loss(layer, inputs)
        gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
            assert gradient is not None, weight.path
            weight.assign_sub(1e-3 * gradient / (1e-6 + tf.norm(gradient)))
    assert loss.dtype == tf.float32
    assert np.isfinite(loss)
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient).all(), weight.path
        assert np.any(gradient), weight.path


@every_case
def test_a_batch_of_one_trains(case):
    assert np.isfinite(case.loss(case.built(), case.inputs(batch=1)))


@every_case
def test_tf_function_equals_eager_and_keeps_static_shapes(case):
    layer, again = case.built(), case.built()
    signature = case.each_input(tf.TensorSpec)
    function = tf.function(lambda *inputs: again(*inputs), input_signature=signature)
    static = function.get_concrete_function().structured_outputs
    assert tf.nest.map_structure(lambda output: tuple(output.shape), static) == case.shapes(SIDES, None)
    for one, other in zip(flat(function(*case.inputs())), flat(layer(*case.inputs())), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
