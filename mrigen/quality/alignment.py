"""One volume laid onto another: rigid alignment by a few linear steps, each a product with a small matrix.

Places are in mm about the middle of a volume's grid. A pose is the (4, 4) map from places of the target to places of a
volume.

References:
    Baker and Matthews 2004, Lucas-Kanade 20 years on (inverse compositional alignment).
    Evangelidis and Psarakis 2008, Parametric image alignment using enhanced correlation coefficient maximization.
"""

import dataclasses

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

# No point is moved further by one linear step, and none moves on that moves less: mm.
LARGEST_STEP, SMALLEST_STEP = 8.0, 0.02
# Below this correlation a linear step would be too long.
LOWEST_CORRELATION = 0.2


@dataclasses.dataclass(frozen=True)
class Target:
    """What volumes are laid onto, seen at some points.

    Attributes:
        points: (k, 3) places, mm.
        values: (k,) the target there, mean 0 and norm 1.
        steps: (6, k) what values that are not the target's say about the move (mm) and the turn (radians).
    """

    points: np.ndarray
    values: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, volume: np.ndarray, zooms, points: np.ndarray) -> "Target":
        """Returns the target that `volume` (x, y, z) of `zooms` mm is at `points` (k, 3)."""
        values = sample(volume, zooms, points)
        slopes = np.stack([sample(each, zooms, points) for each in np.gradient(volume, *zooms)], axis=1)
        changes = np.concatenate([slopes, np.cross(points - points.mean(axis=0), slopes)], axis=1)
        changes = (changes - changes.mean(axis=0)) / max(float(np.linalg.norm(values - values.mean())), 1e-6)
        values = unit(values)
        # Another brightness or contrast is no move.
        changes = changes - np.outer(values, values @ changes)
        return cls(points, values, np.linalg.pinv(changes.T @ changes, rcond=1e-6) @ changes.T)

    def align(self, volume: np.ndarray, zooms, pose: np.ndarray, num_steps: int) -> np.ndarray:
        """Returns the pose that lays `volume` (x, y, z) onto the target.

        Args:
            volume: of `zooms` mm.
            pose: where to begin.
            num_steps: at most.
        """
        middle = self.points.mean(axis=0)
        radius = float(np.linalg.norm(self.points - middle, axis=1).max())
        best, found = -1.0, pose
        for _ in range(num_steps):
            values = unit(sample(volume, zooms, place(pose, self.points)))
            correlation = float(values @ self.values)
            if correlation > best:
                best, found = correlation, pose
            step = self.steps @ values / max(correlation, LOWEST_CORRELATION)
            length = float(max(np.linalg.norm(step[:3]), radius * np.linalg.norm(step[3:])))
            if length < SMALLEST_STEP:
                break
            pose = pose @ np.linalg.inv(_motion(step * min(1.0, LARGEST_STEP / length), middle))
        return found


def _motion(step: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Returns the (4, 4) map of a move (mm) and a turn (radians) about `middle`."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix()
    motion[:3, 3] = middle + step[:3] - motion[:3, :3] @ middle
    return motion


def place(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns where `points` (k, 3) of the target lie in a volume.

    Example:
        >>> place(np.array([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), np.zeros((1, 3))).tolist()
        [[5.0, 0.0, 0.0]]
    """
    return points @ pose[:3, :3].T + pose[:3, 3]


def places_of(shape, zooms) -> np.ndarray:
    """Returns the places of all voxels of a grid, (x, y, z, 3) float32.

    Example:
        >>> places_of((3, 1, 1), (2.0, 2.0, 2.0))[:, 0, 0, 0].tolist()
        [-2.0, 0.0, 2.0]
    """
    axes = [zoom * (np.arange(side) - (side - 1) / 2.0) for side, zoom in zip(shape, zooms, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


def sample(volume: np.ndarray, zooms, points: np.ndarray) -> np.ndarray:
    """Returns `volume` at places (k, 3) in mm by linear interpolation, (k,) float32; the border goes on outside."""
    index = points / np.asarray(zooms) + (np.asarray(volume.shape) - 1) / 2.0
    return ndimage.map_coordinates(volume, index.T, np.float32, order=1, mode="nearest")


def unit(values: np.ndarray) -> np.ndarray:
    """Returns `values` (..., k) with mean 0 and norm 1, so that a product is a correlation; 0 if they are all alike."""
    values = values - values.mean(axis=-1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
