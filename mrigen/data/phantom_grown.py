"""Brains that are grown by procedure: nobody's is a warp of another's, so no model of one template is made for them.

Tissue is what lies on this or that side of implicit surfaces: a hull with each person's own shape; a cortex as an own
folded sheet, whose sulci are the zeros of a random field over the hull, cut to an own depth; fissures, ventricles, deep
gray matter, cerebellum and brainstem. Regions of the cortex grow from seeds through the tissue. The image is the sum of
tissue intensities by how much of a voxel each tissue holds.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from mrigen.data.phantom_anatomy import grid_points, rotation_matrix, sex_velocity_at
from mrigen.data.phantom_factors import (
    FAMILY_GROWN,
    GROWN,
    MEAN_BRAIN_VOLUME_ML,
    PhantomSettings,
    family_head,
    mix_siblings,
    stream,
)
from mrigen.data.phantom_fields import Waves, capsule, draw_waves, ellipsoid, ramp, smooth_union
from mrigen.data.phantom_regions import grow_regions

__all__ = [
    "CENTRE_MM",
    "LABELS",
    "Body",
    "average_body",
    "average_brain",
    "average_scale",
    "draw_body",
    "grow_subject",
    "head_grid",
    "label_names",
    "tissues_at",
    "wall_velocity_at",
]

# Head coordinates are those of the first family's template (MNI152, mm): effects are planted at the same places.
CEREBRUM_CENTRE_MM = (0.0, -17.0, 10.0)
CEREBRUM_LOW_MM = (69.0, 88.0, 52.0)
CEREBRUM_HIGH_MM = (69.0, 88.0, 66.0)
CEREBRUM_POWER = 2.3
CEREBELLUM_CENTRE_MM = (0.0, -66.0, -40.0)
CEREBELLUM_RADII_MM = (52.0, 31.0, 25.0)
# Of the average brain.
CENTRE_MM = (0.0, -20.6, 10.9)
HEAD_SIZE_MM = (176.0, 216.0, 192.0)

# The labels of derivatives/phantom/*/anat/*_dseg.nii.gz; the cortex has 100 + its region (left) or 200 + it (right).
LABELS = ("outside", "fluid", "white", "deep gray", "cerebellar gray", "cerebellar white", "brainstem")
CORTEX = 100

FINEST_MM = 2.7
# Primary sulci lie farther apart than secondary ones, and are deeper and wider; all relative to the person's own.
FOLD_SPACINGS = (2.1, 1.2)
FOLD_DEPTHS = (1.25, 0.9)
FOLD_WIDTHS = (1.7, 0.8)
LEAST_STEEPNESS = 0.004
# Millimetres of a head of average size for one of head coordinates.
AVERAGE_SCALE = 0.866
VENTRICLE_GROWTH_MM = 2.0
WALL_MM = 8.0
HULL_RMS_MM = 2.0
GAP_MM = 1.5
NUM_WAVES = 32


@dataclasses.dataclass(frozen=True)
class Body:
    """One person's own anatomy, in head coordinates of a brain of average size.

    Attributes:
        hull: what is added to the depth inside the hull, mm.
        folds: of the primary and the secondary sulci; their zeros over the hull are the walls in which sulci lie.
        thickness, depth: relative to the person's mean, of the cortex and of the sulci.
        wiggle: mm, of the great fissures.
        ventricles: (2,) radius of each side relative to the mean; shifts: (6, 3) mm, of the parts inside.
        seeds: (2, regions, 3) mm, where regions of the cortex begin; head_starts: (2, regions) mm.
        brightness: (2, regions), added to the signal of gray matter.
    """

    hull: Waves
    folds: tuple[Waves, ...]
    thickness: Waves
    depth: Waves
    wiggle: Waves
    ventricles: np.ndarray
    shifts: np.ndarray
    seeds: np.ndarray
    head_starts: np.ndarray
    brightness: np.ndarray


def draw_body(settings: PhantomSettings, index: int, factors: Mapping) -> Body:
    """Returns the anatomy of subject `index`; siblings share part of it.

    Args:
        factors: the row of `draw_factors`.
    """
    own = stream(settings, GROWN, index, 1)
    shared = stream(settings, FAMILY_GROWN, family_head(index), 1)

    def waves(wavelength: float, size: float = 1.0) -> Waves:
        mine, ours = (draw_waves(generator, wavelength, NUM_WAVES) for generator in (own, shared))
        return (mine.scaled(mix_siblings(1.0, 0.0)) + ours.scaled(mix_siblings(0.0, 1.0))).scaled(size)

    def normal(*shape: int) -> np.ndarray:
        mixed = mix_siblings(own.standard_normal(shape), shared.standard_normal(shape))
        return np.clip(mixed, -2.5, 2.5)

    seeds = region_seeds()
    return Body(
        hull=waves(110.0, HULL_RMS_MM),
        # Along a line, the zeros of such a field lie sqrt(3) / 2 of its wavelength apart (Rice 1945).
        folds=tuple(
            waves(part * factors["fold_spacing_mm"] / (np.sqrt(3) / 2) / AVERAGE_SCALE) for part in FOLD_SPACINGS
        ),
        thickness=waves(60.0, 0.12),
        depth=waves(60.0, 0.25),
        wiggle=waves(50.0, 1.5),
        ventricles=1 + 0.08 * normal(2),
        shifts=1.5 * normal(6, 3),
        seeds=seeds + 5.0 * normal(*seeds.shape),
        head_starts=5.0 * normal(*seeds.shape[:2]),
        brightness=0.03 * normal(*seeds.shape[:2]),
    )


def average_body() -> Body:
    """Returns the anatomy that everyone's is drawn about: a smooth hull, and a cortex without folds."""
    nothing = Waves(np.zeros((1, 3), np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    seeds = region_seeds()
    far = dataclasses.replace(nothing, weights=np.full(1, 1e3, np.float32))
    flat = np.zeros(seeds.shape[:2])
    return Body(nothing, (far, far), nothing, nothing, nothing, np.ones(2), np.zeros((6, 3)), seeds, flat, flat)


@functools.cache
def region_seeds(num_regions: int = 17) -> np.ndarray:
    """Returns the mean places (2, regions, 3) in mm from which the regions of the left and right cortex grow."""
    steps = np.arange(num_regions) + 0.5
    # Points of a golden spiral lie about evenly over a half sphere.
    x = steps / num_regions
    angle = np.pi * (1 + 5**0.5) * steps
    side = np.sqrt(1 - x**2)
    right = np.stack([x, side * np.cos(angle), side * np.sin(angle)], axis=-1) * CEREBRUM_HIGH_MM * 0.9
    centre = np.array(CEREBRUM_CENTRE_MM)
    return np.stack([right * [-1, 1, 1] + centre, right + centre])


def tissues_at(body: Body, factors: Mapping, points: np.ndarray, zooms: float, size: float) -> dict[str, np.ndarray]:
    """Returns how much of each voxel is of each tissue (the names of `LABELS`, and cortex), and is inside the `brain`.

    Args:
        factors: the row of `draw_factors`.
        points: (3, x, y, z) in head coordinates, in mm; a grid whose neighbours lie `zooms` mm apart in the head.
        zooms: mm, in the head itself.
        size: mm in the head for a mm of head coordinates.
    """
    brain, cerebrum, cerebellum, stem, gauge = _outlines(body, factors, points)
    brain, cerebrum, cerebellum, stem = (part * size for part in (brain, cerebrum, cerebellum, stem))
    x, y, z = points
    wiggle = body.wiggle(points)
    width = factors["sulcal_width_mm"] / 2

    # The folded sheet: walls over the hull, leaning inwards, open to the outside down to the sulcus's depth.
    over_hull = (points - _column(CEREBRUM_CENTRE_MM)) * (0.75 / np.maximum(gauge, 0.3) + 0.25) + _column(
        CEREBRUM_CENTRE_MM
    )
    sulcus_depth = factors["sulcal_depth_mm"] * (1 + body.depth(points))
    cortex = cerebrum
    for folds, deeper, wider in zip(body.folds, FOLD_DEPTHS, FOLD_WIDTHS, strict=True):
        values = folds(over_hull)
        steepness = np.sqrt(sum(part**2 for part in np.gradient(values, zooms)) + LEAST_STEEPNESS**2)
        sulci = np.maximum(np.abs(values) / steepness - wider * width, cerebrum - deeper * sulcus_depth)
        cortex = np.minimum(cortex, sulci)
    # Fissures that everyone has: between the hemispheres down to the callosum, and above the temporal lobes.
    core, _ = ellipsoid(points - _column((0.0, -20.0, 4.0)), (60, 42, 26), (60, 42, 26))
    cortex = np.minimum(cortex, np.maximum(np.abs(x - wiggle) * size - width - 0.4, core))
    sylvian = (z - 2.0 + 0.5 * (y + 12.0) - wiggle) / 1.118
    ends = np.maximum(cerebrum - 26.0, np.abs(y + 12.0) - 36.0)
    cortex = np.minimum(cortex, np.maximum(np.abs(sylvian) * size - width - 0.6, ends))
    cortex = np.minimum(cortex, -cerebellum - GAP_MM)

    thickness = factors["cortical_thickness_mm"] * (1 + body.thickness(points))
    hemisphere = ramp(cortex, zooms)
    inner = ramp(cortex - thickness, zooms)
    deep = inner * ramp(_deep_gray(body, points) * size, zooms)
    leaves = ramp(cerebellum, zooms)
    branches = ramp(cerebellum - 6.0 - 4.0 * np.cos((z + 0.3 * y + wiggle) * np.float32(2 * np.pi / 11.0)), zooms)
    stem = ramp(stem, zooms)
    ventricles = ramp(_ventricles(body, factors, points) * size, zooms)

    inside = ramp(brain, zooms)
    solid = inside * (1 - ventricles)
    shares = {"brainstem": solid * stem}
    left = solid - shares["brainstem"]
    shares["cerebellar white"] = left * branches
    shares["cerebellar gray"] = left * (leaves - branches)
    left = left * (1 - leaves)
    shares["deep gray"] = left * deep
    shares["white"] = left * (inner - deep)
    shares["cortex"] = left * (hemisphere - inner)
    shares["fluid"] = inside - sum(shares.values())
    return shares | {"brain": inside}


def grow_subject(
    settings: PhantomSettings, index: int, factors: Mapping, shape: tuple[int, int, int], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the undisturbed signal of one subject, the brain mask and the labels, each (x, y, z).

    Args:
        index: number of the subject, from 0.
        factors: the row of `draw_factors`.
        shape, affine: of the grid to fill, without rotation.

    Returns:
        signal float32, white matter near 1 and exactly 0 far from the brain; mask bool; labels int16, see `LABELS`.
    """
    body = draw_body(settings, index, factors)
    scale = (factors["brain_volume_true_ml"] / volume_ml(body, factors)) ** (1 / 3)
    zooms = float(affine[0, 0])
    points = _to_head(grid_points(shape, affine), factors, scale)
    box = _box_around(_outlines(body, factors, points)[0] * scale > -zooms)
    parts = int(np.ceil(zooms / FINEST_MM))
    fine = zooms / parts
    corner = affine.copy()
    corner[:3, :3] = np.eye(3) * fine
    corner[:3, 3] += [zooms * part.start for part in box] - np.full(3, (zooms - fine) / 2)
    fine_shape = tuple((part.stop - part.start) * parts for part in box)
    points = _to_head(grid_points(fine_shape, corner), factors, scale).astype(np.float32)
    shares = tissues_at(body, factors, points, fine, scale)
    regions = grow_regions(shares["cortex"] + shares["white"], points, body.seeds, body.head_starts)

    signal, mask, labels = np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, np.int16)
    signal[box] = _mean_of_blocks(_signal(shares, regions, body, factors), parts)
    mask[box] = _mean_of_blocks(shares["brain"], parts) > 0.5
    labels[box] = _labels(shares, regions, parts) * mask[box]
    return signal, mask, labels


def _signal(shares: Mapping, regions: np.ndarray, body: Body, factors: Mapping) -> np.ndarray:
    """The signal of a voxel is the sum of its tissues'."""
    gray = 0.60 + factors["gray_contrast"]
    pure = {
        "fluid": 0.13,
        "white": 1.0,
        "deep gray": gray + 0.14,
        "cerebellar gray": gray - 0.02,
        "cerebellar white": 0.96,
        "brainstem": 0.92,
    }
    gamma = factors["contrast_gamma"]
    # Regions differ a little in their myelin.
    cortex = ((gray + body.brightness.ravel()) ** gamma).astype(np.float32)[regions]
    return sum(np.float32(value**gamma) * shares[name] for name, value in pure.items()) + cortex * shares["cortex"]


def _labels(shares: Mapping, regions: np.ndarray, parts: int) -> np.ndarray:
    names = (*LABELS[1:], "cortex")
    means = np.stack([_mean_of_blocks(shares[name], parts) for name in names])
    best = means.argmax(axis=0) + 1
    middle = tuple(slice(parts // 2, None, parts) for _ in range(3))
    side, region = np.divmod(regions[middle], region_seeds().shape[1])
    return np.where(best == len(names), CORTEX * (1 + side) + 1 + region, best).astype(np.int16)


def volume_ml(body: Body, factors: Mapping, zooms: float = 4.0) -> float:
    """Returns the volume in ml of the brain in head coordinates, before its size is set."""
    points = grid_points(*head_grid(zooms))
    return float(ramp(_outlines(body, factors, points)[0], zooms).sum(dtype=np.float64)) * zooms**3 / 1000


def head_grid(zooms: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """Returns the shape and the affine (head coordinates, mm) of a grid of `zooms` mm over the largest brain."""
    shape = tuple(int(np.ceil(length / zooms)) for length in HEAD_SIZE_MM)
    affine = np.diag([float(zooms)] * 3 + [1.0])
    affine[:3, 3] = np.array(CENTRE_MM) - zooms * (np.array(shape) - 1) / 2
    return shape, affine


def average_brain(factors: Mapping, points: np.ndarray, zooms: float, size: float = 1.0):
    """Returns the brain that everyone's is drawn about, without folds: signal (x, y, z) and mask (x, y, z).

    Args:
        factors: of a typical person, see `typical_factors`.
        points: (3, x, y, z) in head coordinates, in mm; a grid whose neighbours lie `zooms` mm apart in the head.
        zooms, size: as in `tissues_at`.
    """
    body = average_body()
    shares = tissues_at(body, factors, points, zooms, size)
    return _signal(shares, np.zeros(points.shape[1:], int), body, factors), shares["brain"] > 0.5


def average_scale(factors: Mapping) -> float:
    """Returns mm in an average head for a mm of head coordinates."""
    return (MEAN_BRAIN_VOLUME_ML / volume_ml(average_body(), factors)) ** (1 / 3)


def wall_velocity_at(factors: Mapping, points: np.ndarray) -> np.ndarray:
    """Returns how far (3, x, y, z) in mm one unit of `ventricle_expansion` moves the walls of the average ventricles.

    What lies farther than `WALL_MM` from a wall does not move, and has 0.

    Args:
        points: (3, x, y, z), a grid in head coordinates, in mm.
    """
    depth = _ventricles(average_body(), factors, points)
    zooms = float(points[0, 1, 0, 0] - points[0, 0, 0, 0])
    outwards = -np.stack(np.gradient(depth, zooms))
    near = np.clip(1 - (depth / WALL_MM) ** 2, 0, None)
    return VENTRICLE_GROWTH_MM * near * outwards / np.maximum(np.linalg.norm(outwards, axis=0), 1e-6)


def label_names() -> dict[int, str]:
    """Returns the name of each label of a grown brain."""
    regions = range(1, region_seeds().shape[1] + 1)
    cortex = {
        CORTEX * side + region: f"{name} cortex {region}"
        for side, name in ((1, "left"), (2, "right"))
        for region in regions
    }
    return dict(enumerate(LABELS)) | cortex


def _outlines(body: Body, factors: Mapping, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the depths in mm inside brain, cerebrum, cerebellum and brainstem, and the cerebrum's gauge."""
    points = np.asarray(points, np.float32)
    # The sex difference moves the hull outwards here and inwards there; what lies deep stays where it is.
    pushed = points - np.float32(factors["sex_shape"]) * sex_velocity_at(points).astype(np.float32)
    own = body.hull(points)
    cerebrum, gauge = ellipsoid(pushed - _column(CEREBRUM_CENTRE_MM), CEREBRUM_LOW_MM, CEREBRUM_HIGH_MM, CEREBRUM_POWER)
    cerebrum = cerebrum + own
    radii = CEREBELLUM_RADII_MM
    cerebellum = ellipsoid(pushed - _column(CEREBELLUM_CENTRE_MM), radii, radii)[0] + 0.5 * own
    stem = capsule(points, (0, -24, -8), (0, -36, -66), 12.0)
    brain = smooth_union(smooth_union(cerebrum, cerebellum, 8.0), stem, 8.0)
    return brain, cerebrum, cerebellum, stem, gauge


def _deep_gray(body: Body, points: np.ndarray) -> np.ndarray:
    """Depth in mm inside thalamus, lentiform nucleus and caudate head."""
    x, y, z = points
    # One shape serves both sides: the coordinate across is measured from the middle.
    folded = np.stack([np.abs(x), y, z])
    nuclei = (((12, -18, 8), (9, 15, 9)), ((26, 0, 0), (7, 19, 11)), ((13, 16, 6), (5, 11, 11)))
    parts = [
        ellipsoid(folded - _column(np.add(middle, shift)), radii, radii)[0]
        for (middle, radii), shift in zip(nuclei, body.shifts[:3], strict=True)
    ]
    return np.max(parts, axis=0)


def _ventricles(body: Body, factors: Mapping, points: np.ndarray) -> np.ndarray:
    """Depth in mm inside the lateral ventricles (front, body, back and lower horn) and the third."""
    x, y, z = points
    folded = np.stack([np.abs(x), y, z])
    places = np.array([(9, 28, 4), (15, -12, 20), (25, -42, 12), (26, -62, 4), (33, -20, -14)], float)
    places[:3] += body.shifts[3:]
    swelling = VENTRICLE_GROWTH_MM * factors["ventricle_expansion"]
    radius = np.float32(5.0 + swelling) * np.where(x < 0, *body.ventricles.astype(np.float32))
    front, middle, back, occipital, temporal = places
    horns = [
        capsule(folded, front, middle, radius),
        capsule(folded, middle, back, radius),
        capsule(folded, back, occipital, 0.6 * radius),
        capsule(folded, back, temporal, 0.5 * radius),
    ]
    third = capsule(folded / _column((1, 4, 4)), (0, -6, 0.5), (0, -2, 0.5), 1.6 + swelling / 4)
    return np.max([*horns, third], axis=0)


def _to_head(points: np.ndarray, factors: Mapping, scale: float) -> np.ndarray:
    """Returns the head coordinates (3, ...) of world coordinates: without pose, size and proportions."""
    width, height = factors["head_width"], factors["head_height"]
    stretch = scale * np.exp([width, -(width + height), height])
    turn = rotation_matrix([factors["rotation_x"], factors["rotation_y"], factors["rotation_z"]])
    shift = np.array([factors["shift_x"], factors["shift_y"], factors["shift_z"]])
    flat = turn.T @ (points.reshape(3, -1) - shift[:, None])
    return (flat / stretch[:, None] + np.array(CENTRE_MM)[:, None]).reshape(points.shape)


def _box_around(inside: np.ndarray) -> tuple[slice, ...]:
    ranges = [np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    return tuple(
        slice(max(0, places[0] - 1), min(size, places[-1] + 2))
        for places, size in zip(ranges, inside.shape, strict=True)
    )


def _mean_of_blocks(array: np.ndarray, parts: int) -> np.ndarray:
    x, y, z = (size // parts for size in array.shape)
    return array.reshape(x, parts, y, parts, z, parts).mean(axis=(1, 3, 5))


def _column(values) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(3, 1, 1, 1)
