"""Faces cut off."""

import warnings

import numpy as np

from mrigen.errors import CohortError
from mrigen.imaging.volumes import array_of, make_image, zooms_of

# Between the brain and the cut, mm.
BUFFER = 10.0
# Less than this of the head (ml) is no face.
LEAST_FACE = 50.0


def deface(array: np.ndarray, mask: np.ndarray, affine: np.ndarray, fill: float) -> np.ndarray:
    """Returns an image without what lies in front of and below a plane under the brain, which touches no brain.

    Args:
        array: (x, y, z), closest-canonical axes.
        mask: (x, y, z) bool, the brain.
        affine: (4, 4), voxel-to-world.
        fill: what is put there.

    Raises:
        CohortError: the cut would go through the brain.

    References:
        Schimke and Hale 2011, Quickshear defacing for neuroimages.
    """
    from quickshear import quickshear

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of numpy, about vectors of two numbers.
        whole = make_image(np.ones(array.shape, np.uint8), affine)
        kept = quickshear(whole, make_image(mask.astype(np.uint8), affine), BUFFER / zooms_of(affine)[2])
    kept = array_of(kept) > 0
    if (mask & ~kept).any():
        raise CohortError("the plane that cuts the face off goes through the brain. Look at the mask.")
    return np.where(kept, array, np.float32(fill))
