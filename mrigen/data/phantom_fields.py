"""Implicit shapes and random fields that the grown brains are made of: pure functions of coordinates in mm."""

import dataclasses

import numpy as np

__all__ = ["Waves", "capsule", "draw_waves", "ellipsoid", "ramp", "smooth_union"]


@dataclasses.dataclass(frozen=True)
class Waves:
    """A random field as a sum of plane waves: close to Gaussian, of mean 0 and variance 1, known at any point.

    Attributes:
        vectors: (waves, 3) float32, radians per mm.
        phases: (waves,) float32, radians.
        weights: (waves,) float32.

    Example:
        >>> field = draw_waves(np.random.default_rng(0), 40.0, 64)
        >>> values = field(np.random.default_rng(1).uniform(-500, 500, (3, 5000)))
        >>> bool(abs(values.mean()) < 0.1), bool(0.9 < values.std() < 1.1)
        (True, True)
    """

    vectors: np.ndarray
    phases: np.ndarray
    weights: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Returns the field (...) float32 at `points` (3, ...) in mm."""
        flat = np.asarray(points, np.float32).reshape(3, -1)
        total = np.zeros(flat.shape[1], np.float32)
        for vector, phase, weight in zip(self.vectors, self.phases, self.weights, strict=True):
            total += weight * np.cos(vector @ flat + phase)
        return total.reshape(points.shape[1:])

    def stretched(self, factor: float) -> "Waves":
        """Returns the same field with all wavelengths multiplied by `factor`."""
        return dataclasses.replace(self, vectors=self.vectors / np.float32(factor))

    def scaled(self, factor: float) -> "Waves":
        """Returns the same field with its values multiplied by `factor`."""
        return dataclasses.replace(self, weights=self.weights * np.float32(factor))

    def __add__(self, other: "Waves") -> "Waves":
        """Returns the sum of two fields."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Waves(*(np.concatenate(pair) for pair in pairs))


def draw_waves(generator: np.random.Generator, wavelength: float, num_waves: int, spread: float = 0.15) -> Waves:
    """Returns a random field whose waves run in all directions.

    Args:
        wavelength: mm; its standard deviation over the waves is `spread` of it.
        num_waves: how many waves; from about 20 on the field looks Gaussian.
        spread: relative, below 0.3.
    """
    directions = generator.standard_normal((num_waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength * (1 + spread * np.clip(generator.standard_normal(num_waves), -2.5, 2.5))
    phases = generator.uniform(0, 2 * np.pi, num_waves)
    weights = np.full(num_waves, np.sqrt(2 / num_waves))
    vectors = 2 * np.pi * directions / lengths[:, None]
    return Waves(vectors.astype(np.float32), phases.astype(np.float32), weights.astype(np.float32))


def ellipsoid(offsets: np.ndarray, low, high, power: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the depth inside a superellipsoid, and its gauge: 0 at the centre, 1 on the surface.

    Args:
        offsets: (3, ...) from the centre, in mm.
        low, high: the three half axes in mm towards lower and towards higher coordinates.
        power: 2 is an ellipsoid, more is boxier.

    Returns:
        depth (...) in mm, positive inside, to first order the distance to the surface; gauge (...).

    Example:
        >>> depth, gauge = ellipsoid(np.array([[9.0], [0.0], [0.0]]), (10, 20, 20), (10, 20, 20))
        >>> depth.round(3).tolist(), gauge.round(3).tolist()
        ([1.0], [0.9])
    """
    terms, slopes = 0.0, 0.0
    for offset, below, above in zip(offsets, low, high, strict=True):
        inverse = np.where(offset < 0, np.float32(1 / below), np.float32(1 / above))
        part = np.abs(offset) * inverse + np.float32(1e-6)
        terms = terms + part**power
        slopes = slopes + (part ** (power - 1) * inverse) ** 2
    gauge = terms ** (1 / power)
    steepness = gauge ** (1 - power) * np.sqrt(slopes)
    return (1 - gauge) / steepness, gauge


def capsule(points: np.ndarray, start, end, radius) -> np.ndarray:
    """Returns the depth (...) in mm inside a rod with round ends at `points` (3, ...), positive inside."""
    shape = (3,) + (1,) * (points.ndim - 1)
    start, end = np.reshape(start, shape).astype(np.float32), np.reshape(end, shape).astype(np.float32)
    along = end - start
    share = np.clip(((points - start) * along).sum(axis=0) / (along**2).sum(), 0, 1)
    return radius - np.sqrt(((points - start - share * along) ** 2).sum(axis=0))


def smooth_union(first: np.ndarray, second: np.ndarray, rounding: float) -> np.ndarray:
    """Returns the depth inside either of two shapes, their seam filled over `rounding` mm."""
    share = np.clip(1 - np.abs(first - second) / rounding, 0, None)
    return np.maximum(first, second) + rounding / 4 * share**2


def ramp(depth: np.ndarray, zooms: float) -> np.ndarray:
    """Returns how much (0 to 1) of a voxel of `zooms` mm lies inside a shape, from the depth of its centre in mm."""
    return np.clip(0.5 + depth / np.float32(zooms), 0, 1)
