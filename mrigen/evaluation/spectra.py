"""The power spectrum of the inside of a brain: how much of an image is of which wavelength."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

# Wavelengths in mm; a band lies between two that follow each other.
WAVELENGTHS = (64, 32, 16, 8, 5, 4, 3, 2)
BANDS = tuple(itertools.pairwise(WAVELENGTHS))
# What lies nearer to the edge of the brain than this does not count, and over so many mm from there it counts more and
# more, so that neither the skull nor the edge of what is cut out is seen.
RIM_MM, RAMP_MM = 6.0, 16.0
# A window that amounts to less than this is no brain, ml.
SMALLEST_ML = 50.0


def bands_of(zooms) -> tuple[tuple[int, int], ...]:
    """Returns the bands (from, to: wavelengths in mm) that a grid can hold along each of its axes.

    Example:
        >>> bands_of((4.0, 4.0, 4.0))
        ((64, 32), (32, 16), (16, 8))
    """
    return tuple(band for band in BANDS if band[1] >= 2.0 * max(zooms) - 1e-6)


def depth_in(brain: np.ndarray, zooms) -> np.ndarray:
    """Returns how deep each voxel lies in the brain (x, y, z) bool, in mm: 0 outside.

    The largest piece counts, without its holes: dark ventricles are no edge.
    """
    pieces, count = ndimage.label(brain)
    if not count:
        return np.zeros(brain.shape)
    largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    box = ndimage.find_objects(pieces)[largest - 1]
    depth = np.zeros(brain.shape)
    whole = np.pad(ndimage.binary_fill_holes(pieces[box] == largest), 1)
    depth[box] = ndimage.distance_transform_edt(whole, sampling=zooms)[1:-1, 1:-1, 1:-1]
    return depth


def window_of(depth: np.ndarray) -> np.ndarray:
    """Returns the weights (x, y, z) in [0, 1] of voxels so many mm deep in the brain: a squared sine of the depth."""
    return np.square(np.sin(np.pi / 2.0 * np.clip((depth - RIM_MM) / RAMP_MM, 0.0, 1.0)))


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The power of the inside of a brain.

    Attributes:
        frequencies: (modes,) 1 / mm.
        powers: (modes,) density, mm^3.
        counts: (modes,) how many modes each stands for.
    """

    frequencies: np.ndarray
    powers: np.ndarray
    counts: np.ndarray

    def between(self, wavelengths: Sequence[float]) -> np.ndarray:
        """Returns the mean power between wavelengths (mm, falling), (bands,); NaN where there is no mode."""
        edges = 1.0 / np.asarray(wavelengths, float)
        where = np.searchsorted(edges * (1.0 - 1e-9), self.frequencies, side="right")
        where[self.frequencies > edges[-1] * (1.0 + 1e-9)] = len(edges)
        total = np.bincount(where, self.counts * self.powers, len(edges) + 1)[1:-1]
        modes = np.bincount(where, self.counts, len(edges) + 1)[1:-1]
        return np.where(modes > 0, total / np.maximum(modes, 1.0), np.nan)


def find_spectrum(volume: np.ndarray, depth: np.ndarray, zooms) -> Spectrum | None:
    """Returns the power of the inside of a brain; None where there is no brain.

    The image counts as a share of its own mean there, so its brightness does not matter. It is a periodogram with a
    taper: white noise of standard deviation s (of the mean) and independent voxels of v mm^3 has s^2 v everywhere.

    Args:
        volume: (x, y, z).
        depth: of each voxel in the brain, mm; see `depth_in`.
        zooms: voxel size, mm.

    References:
        Percival and Walden 1993, Spectral analysis for physical applications, section 6.4.
    """
    boxes = ndimage.find_objects((depth > RIM_MM).astype(np.uint8))
    if not boxes:
        return None
    box, zooms = boxes[0], np.asarray(zooms, float)
    window, voxel = window_of(depth[box]), float(np.prod(zooms))
    if window.sum() * voxel < 1000.0 * SMALLEST_ML:
        return None
    values = volume[box].astype(np.float64)
    mean = (window * values).sum() / window.sum()
    if not mean > 0.0:
        return None
    # Twice as fine as the longest wavelength asks for, whatever the size of the brain.
    least = np.ceil(2.0 * WAVELENGTHS[0] / zooms).astype(int)
    sides = [fft.next_fast_len(max(side, int(few)), real=True) for side, few in zip(window.shape, least, strict=True)]
    powers = np.square(np.abs(fft.rfftn(window * (values / mean - 1.0), sides))) * voxel / np.square(window).sum()
    frequencies = [fft.fftfreq(side, zoom) for side, zoom in zip(sides[:2], zooms[:2], strict=True)]
    frequencies.append(fft.rfftfreq(sides[2], zooms[2]))
    squares = sum(np.square(axis) for axis in np.meshgrid(*frequencies, indexing="ij", sparse=True))
    # Half of the modes of a real image are there: all but those of the first plane (and the last) stand for two.
    counts = np.full(len(frequencies[2]), 2.0)
    counts[0] = 1.0
    if sides[2] % 2 == 0:
        counts[-1] = 1.0
    return Spectrum(np.sqrt(squares).ravel(), powers.ravel(), np.broadcast_to(counts, powers.shape).ravel())


def fine_wavelengths(zooms, per_octave: int = 4) -> np.ndarray:
    """Returns wavelengths from the longest to the shortest that a grid holds, falling, mm: edges of narrow bands."""
    octaves = max(0.25, np.log2(WAVELENGTHS[0] / (2.0 * max(zooms))))
    return WAVELENGTHS[0] / 2.0 ** np.linspace(0.0, octaves, max(2, round(per_octave * octaves) + 1))
