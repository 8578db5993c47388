"""Fields whose integral, composition, Jacobian or spline is known."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from mrigen.layers import (
    bending,
    coarsen,
    compose_displacements,
    integrate_velocity,
    jacobian_determinant,
    upsample,
    upsample_displacement,
    warp,
)
from mrigen.layers.fields import spline_matrix

SIDES = [(9, 8, 7), (29, 35, 29), (4, 1, 2)]
any_sides = pytest.mark.parametrize("sides", SIDES, ids=str)
MATRIX = np.array([[0.1, -0.2, 0.05], [0.3, 0.2, -0.1], [0.0, 0.15, -0.3]])


def points(sides):
    """Returns the voxel indices of a grid, (*sides, 3)."""
    return np.stack(np.indices(sides), axis=-1).astype(float)


def affine(sides, matrix=MATRIX, offset=(1.0, -2.0, 0.5)):
    """Returns the displacement p -> matrix @ p + offset, (1, *sides, 3) float32."""
    return (points(sides) @ matrix.T + offset)[None].astype("float32")


def smooth(sides, strength, seed=0, width=2.0, batch=2):
    """Returns a smooth random field of the given largest length that vanishes at the edge."""
    generator = np.random.default_rng(seed)
    field = gaussian_filter(generator.normal(size=(batch, *sides, 3)), (0, width, width, width, 0))
    for axis, side in enumerate(sides, start=1):
        window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
        field *= window.reshape([-1 if n == axis else 1 for n in range(5)])
    return (strength * field / np.abs(field).max()).astype("float32")


@any_sides
def test_a_constant_velocity_is_a_translation(sides):
    velocity = np.broadcast_to(np.float32([1.5, -2.25, 0.5]), (2, *sides, 3))
    np.testing.assert_allclose(integrate_velocity(velocity), velocity, rtol=1e-6)


def test_a_linear_velocity_integrates_to_the_matrix_exponential():
    from scipy.linalg import expm

    sides, matrix = (21, 19, 17), 0.2 * MATRIX
    middle = (np.array(sides) - 1) / 2
    displacement = integrate_velocity(affine(sides, matrix, -matrix @ middle), steps=7)[0]
    expected = (points(sides) - middle) @ (expm(matrix) - np.eye(3)).T
    inner = (slice(3, -3),) * 3  # What comes in over the edge is clamped.
    np.testing.assert_allclose(displacement[inner], expected[inner], atol=2e-3)


def test_integration_equals_many_small_steps():
    sides = (20, 22, 18)
    velocity = smooth(sides, 2.0, width=4.0, batch=1)
    places = points(sides)
    for _ in range(200):
        at = np.moveaxis(places, -1, 0)
        moves = [map_coordinates(v.astype(float), at, order=1, mode="nearest") for v in np.moveaxis(velocity[0], -1, 0)]
        places += np.stack(moves, axis=-1) / 200
    displacement = integrate_velocity(velocity, steps=7)[0]
    np.testing.assert_allclose(displacement, places - points(sides), atol=0.05)
    assert np.abs(displacement - velocity).max() > 0.2


def test_the_negative_velocity_is_the_inverse():
    velocity = smooth((20, 22, 18), 1.5, width=3.0)
    there, back = integrate_velocity(velocity), integrate_velocity(-velocity)
    assert np.abs(there).max() > 1.0
    np.testing.assert_allclose(compose_displacements(there, back), np.zeros_like(there), atol=0.06)


def test_twice_the_velocity_is_the_map_applied_twice():
    velocity = smooth((12, 14, 12), 1.0)
    once = integrate_velocity(velocity, steps=6)
    np.testing.assert_allclose(integrate_velocity(2 * velocity, steps=7), compose_displacements(once, once), atol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_an_integrated_smooth_velocity_has_no_folds(strength):
    displacement = integrate_velocity(smooth((20, 22, 18), strength, width=3.0), steps=7)
    assert jacobian_determinant(displacement).numpy().min() > 0
    fine = upsample_displacement(displacement, (80, 87, 71))
    assert jacobian_determinant(fine).numpy().min() > 0


def test_integration_is_differentiable():
    velocity, weigh = tf.constant(smooth((7, 8, 9), 1.0)), np.random.default_rng(5).normal(size=(2, 7, 8, 9, 3))
    change = np.random.default_rng(6).normal(size=velocity.shape)
    with tf.GradientTape() as tape:
        tape.watch(velocity)
        total = tf.reduce_sum(integrate_velocity(velocity) * weigh.astype("float32"))
    slope = np.sum(tape.gradient(total, velocity) * change)
    ends = [np.sum(integrate_velocity(velocity + sign * 1e-3 * change.astype("f4")) * weigh) for sign in (-1, 1)]
    assert slope == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=0.02)


def test_composition_adds_translations():
    one, other = (np.broadcast_to(np.float32(shift), (1, 9, 8, 7, 3)) for shift in ((1.5, 0, -1), (-0.25, 2, 3)))
    np.testing.assert_array_equal(compose_displacements(one, other), one + other)


def test_composition_applies_the_inner_map_first():
    sides, first, second = (9, 8, 7), 0.1 * MATRIX, 0.1 * MATRIX.T
    composed = compose_displacements(affine(sides, first, [0, 0, 0]), affine(sides, second, [0, 0, 0]))[0]
    expected = points(sides) @ ((np.eye(3) + first) @ (np.eye(3) + second) - np.eye(3)).T
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(composed[inner], expected[inner], atol=1e-5)


def test_warping_twice_is_warping_by_the_composition():
    outer, inner = smooth((29, 35, 29), 2.0, seed=1), smooth((29, 35, 29), 1.5, seed=2)
    volumes = smooth((29, 35, 29), 1.0, seed=3, width=4.0)[..., :1]
    twice = warp(warp(volumes, outer), inner)
    once = warp(volumes, compose_displacements(outer, inner))
    np.testing.assert_allclose(twice, once, atol=0.03)
    assert np.abs(once - warp(volumes, compose_displacements(inner, outer))).max() > 0.05


@pytest.mark.parametrize("sides", SIDES[:2], ids=str)
def test_jacobian_of_a_linear_map_is_its_determinant_up_to_the_edges(sides):
    expected = np.linalg.det(np.eye(3) + MATRIX)
    np.testing.assert_allclose(jacobian_determinant(affine(sides)), np.full((1, *sides), expected), rtol=1e-4)


def test_jacobian_equals_numpy_gradients():
    field = smooth((9, 8, 7), 2.0)
    matrices = np.stack([np.stack(np.gradient(field[..., row], axis=(1, 2, 3)), -1) for row in range(3)], axis=-2)
    np.testing.assert_allclose(jacobian_determinant(field), np.linalg.det(np.eye(3) + matrices), atol=1e-5)


def test_jacobian_knows_a_fold_and_a_flat_axis():
    flip = affine((9, 8, 7), np.diag([-2.0, 0.0, 0.0]))
    np.testing.assert_allclose(jacobian_determinant(flip), -np.ones((1, 9, 8, 7)), rtol=1e-5)
    np.testing.assert_array_equal(jacobian_determinant(np.ones((1, 4, 1, 2, 3), "float32")), np.ones((1, 4, 1, 2)))


def test_bending_of_an_affine_map_is_nothing():
    np.testing.assert_allclose(bending(affine((9, 8, 7))), [0.0], atol=1e-6)


def test_bending_equals_the_sum_of_squared_second_differences():
    x, y, z = np.indices((9, 8, 7)).astype("float32")
    for values, second, terms in (
        (x**2, 2, 7 * 8 * 7),
        (3 * z**2, 6, 9 * 8 * 5),
        (2 * x * y, 2, 2 * 8 * 7 * 7),
        (y * z, 1, 2 * 9 * 7 * 6),
    ):
        np.testing.assert_allclose(bending(values[None, ..., None]), [second**2 * terms], rtol=1e-5)


@pytest.mark.parametrize("coarse, fine", [((3, 2, 2), (9, 8, 7)), ((8, 9, 8), (29, 35, 29)), ((9, 8, 7), (4, 8, 3))])
def test_upsampling_keeps_linear_functions_up_to_the_edges(coarse, fine):
    values = affine(coarse)
    places = (points(fine) + 0.5) * np.array(coarse) / np.array(fine) - 0.5
    np.testing.assert_allclose(upsample(values, fine)[0], places @ MATRIX.T + (1.0, -2.0, 0.5), atol=1e-5)


@any_sides
def test_upsampling_keeps_a_constant(sides):
    fine = tuple(4 * side - 1 for side in sides)
    np.testing.assert_allclose(upsample(np.full((2, *sides, 2), 0.7), fine), np.full((2, *fine, 2), 0.7), rtol=1e-5)


def test_upsampling_equals_a_spline_of_scipy_inside():
    control = np.random.default_rng(0).normal(size=10)
    places = (np.arange(40) + 0.5) / 4 - 0.5
    inside = (places >= 1) & (places <= 8)
    expected = BSpline(np.arange(-2, 12), control, 3)(places[inside])
    np.testing.assert_allclose((spline_matrix(10, 40) @ control)[inside], expected, atol=1e-5)


def test_upsampling_goes_along_each_axis_alone_and_mixes_no_channels():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)).astype("float32")
    along = [spline_matrix(m, n) for m, n in zip((3, 4, 5), (11, 13, 17), strict=True)]
    expected = np.einsum("Xx,Yy,Zz,bxyzc->bXYZc", *along, values)
    np.testing.assert_allclose(upsample(values, (11, 13, 17)), expected, atol=1e-5)


def test_coarsening_gives_back_a_spline_of_that_grid_and_linear_functions():
    coarse = np.random.default_rng(0).normal(size=(2, 3, 2, 4, 2)).astype("float32")
    finer = np.random.default_rng(1).normal(size=(1, 9, 8, 7, 3)).astype("float32")
    # Control points of the fine grid that show about the coarse spline: linear ones show it exactly.
    np.testing.assert_allclose(coarsen(affine((9, 8, 7)), (3, 2, 1))[0, :, :, 0].shape, (3, 2, 3))
    places = (points((3, 4, 2)) + 0.5) * np.array((9, 8, 7)) / np.array((3, 4, 2)) - 0.5
    np.testing.assert_allclose(
        coarsen(affine((9, 8, 7)), (3, 4, 2))[0], places @ MATRIX.T + (1.0, -2.0, 0.5), atol=1e-4
    )
    np.testing.assert_allclose(coarsen(coarse, (3, 2, 4)), coarse, atol=1e-5)
    once = coarsen(finer, (3, 4, 2))
    # The nearest spline: what is left of the fine one is orthogonal to every coarse one.
    sides = (72, 64, 56)
    left = upsample(finer, sides) - upsample(once, sides)
    other = upsample(np.random.default_rng(2).normal(size=(1, 3, 4, 2, 3)).astype("float32"), sides)
    cosine = np.sum(left * other) / np.linalg.norm(left) / np.linalg.norm(other)
    assert abs(cosine) < 1e-4


def test_a_displacement_is_counted_in_the_voxels_of_its_grid():
    coarse = np.broadcast_to(np.float32([1.0, -2.0, 3.0]), (1, 8, 9, 8, 3))
    expected = np.broadcast_to([29 / 8, -2 * 35 / 9, 3 * 29 / 8], (1, 29, 35, 29, 3))
    np.testing.assert_allclose(upsample_displacement(coarse, (29, 35, 29)), expected, rtol=1e-5)
