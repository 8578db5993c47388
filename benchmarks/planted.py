"""Faults as real cohorts hold them, planted into a head: `plant(kind, array, affine, generator)`."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from mrigen.imaging.volumes import zooms_of


def plant(kind: str, array: np.ndarray, affine: np.ndarray, generator: np.random.Generator):
    """Returns a spoiled image: its array (float32) and affine.

    Args:
        kind: of `KINDS`.
        array: (x, y, z), closest-canonical axes.
        affine: (4, 4).
        generator: draws how bad it is.
    """
    return KINDS[kind](array.astype(np.float32), affine, generator)


def _white(array):
    return np.percentile(array[array > 0], 98)


def _voxel_size(array, affine, generator):
    scaled = affine.copy()
    scaled[:3, :3] *= generator.choice([0.5, 0.625, 1.6])
    return array, scaled


def _upside_down(array, affine, generator):
    return (array[:, :, ::-1] if generator.random() < 0.5 else array[:, ::-1, ::-1]).copy(), affine


def _swapped_axes(array, affine, generator):
    axes = ((0, 2, 1), (2, 1, 0), (1, 0, 2))[generator.integers(3)]
    return np.ascontiguousarray(array.transpose(axes)), affine


def _cut_vertex(array, affine, generator):
    top = _top(array)
    return array[:, :, : top - int(generator.uniform(15, 35) / zooms_of(affine)[2])], affine


def _cut_cerebellum(array, affine, generator):
    first = max(0, _top(array) - int(generator.uniform(60, 100) / zooms_of(affine)[2]))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 2] * first
    return array[:, :, first:], moved


def _half_a_head(array, affine, generator):
    spoiled, axis = array.copy(), generator.integers(2)
    middle = int(array.shape[axis] * generator.uniform(0.4, 0.6))
    part = [slice(None)] * 3
    part[axis] = slice(0, middle) if generator.random() < 0.5 else slice(middle, None)
    spoiled[tuple(part)] = 0.0
    return spoiled, affine


def _top(array):
    profile = (array > 0.2 * _white(array)).sum(axis=(0, 1))
    return int(np.flatnonzero(profile > 0.005 * profile.max())[-1])


def _noise(array, affine, generator):
    """Rician."""
    sigma = generator.uniform(0.1, 0.2) * _white(array)
    real, imaginary = generator.normal(0.0, sigma, (2, *array.shape))
    return np.hypot(array + real, imaginary).astype(np.float32), affine


def _motion(array, affine, generator):
    """The head has another place in parts of the acquisition: their lines of k-space come from there."""
    zooms, axis = zooms_of(affine), int(generator.integers(2)) + 1
    spectrum = np.fft.fftn(array)
    lines = np.arange(array.shape[axis])
    for start in generator.choice(lines, 6, replace=False):
        angle, shift = generator.uniform(2.0, 6.0), generator.uniform(-6.0, 6.0, 3) / zooms
        moved = ndimage.rotate(array, angle * generator.choice([-1, 1]), (1, 2), reshape=False, order=1)
        moved = np.fft.fftn(ndimage.shift(moved, shift, order=1))
        part = [slice(None)] * 3
        part[axis] = lines[start : start + array.shape[axis] // 12]
        spectrum[tuple(part)] = moved[tuple(part)]
    return np.abs(np.fft.ifftn(spectrum)).astype(np.float32), affine


def _ghost(array, affine, generator):
    """A copy of the head, half a field of view away."""
    share, axis = generator.uniform(0.1, 0.25), int(generator.integers(2)) + 1
    return (1.0 - share) * array + share * np.roll(array, array.shape[axis] // 2, axis), affine


def _blur(array, affine, generator):
    sigma = generator.uniform(6.0, 9.0) / 2.355 / np.array(zooms_of(affine))
    return ndimage.gaussian_filter(array, sigma), affine


def _inverted(array, affine, generator):
    """As in a T2-weighted image: fluid bright, white matter dark."""
    white = np.percentile(array[array > 0], 99.5)
    head = ndimage.binary_fill_holes(array > 0.1 * white)
    return np.where(head, np.maximum(1.05 * white - array, 0.0), array).astype(np.float32), affine


def _bias(array, affine, generator):
    direction = generator.normal(size=3)
    direction /= np.linalg.norm(direction)
    zooms = np.array(zooms_of(affine))
    places = sum(
        weight * (np.arange(side) - side / 2).reshape([-1 if axis == other else 1 for other in range(3)])
        for axis, (weight, side) in enumerate(zip(direction * zooms, array.shape, strict=True))
    )
    return (array * np.exp(generator.uniform(1.1, 1.6) * places / 80.0)).astype(np.float32), affine


def _phantom(array, affine, generator):
    """A bottle of water with a few rods in it."""
    zooms = np.array(zooms_of(affine))
    x, y, z = np.meshgrid(*[(np.arange(n) - n / 2) * zoom for n, zoom in zip(array.shape, zooms, strict=True)],
                          indexing="ij")  # fmt: skip
    radius, half = generator.uniform(70, 90), generator.uniform(75, 95)
    bottle = (np.hypot(x, y) < radius) & (np.abs(z) < half)
    for angle in np.arange(6) * np.pi / 3:
        bottle &= np.hypot(x - 40 * np.cos(angle), y - 40 * np.sin(angle)) > 8
    return (bottle * 700.0 + np.abs(generator.normal(0, 15, array.shape))).astype(np.float32), affine


def _few_levels(array, affine, generator):
    white = _white(array)
    return (np.round(np.clip(array / white, 0, 1.5) * 10) / 10 * white).astype(np.float32), affine


def _wild_voxel(array, affine, generator):
    spoiled = array.copy()
    spoiled[tuple(generator.integers(0, array.shape))] = generator.choice([-32768.0, 1e6])
    return spoiled, affine


def _mirrored(array, affine, generator):
    return array[::-1].copy(), affine


def _z_scored(array, affine, generator):
    head = array > 0.2 * _white(array)
    return ((array - array[head].mean()) / array[head].std()).astype(np.float32), affine


def _other_body_part(array, affine, generator):
    """What lies below the head: the neck and shoulders as the field of view has them."""
    last = max(20, _top(array) - int(130 / zooms_of(affine)[2]))
    return array[:, :, :last], affine


def _duplicate(array, affine, generator):
    raise NotImplementedError("another person's image; see benchmarks.qc")


# The ten of the count.
TEN: dict[str, Callable] = {
    "voxel size": _voxel_size,
    "upside down": _upside_down,
    "cut vertex": _cut_vertex,
    "noise": _noise,
    "motion": _motion,
    "blur": _blur,
    "other contrast": _inverted,
    "duplicate": _duplicate,
    "bias": _bias,
    "phantom": _phantom,
}
KINDS: dict[str, Callable] = {
    **TEN,
    "swapped axes": _swapped_axes,
    "cut cerebellum": _cut_cerebellum,
    "half a head": _half_a_head,
    "ghost": _ghost,
    "few levels": _few_levels,
    "wild voxel": _wild_voxel,
    "mirrored": _mirrored,
    "z-scored": _z_scored,
    "neck": _other_body_part,
}
