"""Non-rigid registration of volumes to one target: demons on a lattice, after an affine part.

References:
    Thirion 1998, Image matching as a diffusion process: an analogy with Maxwell's demons, Med. Image Anal. 2(3).
    Vercauteren et al. 2009, Diffeomorphic demons, NeuroImage 45(1) (the symmetric step that is taken here).
"""

import numpy as np
from scipy import ndimage

# Steps of the affine part, at most, and of the rest.
NUM_AFFINE_STEPS, NUM_STEPS = 10, 30
# Gaussian smoothing, in steps of the lattice: of each step's displacement, and of all of it after each.
STEP_WIDTH, FIELD_WIDTH = 0.5, 0.8
# How far heads lie from their mean, and by how much they differ from it 20 voxels from the middle: voxels.
POSE_SPREAD = 3.0
# How much a step of the demons doubts a difference that is no larger than the mean one. Validation heads of `ixi-hh`
# at 8 mm were told better with 3 (24,487 nats) than with 0.3 (24,313).
DOUBT = 3.0
# Where every voxel moves by itself, in voxels: smoothing of images, of steps, of displacements; and what is taken in
# around what counts.
REFINED_BLUR, REFINED_STEP_WIDTH, REFINED_FIELD_WIDTH, REFINED_MARGIN = 0.6, 0.7, 1.0, 3


def register(volume, target, field, points, lattice) -> np.ndarray:
    """Returns the displacements (lattice points, 3) in voxels at which `target` looks like `volume`: demons.

    Args:
        volume: (x, y, z), smoothed as `lattice_blur` says.
        target: (x, y, z), likewise: target(point + displacement) is to be volume(point).
        field: (lattice points, 3) where to begin.
        points: of `lattice_points`.
        lattice: (3,) sides of the lattice.
    """
    values, slopes = read(volume, points), np.gradient(target)
    own = np.stack([read(slope, points) for slope in np.gradient(volume)], axis=1)
    pose = np.zeros((4, 3), np.float32)
    places = np.concatenate([points - points.mean(axis=0), np.ones((len(points), 1), np.float32)], axis=1)
    places[:, :3] /= 20.0  # So that all twelve numbers are moves in voxels.
    to_pose = np.linalg.pinv(places)
    for _ in range(NUM_AFFINE_STEPS):  # The affine part first: it is what a smoothed field follows most slowly.
        here = points + field + places @ pose
        slope = np.stack([read(each, here) for each in slopes], axis=1)
        jacobian = (places[:, :, None] * slope[:, None, :]).reshape(len(points), -1)
        difference = values - read(target, here)
        weight = max(float(np.square(difference).mean()), 1e-8) / POSE_SPREAD**2
        system = jacobian.T @ jacobian + weight * np.eye(12)
        step = np.linalg.solve(system, jacobian.T @ difference - weight * pose.ravel()).reshape(4, 3)
        pose += step
        if np.abs(step).max() < 0.02:
            break
    field = field + places @ pose
    for _ in range(NUM_STEPS):
        here = points + field
        difference = values - read(target, here)
        slope = (own + np.stack([read(each, here) for each in slopes], axis=1)) / 2.0
        step = (
            slope
            * (difference / (np.square(slope).sum(axis=1) + difference**2 + DOUBT * np.square(difference).mean()))[
                :, None
            ]
        )
        pose_part = places @ (to_pose @ field)
        field = pose_part + smooth_field(
            field - pose_part + smooth_field(step, lattice, STEP_WIDTH), lattice, FIELD_WIDTH
        )
    return field


def inverse_field(field, points, lattice, sides) -> np.ndarray:
    """Returns the displacements that undo `field` (lattice points, 3), by fixed-point steps."""
    inverse = -field
    for _ in range(8):
        inverse = -spread(field, lattice, sides, points + inverse)
    return inverse


def smooth_field(field, lattice, width) -> np.ndarray:
    """Returns a field (lattice points, 3) under a Gaussian of `width` steps of the lattice."""
    return ndimage.gaussian_filter(field.reshape(*lattice, -1), (*[width] * 3, 0)).reshape(field.shape)


def lattice_blur(sides, lattice):
    """Returns the standard deviations, voxels, of the smoothing of images that are read on the lattice only."""
    return [max(0.0, 0.4 * (side - 1) / (number - 1) - 0.2) for side, number in zip(sides, lattice, strict=True)]


def lattice_sides(sides, zooms, step: float) -> tuple[int, ...]:
    """Returns the sides of the lattice of about `step` mm that spans a grid of `sides` voxels from corner to corner."""
    return tuple(max(2, round((side - 1) * zoom / step) + 1) for side, zoom in zip(sides, zooms, strict=True))


def lattice_points(lattice, sides) -> np.ndarray:
    """Returns the points of a lattice that spans a grid from corner to corner, (n, 3) float32 in voxels."""
    axes = [np.linspace(0.0, side - 1.0, number) for side, number in zip(sides, lattice, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)


def spread(field, lattice, sides, points=None) -> np.ndarray:
    """Returns a field that is known on the lattice at `points` (n, 3) in voxels (at all voxels if None), (n, 3)."""
    points = np.indices(sides, np.float32).reshape(3, -1).T if points is None else points
    scale = np.array([(number - 1.0) / max(side - 1.0, 1.0) for number, side in zip(lattice, sides, strict=True)])
    field = np.asarray(field, np.float32).reshape(*lattice, 3)
    return np.stack([read(field[..., axis], points * scale.astype(np.float32)) for axis in range(3)], axis=1)


def read(image, points, order=1) -> np.ndarray:
    """Returns `image` (x, y, z) at `points` (n, 3) in voxels, (n,) float32; beyond the edge the nearest one counts."""
    return ndimage.map_coordinates(image, points.T, np.float32, order=order, mode="nearest")


def refine(volume, target, field, near, num_steps: int = 12) -> np.ndarray:
    """Returns displacements (voxels, 3) that follow `volume` further than `register` does: a demon at each voxel.

    Another brightness or contrast of the target is fitted away in each step. Away from what counts, `field` stays.

    Args:
        volume: (x, y, z).
        target: (x, y, z): target(voxel + displacement) is to be a * volume(voxel) + b.
        field: (voxels, 3) where to begin, in voxels.
        near: (x, y, z) of the target, 0 to 1: how much a place counts.
    """
    sides = volume.shape
    places = np.indices(sides, np.float32)
    counts = read(near, places.reshape(3, -1).T + field).reshape(sides) > 0.3
    if not counts.any():
        return field
    box = tuple(
        slice(max(0, int(found.min()) - REFINED_MARGIN), int(found.max()) + 1 + REFINED_MARGIN)
        for found in np.nonzero(counts)
    )
    values = ndimage.gaussian_filter(volume, REFINED_BLUR)[box]
    smooth = ndimage.gaussian_filter(target, REFINED_BLUR)
    places, counts = np.moveaxis(places[(slice(None), *box)], 0, -1), counts[box]
    whole = np.array(field, np.float32).reshape(*sides, 3)
    moves, own = whole[box], np.stack(np.gradient(values), axis=-1)
    for _ in range(num_steps):
        seen = read(smooth, (places + moves).reshape(-1, 3)).reshape(values.shape)
        model, image = seen[counts], values[counts]
        factor = np.mean((model - model.mean()) * (image - image.mean())) / max(float(model.var()), 1e-8)
        seen = (seen - model.mean()) * factor + image.mean()
        difference = values - seen
        slope = (own + np.stack(np.gradient(seen), axis=-1)) / 2.0
        doubt = np.square(difference[counts]).mean() + 1e-12
        step = slope * (difference / (np.square(slope).sum(axis=-1) + difference**2 + doubt))[..., None]
        moves = moves + ndimage.gaussian_filter(step, (*[REFINED_STEP_WIDTH] * 3, 0))
        moves = ndimage.gaussian_filter(moves, (*[REFINED_FIELD_WIDTH] * 3, 0))
    whole[box] = moves
    return whole.reshape(-1, 3)
