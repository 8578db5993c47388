"""How a scanner sees a synthetic subject: contrast, blur, bias field, noise and units."""

from collections.abc import Mapping

import numpy as np
import scipy.ndimage

from mrigen.data.phantom_anatomy import (
    Template,
    draw_displacement,
    grid_points,
    pull_back,
    sample,
    subject_grid,
)
from mrigen.data.phantom_factors import SCAN, SITE_SCAN, PhantomSettings, site_index, stream
from mrigen.data.phantom_grown import grow_subject

FWHM_PER_SIGMA = 2.3548


def scan_subject(
    template: Template | None, settings: PhantomSettings, index: int, factors: Mapping, number: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Returns the T1 image, the brain mask and the labels of one subject, and their affine.

    Args:
        template: of the warped brains; None makes a grown one.
        index: number of the subject, from 0.
        factors: the row of `draw_factors`, or of `draw_scans`.
        number: of the scan of this subject, from 0.

    Returns:
        volume (x, y, z) int16 in scanner units, exactly 0 outside of the brain; mask (x, y, z) uint8; labels (x, y, z)
        int16 of a grown brain, otherwise None; affine (4, 4).
    """
    shape, affine = subject_grid(settings.zooms)
    points = grid_points(shape, affine)
    labels = None
    if template is None:
        signal, mask, labels = grow_subject(settings, index, factors, shape, affine)
    else:
        signal, mask = _warped(template, settings, index, factors, points)
    signal = scipy.ndimage.gaussian_filter(signal, factors["resolution_mm"] / FWHM_PER_SIGMA / settings.zooms)
    scan = stream(settings, SCAN, index, number) if number else stream(settings, SCAN, index)
    site = stream(settings, SITE_SCAN, site_index(factors["site"]))
    signal *= np.exp(factors["bias_amplitude"] * _bias_pattern(scan, site, settings, points, mask))
    real, imaginary = factors["noise"] * scan.standard_normal((2, *shape), dtype=np.float32)
    magnitude = np.hypot(signal + real, imaginary)
    volume = np.rint(np.clip(factors["intensity_scale"] * magnitude, 0, 32767)).astype(np.int16)
    return volume * mask, mask.astype(np.uint8), labels, affine


def _warped(template: Template, settings: PhantomSettings, index: int, factors: Mapping, points: np.ndarray):
    """Returns the undisturbed signal (x, y, z) of a deformed template, and its mask."""
    displacement = draw_displacement(template, settings, index, factors)
    near = _near_brain(template, displacement, factors, points)
    seen = pull_back(template, displacement, factors, points[:, near])
    mask, signal = np.zeros(near.shape, dtype=bool), np.zeros(near.shape, dtype=np.float32)
    mask[near] = sample(template, "mask", seen) > 0.5
    signal[near] = _signal(template, factors, seen)
    return signal, mask


def _near_brain(template: Template, displacement: np.ndarray, factors: Mapping, points: np.ndarray) -> np.ndarray:
    """Returns which voxels (x, y, z) may hold brain: most do not, and are not worth the interpolation."""
    every_second = pull_back(template, displacement, factors, points[:, ::2, ::2, ::2])
    inside = scipy.ndimage.binary_dilation(sample(template, "mask", every_second) > 0, np.ones((3, 3, 3)))
    return inside.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)


def _signal(template: Template, factors: Mapping, seen: np.ndarray) -> np.ndarray:
    gray = sample(template, "gray", seen)
    white = sample(template, "white", seen)
    signal = sample(template, "t1", seen)
    # The template is an average of many and softer than one person's scan: darken gray, brighten white matter.
    signal = signal + (factors["gray_contrast"] - 0.10) * gray + 0.12 * white
    signal -= 0.40 * factors["cortical_thinning"] * sample(template, "sulci", seen)
    return np.clip(signal, 0, None) ** np.float32(factors["contrast_gamma"])


def _bias_pattern(scan, site, settings: PhantomSettings, points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns a smooth pattern (x, y, z) of mean 0 and standard deviation 1 over the brain."""
    x, y, z = points / 100.0
    terms = np.stack([x, y, z, x * y, y * z, z * x, x * x, y * y, z * z])
    # What the coil does is the site's; how the head loads it is the subject's.
    site_weights = settings.site_effect_strength * site.standard_normal(len(terms))
    weights = site_weights + 0.5 * scan.standard_normal(len(terms))
    pattern = np.tensordot(weights, terms, axes=1)
    return ((pattern - pattern[mask].mean()) / pattern[mask].std()).astype(np.float32)
