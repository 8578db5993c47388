"""Structural similarity of volumes, inside a mask."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

# The window: a Gaussian of this standard deviation, cut off after so many voxels; and what keeps ratios finite.
SIGMA, RADIUS = 1.5, 5
C1, C2 = 0.01**2, 0.03**2
# Of the five scales of the reference, from fine to coarse.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def num_scales(volume_shape) -> int:
    """Returns how many scales there are of volumes: each half as large as the one before, and all hold the window.

    Example:
        >>> num_scales((48, 56, 48)), num_scales((12, 14, 12)), num_scales((192, 224, 192))
        (3, 1, 5)
    """
    room = min(volume_shape) // (2 * RADIUS + 1)
    return int(np.clip(1 + np.floor(np.log2(max(room, 1))), 1, len(SCALE_WEIGHTS)))


def similarity_maps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the structural similarity of two volumes (x, y, z) in [0, 1] at each voxel, and its part that does not
    regard brightness (contrast and structure), (x, y, z) each.

    References:
        Wang et al. 2004, Image quality assessment: from error visibility to structural similarity, IEEE Trans. Image
        Process. 13(4), equations 6, 10 and 13 (of scikit-image).
    """
    from skimage.metrics import structural_similarity

    first, second = first.astype(np.float64), second.astype(np.float64)
    if min(first.shape) < 2 * RADIUS + 1:
        # Beyond the edge nothing is known: the nearest voxel stands there, as it does inside scikit-image.
        missing = [max(0, 2 * RADIUS + 1 - side) for side in first.shape]
        widths = [(each // 2, each - each // 2) for each in missing]
        whole = similarity_maps(np.pad(first, widths, mode="symmetric"), np.pad(second, widths, mode="symmetric"))
        box = tuple(slice(low, low + side) for (low, _), side in zip(widths, first.shape, strict=True))
        return whole[0][box], whole[1][box]
    _, similarity = structural_similarity(
        first, second, data_range=1.0, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False, full=True
    )
    means = [ndimage.gaussian_filter(volume, SIGMA, radius=RADIUS) for volume in (first, second)]
    brightness = (2.0 * means[0] * means[1] + C1) / (np.square(means[0]) + np.square(means[1]) + C1)
    return similarity, similarity / brightness


def similarities(
    first: np.ndarray, second: np.ndarray, masks: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Returns the structural similarity of two volumes inside each mask, and that over several scales; NaN where a mask
    is empty.

    A coarser scale has means of 2 x 2 x 2 voxels, and a mask of those of which at least half are inside. Weights of the
    scales that small volumes do not have are left out, and the others sum to 1.

    Args:
        first, second: (x, y, z) in [0, 1].
        masks: name -> (x, y, z) bool.

    References:
        Wang et al. 2003, Multi-scale structural similarity for image quality assessment, Asilomar, equation 7.
    """
    count = num_scales(first.shape)
    weights = np.array(SCALE_WEIGHTS[:count]) / sum(SCALE_WEIGHTS[:count])
    shares = {name: mask.astype(np.float64) for name, mask in masks.items()}
    single, product = {}, dict.fromkeys(masks, 1.0)
    for scale, weight in enumerate(weights):
        similarity, structure = similarity_maps(first, second)
        last = scale == count - 1
        for name, share in shares.items():
            inside = share >= 0.5
            if scale == 0:
                single[name] = float(similarity[inside].mean()) if inside.any() else np.nan
            value = (similarity if last else structure)[inside].mean() if inside.any() else np.nan
            product[name] *= max(float(value), 0.0) ** weight if np.isfinite(value) else np.nan
        if not last:
            first, second = _halved(first), _halved(second)
            shares = {name: _halved(share) for name, share in shares.items()}
    return {name: (single[name], float(product[name])) for name in masks}


def _halved(volume: np.ndarray) -> np.ndarray:
    """Returns the means of 2 x 2 x 2 voxels; what is left over at the end of an odd side is left out."""
    volume = volume[tuple(slice(0, side // 2 * 2) for side in volume.shape)]
    shape = [number for side in volume.shape for number in (side // 2, 2)]
    return volume.reshape(shape).mean(axis=(1, 3, 5))
