"""Objectives that are of all people: a model keeps what its loss has to know of those of the batches before."""

import h5py
import numpy as np
import pytest

from mrigen.models import VariationalAutoencoder

SHAPE = (7, 8, 9)


def make(objective, **options):
    return VariationalAutoencoder(SHAPE, latent_dim=3, channels=(2,), objective=objective, **options)


@pytest.fixture
def volumes():
    return np.random.default_rng(0).uniform(size=(12, *SHAPE, 1)).astype("float32")


@pytest.mark.parametrize(
    ("objective", "options"), [("tc", {}), ("mmd", {"num_draws": 2}), ("mmd", {"condition_size": 2})]
)
def test_a_fit_keeps_people_and_goes_on_with_them(objective, options, volumes, tmp_path):
    model, data = make(objective, **options), volumes
    if "condition_size" in options:
        data = {"volumes": volumes, "condition": np.random.default_rng(1).normal(size=(12, 2)).astype("float32")}
    model.compile("adam")
    history = model.fit(data, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    is_kept = model.memory.is_kept.numpy()[:, 0]
    # Each step keeps its people once, however many draws they have; what is kept is theirs.
    assert is_kept.sum() == 24 and is_kept[:24].all()
    name = model.objective.kept[0]
    assert (model.memory.kept[name].numpy()[:24] != 0.0).all() and not model.memory.kept[name].numpy()[24:].any()
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    again = make(objective, **options)
    again.build((None, *SHAPE, 1))
    again.load_weights(path)
    np.testing.assert_array_equal(again.memory.is_kept, model.memory.is_kept)
    # Runs that were fitted before there was a memory have none, and are read all the same.
    with h5py.File(path, "a") as file:
        parts = []
        file.visit(lambda name: parts.append(name) if name.endswith("memory") else None)
        assert len(parts) == 1
        del file[parts[0]]
    older = make(objective, **options)
    older.build((None, *SHAPE, 1))
    older.load_weights(path)
    assert not older.memory.is_kept.numpy().any()
    np.testing.assert_allclose(older.encode(volumes[:2]), model.encode(volumes[:2]), rtol=1e-5)


def test_other_objectives_keep_nobody():
    assert all(make(objective).memory is None for objective in ("elbo", "paper", "capacity"))


def test_of_many_latent_variables_fewer_people_are_kept():
    rows = [
        VariationalAutoencoder(SHAPE, latent_dim=size, channels=(2,), objective="tc").memory.rows for size in (64, 8192)
    ]
    assert rows == [512, 128]
