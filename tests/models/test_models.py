"""What holds for every model: a decoder that sees z alone, means as latents, seeds, recipes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from battery import MODEL_CASES, SIDES, flat, halved

from mrigen.models import Autoencoder, LatentModel, build_model, families, model_recipe
from mrigen.recipe import load_recipe

every_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)


def volumes(batch=3, seed=0, sides=SIDES):
    return tf.constant(np.random.default_rng(seed).uniform(size=(batch, *sides, 1)).astype("float32"))


@every_model
def test_decoder_sees_z_alone(case):
    model = case.built()
    z = np.random.default_rng(0).normal(size=(3, model.latent_size)).astype("float32")
    before = model.decode(z)
    model(volumes(seed=1))
    model.encode(volumes(5, seed=2))
    np.testing.assert_array_equal(model.decode(z), before)


@every_model
def test_reconstruction_is_what_its_latents_decode_to(case):
    model = case.built()
    outputs = model(volumes())
    latents = outputs.get("z", outputs["loc"])
    np.testing.assert_allclose(outputs["reconstruction"], model.decode(latents), atol=1e-6)


@every_model
def test_decoding_uses_no_weight_of_the_encoder(case):
    model = case.built()
    encoder = [weight.value for block in model.encoder_blocks for weight in block.trainable_weights]
    with tf.GradientTape() as tape:
        outputs = model.decode(np.ones((2, model.latent_size), "float32"))
    assert tape.gradient(outputs, encoder) == [None] * len(encoder)


@every_model
def test_different_latents_decode_to_different_volumes(case):
    model = case.built()
    z = np.random.default_rng(0).normal(size=(2, model.latent_size)).astype("float32")
    first, second = flat(model.decode(z))[0]
    assert first.shape == (*SIDES, 1)
    assert np.abs(first - second).max() > 1e-4


@every_model
def test_encode_is_deterministic_and_independent_of_batch_companions(case):
    model = case.built()
    together = model.encode(volumes(3))
    assert together.dtype == tf.float32
    assert together.shape == (3, model.latent_size)
    np.testing.assert_array_equal(together, model.encode(volumes(3)))
    np.testing.assert_allclose(together[1:2], model.encode(volumes(3)[1:2]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together, model(volumes(3))["loc"], atol=1e-6)


@every_model
def test_one_seed_gives_one_set_of_weights(case):
    first, again, other = (case.make(SIDES, seed, "float32") for seed in (1, 1, 2))
    for model in (first, again, other):
        model.build((None, *SIDES, 1))
    for one, two, three in zip(first.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)
        if one.name == "kernel" and np.any(one):
            assert not np.array_equal(one, three), one.path


@every_model
def test_no_two_kernels_of_a_model_start_alike(case):
    model = case.make(SIDES, 0, "float32")
    model.build((None, *SIDES, 1))
    # The first value tells streams apart whatever the shapes, once the scale is divided out.
    kernels = [weight.numpy().ravel() for weight in model.weights if weight.name == "kernel" and np.any(weight)]
    starts = [kernel[:3] / np.linalg.norm(kernel[:3]) for kernel in kernels]
    alike = [(i, j) for i in range(len(starts)) for j in range(i) if np.allclose(starts[i], starts[j], atol=1e-5)]
    assert alike == []


@pytest.mark.parametrize("case", [case for case in MODEL_CASES if not case.is_told], ids=str)
def test_doubling_the_batch_leaves_the_loss_unchanged(case):
    model = case.built()
    outputs = model(volumes(), training=True)
    doubled = tf.nest.map_structure(lambda tensor: tf.concat([tensor, tensor], 0), outputs)
    once = model.compute_loss(x=volumes(), y_pred=outputs)
    twice = model.compute_loss(x=tf.concat([volumes(), volumes()], 0), y_pred=doubled)
    np.testing.assert_allclose(once, twice, rtol=1e-5)


@pytest.mark.parametrize("kind", families())
@pytest.mark.parametrize("latent_dim", [None, 3])
@pytest.mark.parametrize("blocks, channels", [(2, 2), (2, [2, 3]), (1, [4])])
def test_build_model_follows_the_recipe(kind, latent_dim, blocks, channels):
    recipe = model_recipe(kind=kind, latent_dim=latent_dim, latent_channels=5, blocks=blocks, channels=channels)
    model = build_model(recipe, SIDES, precision="mixed_bfloat16", seed=3)
    assert type(model) is families()[kind].load()
    assert model.built
    assert list(model.channels) == ([channels] * blocks if isinstance(channels, int) else channels)
    assert model.latent_size == (latent_dim or 5 * np.prod(halved(SIDES, blocks)))
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.decode(np.zeros((1, model.latent_size), "float32")).shape == (1, *SIDES, 1)


def test_every_kind_of_a_recipe_has_a_model():
    for kind, family in families().items():
        assert issubclass(family.load(), LatentModel)
        assert type(load_recipe("vae", [f"model={{kind: {kind}}}"]).model) is family.keys


@pytest.mark.parametrize("kind", families())
@pytest.mark.parametrize("latent_dim", [None, 3])
def test_odd_sides_come_back_whole(kind, latent_dim):
    recipe = model_recipe(kind=kind, latent_dim=latent_dim, blocks=3, channels=[2, 3, 2])
    model = build_model(recipe, (29, 35, 29))
    outputs = model(volumes(1, sides=(29, 35, 29)), training=True)
    assert outputs["reconstruction"].shape == (1, 29, 35, 29, 1)
    assert outputs["loc"].shape == (1, 3 if latent_dim else 16 * 4 * 5 * 4)


@pytest.mark.parametrize("kind", families())
def test_first_reconstruction_is_the_mean_image(kind):
    model = build_model(model_recipe(kind=kind, latent_dim=3, blocks=2, channels=2), SIDES)
    mean = np.random.default_rng(0).uniform(size=SIDES).astype("float32")
    model.start_at_mean(mean)
    np.testing.assert_array_equal(model(volumes(2))["reconstruction"][1, ..., 0], mean)


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_a_model_without_mean_image_starts_from_noise(kind):
    model = build_model(model_recipe(kind=kind, latent_dim=3, blocks=2, channels=2, mean_image=False), SIDES)
    model.start_at_mean(np.ones(SIDES, "float32"))
    assert model.mean is None
    assert np.any(model(volumes(2))["reconstruction"])


def test_autoencoder_loss_is_half_the_summed_squared_error():
    model = Autoencoder(SIDES, latent_dim=3, channels=(2,))
    reconstruction = volumes(seed=5)
    loss = model.compute_loss(x=volumes(), y_pred={"reconstruction": reconstruction})
    squares = (volumes().numpy().astype(float) - reconstruction.numpy()) ** 2
    np.testing.assert_allclose(loss, 0.5 * squares.sum() / 3, rtol=1e-5)
    np.testing.assert_allclose(model.reported["mse"].result(), squares.mean(), rtol=1e-5)


@every_model
def test_a_saved_model_file_loads_with_its_class(case, tmp_path):
    model = case.built()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.encode(volumes()), model.encode(volumes()))
