"""Grey and white matter of a brain image, by its intensities alone: how well they are told apart, and how folded."""

import dataclasses
import warnings

import numpy as np
from scipy import ndimage

# So many quantiles of the intensities of a brain stand for all of its voxels.
NUM_QUANTILES = 2048
# What lies nearer to the edge of the brain than this is not looked at, mm: it may be skull.
RIM_MM = 3.0
# Where the search for dark, grey and white begins: quantiles of the intensities.
STARTS = (0.05, 0.4, 0.8)
FEWEST_VOXELS = 100
# How far from the surface between grey and white their intensities are read, mm.
STEP_MM = 2.0


@dataclasses.dataclass(frozen=True)
class Tissues:
    """Three Gaussians of a brain's intensities, from dark (fluid) over grey to white.

    Attributes:
        means, deviations, shares: (3,) each.
    """

    means: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray

    @property
    def separation(self) -> float:
        """How far grey and white lie from each other, in standard deviations (their root mean square).

        References:
            Ashman, Bird and Zepf 1994, Detecting bimodality in astronomical datasets, Astron. J. 108 (D).
        """
        spread = np.sqrt(np.square(self.deviations[1:]).mean())
        return float((self.means[2] - self.means[1]) / spread)

    @property
    def white_share(self) -> float:
        """White matter's share of grey and white."""
        return float(self.shares[2] / self.shares[1:].sum())

    @property
    def boundary(self) -> float:
        """The intensity halfway from grey to white."""
        return float(self.means[1:].mean())


def find_tissues(volume: np.ndarray, depth: np.ndarray) -> Tissues | None:
    """Returns the tissues of a brain; None where there is none, or no contrast in it.

    Args:
        volume: (x, y, z).
        depth: of each voxel in the brain, mm.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values = volume[depth > RIM_MM]
    if len(values) < FEWEST_VOXELS or not np.ptp(values) > 0.0:
        return None
    # Quantiles between those of the sample, so that steps of 1 / 255 make no cliffs.
    points = np.quantile(values, (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES)
    spread = points.std()
    if not spread > 0.0:
        return None
    scaled = ((points - points.mean()) / spread)[:, None]
    model = GaussianMixture(
        3,
        tol=1e-4,
        max_iter=300,
        reg_covar=1e-3,
        weights_init=[0.1, 0.5, 0.4],
        means_init=np.quantile(scaled, STARTS)[:, None],
        precisions_init=np.full((3, 1, 1), 4.0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled)
    order = np.argsort(model.means_[:, 0])
    return Tissues(
        points.mean() + spread * model.means_[order, 0],
        spread * np.sqrt(model.covariances_[order, 0, 0]),
        model.weights_[order],
    )


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
        level: of intensity, such as that of `Tissues.boundary`.
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
