"""Pictures to look at: three slices of a head, with the outline of its brain."""

import os

import numpy as np
from PIL import Image
from scipy import ndimage

from mrigen.quality.pictures import picture_strip
from mrigen.system.files import atomic_path

OUTLINE = (255, 110, 40)


def outline_strip(array: np.ndarray, mask: np.ndarray, zooms) -> np.ndarray:
    """Returns the sagittal, coronal and axial slice through the middle of a brain, side by side: (h, w, 3) uint8.

    Args:
        array: (x, y, z), closest-canonical axes.
        mask: (x, y, z) bool, the brain.
        zooms: (3,) mm.
    """
    if mask.any():
        low, high = 0.0, float(np.percentile(array[mask], 99.5))
        low = min(float(array.min()), high)
        middle = [round(centre) for centre in ndimage.center_of_mass(mask)]
    else:
        low, high = (float(value) for value in np.percentile(array, (1, 99.5)))
        middle = [side // 2 for side in array.shape]
    levels = np.clip((array - low) / max(high - low, 1e-6), 0, 1)
    # `picture_strip` shows the middle slices: the brain's middle is put there. Twice as large, so that
    # an outline hides little.
    zooms = [2.0 * zoom for zoom in zooms]
    levels, shown = (_centred(part, middle) for part in ((255 * levels).astype(np.uint8), mask.astype(np.uint8) * 255))
    strip = np.repeat(picture_strip(levels, zooms)[..., None], 3, axis=2)
    inside = picture_strip(shown, zooms) > 127
    strip[inside & ~ndimage.binary_erosion(inside)] = OUTLINE
    return strip


def _centred(array: np.ndarray, middle) -> np.ndarray:
    """Returns an array with air on one side of each axis, so that a voxel becomes the middle one."""
    pads = []
    for side, place in zip(array.shape, middle, strict=True):
        behind = side - 1 - place
        pads.append((max(0, behind + side % 2 - place), max(0, place - behind)))
    return np.pad(array, pads)


def write_picture(path: str | os.PathLike, strip: np.ndarray) -> None:
    """Writes a picture as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(strip).save(temporary, "PNG")
