"""Copies of real heads as cohorts hold them: moved, nodded, with another contrast, defaced, mirrored."""

import dataclasses

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrigen.imaging.volumes import Volume, apply_affine


@dataclasses.dataclass(frozen=True)
class Planting:
    """What is done to a head before it is saved under another id.

    Attributes:
        moved: mm, in a direction of the person's own.
        nodded: degrees about the axis from ear to ear, up or down.
        tilted: degrees about an axis of the person's own.
        gamma: power of the intensities.
        field: half the range of a smooth field that multiplies them.
        noise: standard deviation of what is added, as a share of the head's 99th percentile.
        defaced: whether the face becomes 0.
        mirrored: whether left and right change places.
    """

    moved: float = 0.0
    nodded: float = 0.0
    tilted: float = 0.0
    gamma: float = 1.0
    field: float = 0.0
    noise: float = 0.0
    defaced: bool = False
    mirrored: bool = False


ALL = Planting(moved=3.0, nodded=3.0, gamma=0.8, defaced=True, mirrored=True)
KINDS = {
    "moved 1 mm": Planting(moved=1.0),
    "moved 3 mm": Planting(moved=3.0),
    "moved 6 mm": Planting(moved=6.0),
    "nodded 2 degrees": Planting(nodded=2.0),
    "nodded 5 degrees": Planting(nodded=5.0),
    "gamma 0.8": Planting(gamma=0.8),
    "defaced": Planting(defaced=True),
    "mirrored": Planting(mirrored=True),
    "bias field, noise": Planting(field=0.3, noise=0.03),
    "tilted 8 degrees, moved 6 mm": Planting(tilted=8.0, moved=6.0),
    "moved, nodded, gamma, defaced": dataclasses.replace(ALL, mirrored=False),
    "all of these": ALL,
}


def plant(volume: Volume, brain: np.ndarray, planting: Planting, seed: int) -> tuple[Volume, np.ndarray]:
    """Returns the copy of a head on its own grid, and of its brain mask.

    Args:
        volume: closest-canonical axes, background about 0.
        brain: bool, the same shape.
        planting: what is done.
        seed: of directions, fields and noise.
    """
    rng = np.random.default_rng(seed)
    array, brain = volume.array.astype(np.float32), brain.astype(np.float32)
    if planting.defaced:
        array = array * ~_face(volume, brain > 0.5)
    direction, axis = (each / np.linalg.norm(each) for each in rng.standard_normal((2, 3)))
    turn = Rotation.from_rotvec([np.radians(planting.nodded) * rng.choice([-1, 1]), 0, 0])
    turn = (turn * Rotation.from_rotvec(np.radians(planting.tilted) * axis)).as_matrix()
    if planting.moved or planting.nodded or planting.tilted:
        # About the middle of the brain, in mm.
        middle = apply_affine(volume.affine, np.argwhere(brain > 0.5).mean(axis=0))
        world = np.eye(4)
        world[:3, :3], world[:3, 3] = turn, middle - turn @ middle + planting.moved * direction
        to_native = np.linalg.inv(volume.affine) @ world @ volume.affine
        array, brain = (
            ndimage.affine_transform(each, to_native[:3, :3], to_native[:3, 3], order=order)
            for each, order in ((array, 3), (brain, 1))
        )
    top = np.percentile(array[brain > 0.5], 99)
    array = np.maximum(array, 0.0)
    if planting.gamma != 1.0:
        array = top * (array / top) ** planting.gamma
    if planting.field:
        field = ndimage.zoom(rng.uniform(-1, 1, (3, 3, 3)), np.array(array.shape) / 3, order=3)[
            tuple(slice(side) for side in array.shape)
        ]
        array = array * (1.0 + planting.field * field / np.abs(field).max())
    if planting.noise:
        noise = planting.noise * top * rng.standard_normal((2, *array.shape))
        array = np.hypot(array + noise[0], noise[1])
    if planting.mirrored:
        array, brain = array[::-1], brain[::-1]
    return Volume(np.ascontiguousarray(array, np.float32), volume.affine), np.ascontiguousarray(brain > 0.5)


def _face(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """Returns where the face is: in front of and below a plane under the brain, 6 mm of which are kept."""
    places = apply_affine(volume.affine, np.argwhere(brain))
    low, high = np.percentile(places, 0.5, axis=0), np.percentile(places, 99.5, axis=0)
    # From above the brow to below the middle of the brain.
    forehead = np.array([high[1] + 4.0, low[2] + 0.55 * (high[2] - low[2])])
    throat = np.array([low[1] + 0.55 * (high[1] - low[1]), low[2] - 10.0])
    along = throat - forehead
    y, z = (
        (volume.affine[axis] @ np.stack([*np.indices(volume.array.shape).reshape(3, -1), np.ones(volume.array.size)]))
        for axis in (1, 2)
    )
    side = along[0] * (z - forehead[1]) - along[1] * (y - forehead[0])
    front = (side > 0).reshape(volume.array.shape)
    return front & (ndimage.distance_transform_edt(~brain, volume.zooms) > 6.0)
