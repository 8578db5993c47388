"""What a model has beside weights it finds itself: by `adapt`, or in plain Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mrigen.models import Autoencoder, MorphingAutoencoder, VariationalAutoencoder

SIDES = (9, 8, 7)


def people(count=10, seed=0):
    generator = np.random.default_rng(seed)
    bright = generator.uniform(0.2, 0.9, size=(count, 1, 1, 1, 1))
    return (bright * generator.uniform(0.8, 1.0, size=(1, *SIDES, 1))).astype("float32")


def make(kind=VariationalAutoencoder, **options):
    model = kind(SIDES, latent_dim=2, channels=(2, 2), **options)
    model.build((None, *SIDES, 1))
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return model


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder, MorphingAutoencoder])
def test_adapt_counts_people_and_starts_the_decoder_at_their_mean(kind):
    model, volumes = make(kind), people()
    model.adapt(tf.data.Dataset.from_tensor_slices(volumes).batch(4))
    assert model.num_people == 10
    np.testing.assert_allclose(model.training_mean, volumes.mean(axis=0)[..., 0], rtol=1e-6)
    np.testing.assert_allclose(model.decode(np.zeros((1, 2), "f4"))[0], volumes.mean(axis=0), atol=1e-6)


def test_adapt_limits_a_masked_likelihood():
    volumes = people()
    volumes[:, :3] = 0.0
    model = make(masked=True)
    model.adapt([volumes])
    assert model.num_counted == 6 * 8 * 7
    mask = np.zeros(SIDES, bool)
    mask[2:4] = True
    model.adapt([volumes], mask)
    assert model.num_counted == 2 * 8 * 7


@pytest.mark.parametrize("as_dataset", [False, True])
def test_plain_keras_refines_and_calibrates(as_dataset):
    """`compile` and `fit` alone, as somebody does who knows Keras and nothing else."""
    volumes = people()
    model = make(refinement_steps=4)
    data = tf.data.Dataset.from_tensor_slices(volumes).batch(5) if as_dataset else volumes
    model.fit(data, epochs=1, batch_size=None if as_dataset else 5, verbose=0)
    assert model.num_people == 10
    assert np.any(model.refinement.inverse)
    guess, refined = (model.posterior(volumes, refined=flag)["loc"] for flag in (False, True))
    assert np.any(np.abs(refined - guess) > 0)
    assert np.all(model.energy(volumes, refined) <= model.energy(volumes, guess) + 1e-3)


def test_plain_keras_trains_a_vamp_prior_from_the_mean():
    model, volumes = make(prior="vamp", prior_components=2), people()
    model.fit(volumes, epochs=1, batch_size=5, verbose=0)
    np.testing.assert_allclose(model.prior.image, volumes.mean(axis=0), atol=1e-6)
    assert np.isfinite(model.prior.draw(3, [0, 1])).all()


def test_a_dataset_without_end_says_what_is_lacking():
    endless = tf.data.Dataset.from_tensor_slices(people()).batch(5).repeat()
    model = make(refinement_steps=2)
    with pytest.raises(ValueError, match=r"without end.*Call adapt\(dataset\) before fit"):
        model.fit(endless, steps_per_epoch=2, verbose=0)
    model.adapt([people()])
    model.fit(endless, steps_per_epoch=2, verbose=0)
    assert not np.any(model.refinement.inverse)  # Of endless people nobody knows; adapt_inference is the caller's.
    with pytest.raises(ValueError, match="got nobody"):
        model.adapt([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "elboo"}, "objective: got 'elboo', expected one of elbo, paper, capacity, mmd, tc, iw"),
        ({"objective": "tc", "posterior": "low_rank"}, "objective: tc with posterior: low_rank, expected diagonal"),
        ({"objective": "iw"}, "objective: iw with num_draws: 1, expected at least 2"),
        ({"likelihood": "student"}, "student with decoder_sigma: optimal"),
        ({"decoder_sigma": -1.0}, "expected a number from 1e-06 to 1000"),
        ({"refinement_steps": 3, "condition_size": 2}, "refinement_steps: 3 with condition"),
        ({"free_bits": 1.0, "objective": "capacity"}, "free_bits for objective: capacity"),
        ({"num_draws": 0}, "num_draws: got 0, expected an integer from 1 to 64"),
        ({"latent_dim": 0}, "latent_dim: got 0, expected an integer >= 1"),
        ({"channels": ()}, "channels: got"),
        ({"volume_shape": (9, 8)}, "volume_shape: got"),
    ],
)
def test_what_a_recipe_refuses_the_model_refuses_in_the_same_words(options, message):
    arguments = {"volume_shape": SIDES, "latent_dim": 2, "channels": (2, 2)} | options
    with pytest.raises(ValueError, match=message):
        VariationalAutoencoder(**arguments)


def test_a_morphing_model_checks_its_own_keys():
    with pytest.raises(ValueError, match="field_spacing: got 0, expected an integer from 1 to 16"):
        make(MorphingAutoencoder, field_spacing=0)


@pytest.mark.parametrize("shape", [(2, 9, 8, 6, 1), (2, 9, 8, 7), (2, 9, 8, 7, 3)])
def test_volumes_of_another_shape_are_refused_in_our_words(shape):
    with pytest.raises(ValueError, match=r"volumes: got a shape of .*, expected \(batch, 9, 8, 7, 1\)"):
        make().encode(np.zeros(shape, "float32"))
