"""Implicit shapes and random fields in mm."""

import numpy as np
import pytest

from mrigen.data.phantom_fields import capsule, draw_waves, ellipsoid, ramp, smooth_union
from mrigen.data.phantom_regions import grow_regions


def line(*xs):
    return np.array([xs, [0.0] * len(xs), [0.0] * len(xs)])


def test_zeros_of_a_field_lie_rice_apart():
    """Along a line, the zeros of an isotropic field of one wavelength lie sqrt(3) / 2 of it apart (Rice 1945)."""
    distances = []
    for seed in range(60):
        field = draw_waves(np.random.default_rng(seed), 30.0, 64, spread=0.0)
        values = field(line(*np.arange(0, 1000, 0.5)))
        distances.append(1000 / np.count_nonzero(np.diff(np.sign(values))))
    assert np.mean(distances) == pytest.approx(30 * np.sqrt(3) / 2, rel=0.05)


def test_fields_add_and_scale():
    first, second = (draw_waves(np.random.default_rng(seed), 30.0, 20) for seed in (0, 1))
    points = np.random.default_rng(2).uniform(-50, 50, (3, 7, 8))
    np.testing.assert_allclose(
        (first.scaled(2.0) + second)(points), 2 * first(points) + second(points), rtol=1e-4, atol=1e-5
    )


def test_depths_are_distances_near_the_surface():
    depth, _ = ellipsoid(line(9.0, 10.0, -19.0, 0.1), (20, 5, 5), (10, 5, 5))
    np.testing.assert_allclose(depth[:3], [1.0, 0.0, 1.0], atol=0.01)
    np.testing.assert_allclose(capsule(line(0.0, 8.0, 11.0), (-5, 0, 0), (5, 0, 0), 4.0), [4.0, 1.0, -2.0])
    np.testing.assert_allclose(smooth_union(np.array([1.0, 0.0]), np.array([-9.0, 0.0]), 4.0), [1.0, 1.0])
    np.testing.assert_allclose(ramp(np.array([-3.0, 0.0, 0.5, 3.0]), 2.0), [0.0, 0.5, 0.75, 1.0])


def test_regions_grow_through_tissue_and_not_through_fluid_or_across_the_middle():
    points = np.stack(np.meshgrid(np.arange(-16.0, 16) + 0.5, np.arange(24.0), np.arange(8.0), indexing="ij"))
    tissue = np.ones(points.shape[1:])
    # A wall of fluid behind the first seed of the right, with a gap far from it.
    tissue[16:30, 6:8] = 0.0
    seeds = np.array([[(-8, 2, 4), (-8, 20, 4)], [(4, 2, 4), (4, 20, 4)]], float)
    regions = grow_regions(tissue, points, seeds, np.zeros((2, 2)))
    assert set(np.unique(regions[:16])) == {0, 1}
    assert set(np.unique(regions[16:])) == {2, 3}
    assert regions[20, 10, 4] == 3
    assert regions[8, 10, 4] == 0
    ahead = grow_regions(tissue, points, seeds, np.array([[0.0, 10.0], [0.0, 0.0]]))
    assert ahead[8, 10, 4] == 1
