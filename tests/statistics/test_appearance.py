"""The active appearance model against people of whom it is known how they were made."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import multivariate_normal

from mrigen.errors import UsageError
from mrigen.statistics import appearance, registration
from mrigen.statistics.appearance import AppearanceModel, fit_appearance
from mrigen.statistics.pca import PCAModel, fit_pca

SIDES = (14, 16, 12)
INSIDE = np.ones(np.prod(SIDES), bool)


def head(generator, moves=1.0, shade=0.1):
    """One head: a fixed soft ball with a bright core, stretched and moved at random, a little brighter or darker."""
    places = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2 for side in SIDES], indexing="ij"), axis=-1)
    shift, size = generator.uniform(-moves, moves, 3), 1.0 + 0.1 * generator.uniform(-1, 1, 3) * (moves > 0)
    places = (places - shift) * size
    radius = np.sqrt(((places / [0.9, 1.2, 0.8]) ** 2).sum(axis=-1))
    volume = 1 / (1 + np.exp(2 * (radius - 4.5))) - 0.5 / (1 + np.exp(3 * (radius - 2.0)))
    gain = 1.0 + shade * generator.uniform(-1, 1)
    return (gain * volume + 0.01 * generator.normal(size=SIDES)).astype(np.float32)


@pytest.fixture(scope="module")
def people():
    generator = np.random.default_rng(0)
    return np.stack([head(generator) for _ in range(24)]), np.stack([head(generator) for _ in range(6)])


@pytest.fixture(scope="module")
def model(people):
    return fit_appearance(people[0], 8, zooms=(8.0, 8.0, 8.0))


def test_heads_that_were_moved_are_told_better_than_by_pca(people, model):
    train, others = people
    pca = fit_pca(train.reshape(len(train), -1), 8)
    flat = others.reshape(len(others), -1)
    of_pca = np.square(flat - pca.reconstruct(flat)).mean()
    found = model.calibrated(others, INSIDE).infer(others, INSIDE)
    assert model.num_numbers == 8
    assert found["squared_error"].mean() < 0.75 * of_pca
    assert found["elbo_nats"].mean() > pca.calibrated(flat).log_likelihood(flat).mean()


def test_a_person_that_the_model_made_is_found_again(model):
    numbers = 0.5 * np.sqrt(model.variances) * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    places = appearance._Places.voxels(model, INSIDE)
    image = places.decode(numbers).reshape(SIDES)
    exact = AppearanceModel(model.template, model.textures, model.shapes, model.lattice, 1e-6)
    found = exact.infer(image[None], INSIDE)
    assert found["squared_error"][0] < 1e-5
    np.testing.assert_allclose(found["numbers"][0][:2], numbers[:2], rtol=0.1)


def test_without_moves_the_bound_is_the_likelihood():
    # What does not move is linear and Gaussian: the bound is then exact, up to its draws.
    generator = np.random.default_rng(1)
    sides, num_voxels = (3, 4, 2), 24
    basis = np.linalg.qr(generator.normal(size=(num_voxels, 2)))[0].T.astype(np.float32)
    textures = PCAModel(np.zeros(num_voxels), basis, np.array([2.0, 0.5]), 0.1)
    still = PCAModel(np.zeros(24), np.zeros((1, 24), np.float32), np.array([1.0]), 0.0)
    model = AppearanceModel(generator.normal(size=sides).astype(np.float32), textures, still, (2, 2, 2), 0.1)
    volumes = model.template + 0.5 * generator.normal(size=(5, *sides)).astype(np.float32)
    covariance = (basis.T * [2.0, 0.5]) @ basis + 0.1 * np.eye(num_voxels)
    exact = multivariate_normal(model.template.ravel(), covariance).logpdf(volumes.reshape(5, -1))
    found = model.infer(volumes, np.ones(num_voxels, bool), num_draws=4000)
    np.testing.assert_allclose(found["elbo_nats"], exact, atol=0.15)


def test_only_voxels_that_count_are_scored(people, model):
    _, others = people
    inside = np.zeros(SIDES, bool)
    inside[4:10, 4:12, 3:9] = True
    spoilt = others.copy()
    spoilt[:, 0, 0, :] = 0.3
    found = [model.infer(each, inside.ravel())["drawn_error"] for each in (others, spoilt)]
    np.testing.assert_allclose(found[0], found[1], rtol=0.05)


def test_a_part_of_the_voxels_finds_nearly_what_all_find(people, model, monkeypatch):
    model = model.calibrated(people[1], INSIDE)
    every = model.infer(people[1], INSIDE)
    monkeypatch.setattr(appearance, "MOST_PLACES", 1000)
    part = model.infer(people[1], INSIDE)
    assert not np.array_equal(part["numbers"], every["numbers"])
    np.testing.assert_allclose(part["squared_error"], every["squared_error"], rtol=0.05)
    assert (part["elbo_nats"] <= every["elbo_nats"] + 1.0).all()
    np.testing.assert_allclose(part["elbo_nats"], every["elbo_nats"], rtol=0.02)


def test_registration_finds_a_known_move():
    generator = np.random.default_rng(2)
    target = head(generator, moves=0.0, shade=0.0)
    moved = ndimage.shift(target, (1.0, -0.5, 0.0), order=3, mode="nearest")
    points = registration.lattice_points(SIDES, SIDES)
    field = registration.register(moved, target, np.zeros_like(points), points, SIDES)
    near = np.linalg.norm(points - (np.array(SIDES) - 1) / 2, axis=1) < 5
    # moved(v) = target(v - shift).
    np.testing.assert_allclose(field[near].mean(axis=0), (-1.0, 0.5, 0.0), atol=0.15)


def test_moves_widen_what_is_taught(people):
    train, _ = people
    moves = np.zeros((24, 3, 4))
    moves[:, 0, 3] = np.linspace(-4, 4, 24)
    plain, wide = (fit_appearance(train[:6], 4, (8.0, 8.0, 8.0), each) for each in (None, moves))
    assert wide.shapes.eigenvalues[0] > plain.shapes.eigenvalues[0]


@pytest.mark.parametrize("people, numbers", [(2, 8), (5, 1)])
def test_too_little_to_fit_is_refused(people, numbers):
    with pytest.raises(UsageError, match="expected at least 3 and 2"):
        fit_appearance(np.zeros((people, *SIDES), np.float32), numbers)
