"""The boundary between grey and white matter of a brain image: its area, the folds in it, the contrast across it."""

import dataclasses

import numpy as np
from scipy import ndimage

# What lies nearer to the edge of the brain than this is not looked at, mm: it may be skull.
RIM_MM = 3.0
# How far from the surface between grey and white their intensities are read, mm.
STEP_MM = 2.0


@dataclasses.dataclass(frozen=True)
class Boundary:
    """The surface between grey and white matter.

    Attributes:
        area: mm^2.
        volume: of what it encloses, mm^3.
        contrast: white matter `STEP_MM` from the surface minus grey matter as far from it on the other side, over the
            mean of both.

    References:
        Salat et al. 2009, Age-associated alterations in cortical gray and white matter signal intensity and gray to
        white matter contrast, NeuroImage 48(1) (contrast).
    """

    area: float
    volume: float
    contrast: float

    @property
    def folding(self) -> float:
        """The area over that of a ball of the same volume: 1 for a ball, and more the more folded it is."""
        return float(self.area / ((36.0 * np.pi) ** (1.0 / 3.0) * self.volume ** (2.0 / 3.0)))


def find_boundary(volume: np.ndarray, depth: np.ndarray, level: float, zooms) -> Boundary | None:
    """Returns the surface between grey and white matter, at the intensity `level`; None where there is none.

    The largest piece of white matter counts, without its holes: specks of noise are no folds. Neither does what lies
    at the edge of the brain, where it is cut.

    Args:
        volume: (x, y, z).
        depth: of each voxel in the brain, mm.
        level: of intensity, such as `Tissues.boundary`.
        zooms: voxel size, mm.

    References:
        Lewiner et al. 2003, Efficient implementation of marching cubes' cases with topological guarantees, J. Graphics
        Tools 8(2) (of scikit-image).
    """
    from skimage.measure import marching_cubes

    boxes = ndimage.find_objects((depth > RIM_MM).astype(np.uint8))
    if not boxes:
        return None
    # With a voxel around it where there is one, and then one more that is no brain.
    box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in boxes[0])
    depth, values = np.pad(depth[box], 1), np.pad(volume[box].astype(np.float64), 1, mode="edge")
    pieces, count = ndimage.label((values > level) & (depth > 0.0))
    if not count:
        return None
    largest = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    inside = ndimage.binary_fill_holes(largest)
    # Which voxels are white is decided; where between two of them the surface runs, intensities say.
    step = max(float(np.ptp(values)), 1e-6) * 1e-3
    decided = np.where(inside, np.maximum(values, level + step), np.minimum(values, level - step))
    corners, faces, *_ = marching_cubes(decided, level, allow_degenerate=False)
    faces = faces[ndimage.map_coordinates(depth, corners[faces].mean(axis=1).T, order=1) > RIM_MM]
    zooms = np.asarray(zooms, float)
    amount = float((inside & (depth > RIM_MM)).sum() * np.prod(zooms))
    if not len(faces) or not amount:
        return None
    places = corners[faces] * zooms
    middles = places.mean(axis=1)
    normals = np.cross(places[:, 1] - places[:, 0], places[:, 2] - places[:, 0])
    area = np.linalg.norm(normals, axis=1) / 2.0
    steps = STEP_MM * normals / np.maximum(2.0 * area, 1e-12)[:, None]
    sides = [
        ndimage.map_coordinates(values, ((middles + sign * steps) / zooms).T, order=1, mode="nearest") @ area
        for sign in (-1.0, 1.0)
    ]
    grey, white = sorted(sides)
    return Boundary(float(area.sum()), amount, float((white - grey) / max((white + grey) / 2.0, 1e-12)))
