"""What a plan says before a fit, and that it changes nothing."""

import pytest
import tensorflow as tf

from mrigen.models import VariationalAutoencoder, build_model
from mrigen.recipe import load_recipe
from mrigen.system import machine
from mrigen.training import plan_fit, planning
from mrigen.training.planning import activation_bytes


@pytest.fixture(scope="module")
def smoke():
    return load_recipe("smoke")


def test_a_plan_measures_a_step_and_writes_nothing(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("MRIGEN_CACHE", str(tmp_path / "cache"))
    plan = plan_fit(smoke)
    assert plan.num_images == 24
    assert plan.num_train == 17
    assert plan.steps == 2  # 17 people in batches of 8
    assert plan.cache_bytes == 24 * 24 * 28 * 24
    assert plan.num_parameters == build_model(smoke.model, smoke.preprocess.volume_shape).count_params()
    assert plan.epoch_seconds == pytest.approx(2 * plan.step_seconds)
    assert plan.fit_seconds == pytest.approx(smoke.training.epochs * plan.epoch_seconds)
    assert plan.encode_seconds > 0
    assert plan.peak_bytes > plan.activation_bytes > 0
    assert plan.warnings == ()
    assert not (tmp_path / "cache").exists()


def test_without_a_cohort_the_step_is_planned_all_the_same(smoke):
    recipe = load_recipe("vae", ["preprocess.volume_shape=[12,14,12]", "model.channels=[2,2,2]"])
    plan = plan_fit(recipe)
    assert plan.num_images is plan.steps is plan.epoch_seconds is None
    assert plan.step_seconds > 0


def test_what_a_refined_encoding_takes_is_measured_with_its_steps(monkeypatch):
    options = ["preprocess.volume_shape=[12,14,12]", "model.channels=[2,2,2]", "model.refinement_steps=3"]
    decoded, energy = [], VariationalAutoencoder.energy

    def counted(model, volumes, z):
        tf.py_function(lambda: decoded.append(1), [], [])
        return energy(model, volumes, z)

    monkeypatch.setattr(VariationalAutoencoder, "energy", counted)
    assert plan_fit(load_recipe("vae", options)).encode_seconds > 0
    assert len(decoded) == 2 * (1 + 3)  # Traced and timed; the guess, and each step.


def test_a_step_that_does_not_fit_is_not_tried(smoke, monkeypatch):
    monkeypatch.setattr(planning, "available_memory", lambda: 2**20)
    monkeypatch.setattr(planning, "_measure", lambda *_: pytest.fail("tried"))
    plan = plan_fit(smoke)
    assert plan.step_seconds is plan.peak_bytes is None
    assert "memory: a step needs about" in plan.warnings[0]


def test_activations_grow_with_the_batch_and_shrink_with_patches(smoke):
    model = build_model(smoke.model, (24, 28, 24))
    one, two, four = (activation_bytes(model, batch) for batch in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)
    # The two blocks' (ReLU, normalisation) x 2, pooling and up-sampling, float32, at least.
    voxels = 24 * 28 * 24
    assert two - one > 4 * (9 * voxels * 4 + 9 * voxels * 8 / 8)
    patched = build_model(smoke.model.model_copy(update={"patch": 2}), (24, 28, 24))
    assert activation_bytes(patched, 1) < 0.3 * one


def test_available_memory_is_the_smaller_of_machine_and_control_group(monkeypatch):
    assert machine.available_memory() > 2**20
    monkeypatch.setattr(machine, "free_memory", lambda: 300)
    monkeypatch.setattr(machine, "control_group_memory", lambda: 200)
    assert machine.available_memory() == 200
    monkeypatch.setattr(machine, "control_group_memory", lambda: None)
    assert machine.available_memory() == 300
