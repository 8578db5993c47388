"""The morphing decoder: what it makes of z, and what its smoothness costs."""

import numpy as np
import pytest
import tensorflow as tf
from battery import SIDES, disturb
from scipy.ndimage import map_coordinates

from mrigen.errors import RecipeError
from mrigen.layers import (
    bending,
    coarsen,
    integrate_velocity,
    jacobian_determinant,
    upsample,
    upsample_displacement,
)
from mrigen.models import MorphingAutoencoder, VariationalAutoencoder
from mrigen.models.morph.model import affine_basis
from mrigen.recipe import load_recipe


def morph(sides=SIDES, **options):
    model = MorphingAutoencoder(sides, latent_dim=3, channels=(2, 2), field_channels=4, **options)
    model.build((None, *sides, 1))
    return model


def disturbed(**options):
    model = morph(**options)
    disturb(model)
    model.kl_weight.assign(1.0)
    return model


@pytest.fixture
def volumes():
    return tf.constant(np.random.default_rng(0).uniform(size=(4, *SIDES, 1)).astype("float32"))


@pytest.fixture
def z():
    return tf.constant(np.random.default_rng(1).normal(size=(2, 3)).astype("float32"))


@pytest.mark.parametrize("spacing, coarse", [(1, (9, 8, 7)), (3, (3, 3, 3)), (4, (3, 2, 2)), (16, (1, 1, 1))])
def test_fields_cover_the_volume_at_their_spacing(z, spacing, coarse):
    parts = morph(field_spacing=spacing).decode_parts(z)
    assert parts["velocity"].shape == (2, *coarse, 3)
    assert parts["displacement"].shape == (2, *SIDES, 3)


def test_every_decoding_starts_at_the_template(z):
    model, template = morph(), np.random.default_rng(0).uniform(size=SIDES).astype("float32")
    model.start_at_mean(template)
    parts = model.decode_parts(z)
    for name, value in (("velocity", 0), ("displacement", 0), ("gain", 1), ("offset", 0)):
        np.testing.assert_array_equal(parts[name], np.full(parts[name].shape, value))
    np.testing.assert_array_equal(parts["reconstruction"][1, ..., 0], template)


def test_reconstruction_is_the_warped_template_shaded(z):
    model = disturbed()
    parts = model.decode_parts(z)
    template = model.mean.image.numpy()[..., 0]
    for n in range(2):
        places = np.moveaxis(parts["displacement"][n].numpy() + np.stack(np.indices(SIDES), axis=-1), -1, 0)
        moved = map_coordinates(template.astype(float), places, order=1, mode="nearest")
        shaded = moved * parts["gain"][n, ..., 0] + parts["offset"][n, ..., 0]
        np.testing.assert_allclose(parts["reconstruction"][n, ..., 0], shaded, rtol=1e-4, atol=1e-4)
    assert np.abs(parts["displacement"]).max() > 0.1


@pytest.mark.parametrize("steps", [0, 5])
def test_displacement_is_the_integrated_velocity_in_fine_voxels(z, steps):
    parts = disturbed(integration_steps=steps).decode_parts(z)
    expected = upsample_displacement(integrate_velocity(parts["velocity"], steps), SIDES)
    np.testing.assert_allclose(parts["displacement"], expected, atol=1e-5)
    if steps == 0:
        np.testing.assert_allclose(parts["displacement"], upsample_displacement(parts["velocity"], SIDES), atol=1e-5)


def test_a_bias_of_the_velocity_moves_the_template_whole(z):
    model, template = morph(), np.random.default_rng(0).uniform(size=SIDES).astype("float32")
    model.start_at_mean(template)
    model.to_fields.bias.assign([2 * 3 / 9, 0, 0, 0, 0])  # Two voxels along x, in coarse voxels of 9 / 3.
    moved = model.decode(z)[0, ..., 0].numpy()
    np.testing.assert_allclose(moved[:7], template[2:], atol=1e-5)


def test_shading_is_no_finer_than_its_spacing_and_movement_as_before(z):
    plain, coarse = disturbed(field_spacing=2), disturbed(field_spacing=2, shading_spacing=4)
    coarse.set_weights(plain.get_weights())
    (velocity, shading), (same, coarser) = plain.fields(z), coarse.fields(z)
    np.testing.assert_array_equal(velocity, same)
    assert shading.shape == (2, 5, 4, 4, 2) and coarser.shape == (2, 3, 2, 2, 2)
    np.testing.assert_allclose(coarser, coarsen(shading, (3, 2, 2)), atol=1e-6)
    parts = coarse.decode_parts(z)
    np.testing.assert_allclose(parts["offset"], upsample(coarser, SIDES)[..., 1:], atol=1e-6)
    assert np.abs(parts["offset"] - plain.decode_parts(z)["offset"]).max() > 1e-3
    assert coarse.get_config()["shading_spacing"] == 4 and plain.get_config()["shading_spacing"] is None


def test_shading_finer_than_movement_is_refused():
    with pytest.raises(ValueError, match="shading_spacing: got 2, expected at least field_spacing, 4"):
        morph(shading_spacing=2)
    with pytest.raises(RecipeError, match="got shading_spacing: 2 with field_spacing: 4, expected at least that"):
        load_recipe("morph", ["model.shading_spacing=2"])


def test_gain_stays_positive_and_finite(z):
    model = morph()
    for bias, low, high in ((100.0, 100, 300), (-100.0, 1e-3, 0.1), (0.1, 1.1, 1.11), (1e10, 1e9, 1e12)):
        model.to_fields.bias.assign([0, 0, 0, bias, 0])
        gain = model.decode_parts(z)["gain"].numpy()
        assert low < gain.min() <= gain.max() < high


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_the_loss_adds_half_the_weighted_bending_and_the_elbo_does_not(volumes, weight):
    model = disturbed(velocity_smoothness=weight)
    outputs = model(volumes)
    loss = model.compute_loss(x=volumes, y_pred=outputs, training=False)
    terms = {name: float(tracker.result()) for name, tracker in model.reported.items()}
    bent = bending(outputs["velocity"]).numpy().mean()
    assert bent > 1e-3
    assert terms["smoothness_nats"] == pytest.approx(0.5 * weight * bent, rel=1e-5)
    plain = VariationalAutoencoder.compute_loss(model, volumes, None, outputs, training=False)
    assert float(loss) == pytest.approx(float(plain) + terms["smoothness_nats"], rel=1e-5)
    assert terms["elbo_nats"] == pytest.approx(-(terms["nll_nats"] + terms["kl_nats"]), rel=1e-5)


def test_a_learned_weight_settles_where_the_velocities_are_likeliest(volumes):
    """The gradient vanishes where the weight is the number of directions that bend over the bending."""
    model = disturbed(velocity_smoothness="learned", field_spacing=2)
    num_bending = 3 * int(np.prod(model.field_sides)) - 12
    outputs = model(volumes)
    bent = float(bending(outputs["velocity"]).numpy().mean())

    def slope(weight):
        model.log_smoothness.assign(np.log(weight))
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=volumes, y_pred=outputs, training=False)
        return float(tape.gradient(loss, model.log_smoothness.value))

    best = num_bending / bent
    assert slope(best) == pytest.approx(0.0, abs=1e-3 * num_bending)
    assert slope(0.5 * best) == pytest.approx(-0.25 * num_bending, rel=1e-3)
    assert float(model.smoothness_weight) == pytest.approx(0.5 * best, rel=1e-5)
    assert model.get_config()["velocity_smoothness"] == "learned"


def test_an_affine_part_is_all_that_is_affine_in_the_velocity(z):
    model = disturbed(affine=True, field_spacing=2)
    basis = affine_basis(model.field_sides)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-6)
    points = basis.shape[0]
    given = np.reshape(model.to_affine(z), (2, 4, 3)) * points**0.5
    velocity = np.reshape(model.fields(z)[0], (2, points, 3))
    assert np.abs(given).max() > 0.1
    np.testing.assert_allclose(np.einsum("pa,bpc->bac", basis, velocity), given, atol=1e-4)
    # The rest of it is the grid's own, which the other part neither sees nor changes.
    model.to_affine.set_weights([0.0 * weight for weight in model.to_affine.get_weights()])
    shape = np.reshape(model.fields(z)[0], (2, points, 3))
    np.testing.assert_allclose(velocity - basis @ given, shape, atol=1e-4)
    assert np.abs(shape).max() > 0.01
    bent = [bending(np.reshape(field, (2, *model.field_sides, 3))).numpy() for field in (velocity, shape)]
    np.testing.assert_allclose(*bent, rtol=1e-3)


def test_linear_fields_are_added_to_those_of_the_convolutions(z):
    model = disturbed(linear_fields=True, field_spacing=2)
    fields = np.concatenate(model.fields(z), axis=-1)
    modes = np.reshape(model.to_modes(z), fields.shape)
    assert np.abs(modes).max() > 0.01
    np.testing.assert_allclose(np.reshape(model.to_modes(-2.0 * z), fields.shape), -2.0 * modes, atol=1e-5)
    model.to_modes.set_weights([0.0 * weight for weight in model.to_modes.get_weights()])
    without = np.concatenate(model.fields(z), axis=-1)
    assert np.abs(without).max() > 0.01
    np.testing.assert_allclose(fields - without, modes, atol=1e-5)


def test_modes_of_appearance_are_added_to_the_template_before_it_is_moved(z):
    model = disturbed(appearance_modes=2, field_spacing=2)
    parts, amounts = model.decode_parts(z), model.amounts(z).numpy()
    np.testing.assert_allclose(model.amounts(-2.0 * z), -2.0 * amounts, rtol=1e-5)
    image, modes = model.mean.image.numpy()[..., 0], model.mean.modes.numpy()
    assert np.abs(modes).max() > 0.01
    for n in range(2):
        places = np.moveaxis(parts["displacement"][n].numpy() + np.stack(np.indices(SIDES), axis=-1), -1, 0)
        moved = map_coordinates((image + modes @ amounts[n]).astype(float), places, order=1, mode="nearest")
        expected = moved * parts["gain"][n, ..., 0] + parts["offset"][n, ..., 0]
        np.testing.assert_allclose(parts["reconstruction"][n, ..., 0], expected, atol=1e-4)
    plain = model.render(*model.fields(z))["reconstruction"]
    assert np.abs(parts["reconstruction"] - plain).max() > 1e-3


def test_modes_of_appearance_start_to_learn_at_once(volumes):
    model = morph(appearance_modes=2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model.decode(model.encode(volumes)) - volumes))
    assert np.abs(tape.gradient(loss, model.mean.modes.value)).max() > 0
    np.testing.assert_array_equal(model.mean.modes, 0.0)


def test_detail_is_added_and_costs_its_penalty(volumes):
    model = disturbed(detail_penalty=3.0)
    outputs = model(volumes)
    moved = model.render(*model.fields(outputs["z"]))["reconstruction"]
    assert np.abs(outputs["detail"]).max() > 1e-3
    np.testing.assert_allclose(outputs["reconstruction"], moved + outputs["detail"], atol=1e-5)
    model.compute_loss(x=volumes, y_pred=outputs, training=False)
    expected = 1.5 * np.square(outputs["detail"]).sum(axis=(1, 2, 3, 4)).mean()
    assert float(model.reported["detail_nats"].result()) == pytest.approx(expected, rel=1e-5)


def test_a_moved_head_is_found_by_moving_the_template():
    sides = (24, 20, 22)
    grid = np.stack(np.indices(sides), axis=-1) - (np.array(sides) - 1) / 2
    heads = [1 / (1 + np.exp(np.linalg.norm((grid - shift) / (7, 6, 5), axis=-1) * 6 - 6)) for shift in ([2, 0, 0], 0)]
    volumes = np.stack(heads)[..., None].astype("float32")
    model = morph(sides, decoder_sigma=0.1)
    model.start_at_mean(heads[1].astype("float32"))
    z = tf.constant([[3.0, 0, 0], [-3.0, 0, 0]])
    layers = (model.expand, model.velocity_block, model.to_fields)
    weights = [weight for layer in layers for weight in layer.trainable_weights]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            parts = model.decode_parts(z, training=True)
            # Without shading.
            error = tf.reduce_sum(tf.square(volumes - model.mean(parts["displacement"])))
            loss = error + 0.01 * tf.reduce_sum(bending(parts["velocity"]))
        values = [weight.value for weight in weights]
        gradients = tape.gradient(loss, values, unconnected_gradients="zero")
        for value, gradient in zip(weights, gradients, strict=True):
            value.assign_sub(0.02 * gradient / (tf.norm(gradient) + 1e-6))
        return error, parts["displacement"]

    first, _ = step()
    for _ in range(80):
        last, displacement = step()
    assert last < 0.3 * first
    inside = np.linalg.norm(grid / (7, 6, 5), axis=-1) < 1.2
    assert displacement[0].numpy()[inside].mean(axis=0) == pytest.approx([-2, 0, 0], abs=0.7)
    assert jacobian_determinant(displacement).numpy().min() > 0


def test_a_morphing_model_without_its_template_is_refused():
    with pytest.raises(ValueError, match="mean_image: got False, expected True"):
        morph(mean_image=False)
