import numpy as np
import pytest
import tensorflow as tf

from mrigen.data.pipeline import read_volumes
from mrigen.models import MorphingAutoencoder, VariationalAutoencoder, build_model
from mrigen.models.vae.refinement import FIRST_RATE, Refinement
from mrigen.recipe import parse_recipe
from mrigen.training.epochs import people_batches
from tests.battery import disturb

SIDES = (9, 8, 7)
CURVATURE = np.array([[4.0, 1.0], [1.0, 2.0]])
BEST = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)


def bowl(z, curvature=CURVATURE):
    """An energy with its minimum, of 7 nats, at the rows of `BEST`."""
    away = z - BEST[: len(z)]
    return 7.0 + 0.5 * tf.einsum("ni,ij,nj->n", away, tf.constant(curvature, tf.float32), away)


def refinement(steps, curvature=CURVATURE):
    layer = Refinement(steps)
    layer.build((None, 2))
    if curvature is not None:
        layer.learn(curvature)
    return layer


def test_a_guess_stays_until_the_curvature_is_learned():
    guess = tf.constant(BEST + 1.0)
    np.testing.assert_array_equal(refinement(5, None)(guess, energy=bowl), guess)


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_steps_lead_straight_to_the_minimum_of_a_bowl(steps):
    found = refinement(steps)(tf.constant(BEST + 1.0), energy=bowl)
    np.testing.assert_allclose(found, BEST + (1.0 - FIRST_RATE) ** steps, atol=1e-5)


def test_a_step_that_leads_up_is_taken_back_and_halved():
    """With a curvature ten times too small a step is six times too long, the next three times, and then 1.5 times."""
    found = [refinement(steps, CURVATURE / 10.0)(tf.constant(BEST + 1.0), energy=bowl) for steps in (1, 2, 3)]
    np.testing.assert_array_equal(found[0], BEST + 1.0)
    np.testing.assert_array_equal(found[1], BEST + 1.0)
    np.testing.assert_allclose(found[2], BEST - 0.5, atol=1e-5)


def test_rows_do_not_know_of_each_other():
    layer, guess = refinement(3, CURVATURE / 5.0), tf.constant(BEST + np.array([[1.0, 0.0], [-4.0, 2.0]], np.float32))
    both = layer(guess, energy=bowl)
    np.testing.assert_allclose(layer(guess[:1], energy=bowl), both[:1], atol=1e-6)


def test_an_energy_that_is_no_number_is_never_taken():
    guess = tf.constant(BEST + 1.0)
    np.testing.assert_array_equal(refinement(3)(guess, energy=lambda z: bowl(z) * np.nan), guess)
    # Where only what lies beyond is none, the better half of the way is.
    found = refinement(3)(guess, energy=lambda z: tf.where(z[:, 0] < BEST[:, 0] + 0.5, np.nan, bowl(z)))
    assert np.isfinite(found).all() and np.all(bowl(found) < bowl(guess))


def test_derivatives_of_steps_that_lead_to_the_minimum_are_its_own():
    """Wherever the steps begin, they lead to the best, which the energy is of; its curvature is a person's own."""
    layer, start, best = refinement(6, CURVATURE / 1.5), tf.constant(BEST + 1.0), tf.constant(BEST)
    with tf.GradientTape() as tape:
        tape.watch([start, best])
        found = layer(start, best, energy=lambda z, best: bowl(z - 2.0 * best + BEST))
    by_guess, by_best = tape.gradient(found, [start, best])
    np.testing.assert_allclose(by_guess, np.zeros((2, 2)), atol=1e-6)
    np.testing.assert_allclose(by_best, np.full((2, 2), 2.0), rtol=1e-3)


def test_what_steps_leave_of_the_way_is_the_derivative_of_the_guess():
    """One step of the length of the mean curvature, where a person's own is half of it, goes half of the way."""
    layer, start, best = refinement(1, CURVATURE * 2.0), tf.constant(BEST + 1.0), tf.constant(BEST)
    with tf.GradientTape() as tape:
        tape.watch([start, best])
        found = layer(start, best, energy=lambda z, best: bowl(z - best + BEST))
    for slopes in tape.gradient(found, [start, best]):
        np.testing.assert_allclose(slopes, np.full((2, 2), 0.5), rtol=1e-3)


def test_derivatives_stay_within_bounds_where_the_energy_is_no_bowl():
    layer, start = refinement(6), tf.constant(BEST)
    with tf.GradientTape() as tape:
        tape.watch(start)
        found = layer(start, energy=lambda z: -bowl(z) + 1e-3 * tf.reduce_sum(z**4, axis=-1))
    assert np.abs(tape.gradient(found, start)).max() < 10.0


def test_derivatives_are_those_of_the_guess_until_the_curvature_is_learned():
    layer, start, best = refinement(2, None), tf.constant(BEST), tf.constant(BEST)
    with tf.GradientTape() as tape:
        tape.watch([start, best])
        found = layer(start * start, best, energy=lambda z, best: bowl(z - best + BEST))
    by_guess, by_best = tape.gradient(found, [start, best])
    np.testing.assert_allclose(by_guess, 2.0 * BEST, atol=1e-6)
    np.testing.assert_array_equal(by_best, np.zeros((2, 2)))


@pytest.mark.parametrize(
    "changes, steps",
    [
        ([], 0),
        (["=auto"], 4),
        (["=7"], 7),
        (["=auto", "condition=[sex]"], 0),
        (["=auto", "latent_dim=null"], 0),
        (["=auto", "objective=paper"], 0),
    ],
)
def test_steps_of_a_recipe(changes, steps):
    overrides = [f"model.refinement_steps{text}" if text[0] == "=" else f"model.{text}" for text in changes]
    recipe = parse_recipe("", overrides=overrides).model
    assert recipe.chosen_refinement_steps == steps
    if not recipe.condition:
        assert build_model(recipe, SIDES).refinement_steps == steps


@pytest.fixture
def volumes():
    return tf.constant(np.random.default_rng(0).uniform(size=(4, *SIDES, 1)).astype("float32"))


def refined(kind, steps=10, **options):
    model = kind(SIDES, latent_dim=3, channels=(2, 4), refinement_steps=steps, **options)
    model.build((None, *SIDES, 1))
    disturb(model)
    model.likelihood.log_sigma.assign(np.log(0.3))
    model.refinement.learn(200.0 * np.eye(3))
    return model


OPTIONS = (
    (VariationalAutoencoder, {}),
    (VariationalAutoencoder, {"prior": "vamp", "prior_components": 2}),
    (VariationalAutoencoder, {"posterior": "low_rank", "posterior_rank": 2, "likelihood": "laplace"}),
    (MorphingAutoencoder, {"field_channels": 3, "detail_penalty": 5.0}),
)


@pytest.mark.parametrize("kind, options", OPTIONS, ids=lambda value: str(value)[-40:])
def test_inference_lowers_the_energy_and_training_sees_the_guess(kind, options, volumes):
    model = refined(kind, **options)
    guess, found = model.posterior(volumes, refined=False), model.posterior(volumes)
    before, after = (model.energy(volumes, each["loc"]).numpy() for each in (guess, found))
    assert np.all(after <= before) and after.mean() < before.mean() - 0.01
    np.testing.assert_array_equal(model.encode(volumes), found["loc"])
    np.testing.assert_allclose(tf.function(model.encode)(volumes), found["loc"], atol=1e-4)
    for name in set(guess) - {"loc"}:
        np.testing.assert_array_equal(guess[name], found[name])
    taught = [model.posterior(volumes, training=True, refined=refined)["loc"] for refined in (True, False)]
    np.testing.assert_array_equal(*taught)


def test_the_energy_of_a_morphing_model_is_what_training_lowers(volumes):
    model = refined(MorphingAutoencoder, field_channels=3, detail_penalty=5.0)
    outputs = model(volumes)
    model.compute_loss(x=volumes, y_pred=outputs, training=False)
    terms = {name: float(tracker.result()) for name, tracker in model.reported.items()}
    found = np.mean(model.energy(volumes, outputs["z"]) + model.prior(outputs["z"]))
    assert found == pytest.approx(terms["nll_nats"] + terms["smoothness_nats"] + terms["detail_nats"], rel=1e-5)


def test_the_curvature_is_that_of_the_decoder(finished_run):
    """Beside the identity of the prior: the mean square of the volume's derivatives, over the variance of the noise."""
    dataset = finished_run.open_dataset()
    shape = dataset.cache.volume_shape
    model = VariationalAutoencoder(shape, latent_dim=3, channels=(2, 4), refinement_steps=3)
    model.build((None, *shape, 1))
    disturb(model)
    model.adapt_inference(people_batches(dataset, "train"), people_batches(dataset, "validation"))
    rows = dataset.rows("train")
    guess = model.posterior(read_volumes(dataset.cache, rows)[..., None], refined=False)["loc"]
    steps = 0.01 * np.eye(3, dtype="float32")
    slopes = np.stack([(model.decode(guess + step) - model.decode(guess - step)) / 0.02 for step in steps], axis=-1)
    expected = np.einsum("nxyzci,nxyzcj->ij", slopes, slopes) / len(rows) / float(model.likelihood.decoder_sigma) ** 2
    found = np.linalg.inv(model.refinement.inverse.numpy().astype(float)) - np.eye(3)
    # By some dozens of random mixtures: alike in size, and in what they say of directions.
    assert 0.5 < np.trace(found) / np.trace(expected) < 2.0
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=0.15)
    assert np.linalg.eigvalsh(found).min() > -1e-3


def test_a_fit_refines_and_its_run_says_the_same_again(fit_once, finished_run):
    run = fit_once("refined", "model.refinement_steps=3", "training.precision=float32")
    assert run.metrics["heldout"]["mse"] <= finished_run.metrics["heldout"]["mse"] * 1.001
    dataset = run.open_dataset()
    volumes = read_volumes(dataset.cache, np.arange(4))[..., None]
    np.testing.assert_allclose(run.load_model().encode(volumes), run.load_latents()["loc"][:4], atol=1e-3)
