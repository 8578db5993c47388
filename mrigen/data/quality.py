"""Figures of merit of one image, in its own space and before anything is done to it: what a bad image shows by.

Most are measured in the middle of the brain case, an ellipsoid below the vertex that is brain in nearly every head, so
that no segmentation is needed and a head with skull and a stripped one have the same measures; on every n-th voxel of a
large image.
"""

import numpy as np
from scipy import ndimage

from mrigen.imaging.volumes import Volume

# Measure -> what it is, as people read it: a noun and the unit. In the order of tables.
MEASURES = {
    "voxel_min": "smallest voxel side (mm)",
    "voxel_max": "largest voxel side (mm)",
    "head_volume_ml": "head volume (ml)",
    "brain_volume_ml": "brain volume (ml)",
    "width_mm": "width of the head (mm)",
    "length_mm": "length of the head (mm)",
    "height_mm": "height of what is seen of the head (mm)",
    "cut_top_cm2": "area of the head's topmost slice (cm2)",
    "cut_side_cm2": "area of the head's outermost slice at the left, right or back (cm2)",
    "lowest": "lowest intensity",
    "highest": "highest intensity",
    "black": "intensity of the background",
    "white": "99.5th percentile of the head",
    "spike": "farthest intensity from black, over that of white",
    "grey_levels": "different intensities in the head",
    "noise": "noise in the brain over white",
    "air": "spread of the air over white",
    "ghost": "structure in the air over white",
    "snr": "signal to noise in the brain",
    "efc": "entropy focus criterion",
    "fber": "energy of the head over that of the air",
    "cjv": "coefficient of joint variation of grey and white matter",
    "contrast": "skewness of the brain's intensities",
    "bias": "variation of the brain's brightness over centimetres",
    "fwhm_mm": "smoothness (full width at half maximum, mm)",
}
# Voxels that the slower measures look at, about.
SAMPLED = 2**16
# Side of the coarse blocks on which the air is found, mm.
BLOCK = 5.0
# How far from the head air begins, blocks.
AIR_FROM = 3
# How far below the vertex, and how far around it, the brain is surely seen: mm, and parts of the head's width.
CORE_DEPTH, CORE_HALF_HEIGHT, CORE_HALF_WIDTH, CORE_HALF_LENGTH = 70.0, 36.0, 0.33, 0.42
# Depth below the head's first slice at which the area is taken: a round vertex is still small there.
CUT_DEPTH = 2.5
# Air above the neck: the rest of the image is body and what hangs on it.
AIR_HEIGHT = 120.0
TINY = 1e-12


def measure_quality(volume: Volume, head: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    """Returns the measures of `MEASURES` of an image; NaN where one cannot be taken.

    Args:
        volume: the native image, closest-canonical axes, finite and not constant.
        head: bool, the same shape; see `mrigen.data.heads.head_mask`.
        mask: bool, the same shape, the brain; or None.

    References:
        Esteban et al. 2017, MRIQC: advancing the automatic prediction of image quality in MRI from unseen sites.
        Atkinson et al. 1997, Automatic correction of motion artifacts in magnetic resonance images using an entropy
        focus criterion (efc). Ganzetti et al. 2016, Intensity inhomogeneity correction of structural MR images: a
        data-driven approach to define input algorithm parameters (cjv). Magnotta and Friedman 2006, Measurement of
        signal-to-noise and contrast-to-noise in the fBIRN multicenter imaging study (snr). Shehzad et al. 2015, The
        Preprocessed Connectomes Project Quality Assessment Protocol (fber). Forman et al. 1995, Improved assessment of
        significant activation in functional MRI (fwhm_mm).
    """
    array, zooms = volume.array, np.array(volume.zooms)
    voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000.0
    profiles = _profiles(head)
    bounds = np.array([_occupied(profile) for profile in profiles])
    size = (bounds[:, 1] - bounds[:, 0] + 1) * zooms
    measures = dict.fromkeys(MEASURES, np.nan)
    measures |= {"voxel_min": zooms.min(), "voxel_max": zooms.max()}
    measures |= {"head_volume_ml": profiles[0].sum() * voxel_ml}
    if mask is not None:
        measures["brain_volume_ml"] = np.count_nonzero(mask) * voxel_ml
    measures |= dict(zip(("width_mm", "length_mm", "height_mm"), size, strict=True))
    areas = _edge_areas(profiles, bounds, zooms)
    measures |= {"cut_top_cm2": areas["top"], "cut_side_cm2": max(areas["left"], areas["right"], areas["back"])}

    every = tuple(max(1, round((array.size / SAMPLED) ** (1 / 3) / 2)) for _ in range(3))
    sparse = tuple(slice(None, None, step) for step in every)
    inside = array[sparse][head[sparse]]
    lowest, highest, white = float(array.min()), float(array.max()), float(np.percentile(inside, 99.5))
    outside = _air(array, head, zooms, bounds)
    black = lowest if outside is None else float(np.median(outside))
    scale = max(white - black, TINY)
    measures |= {"lowest": lowest, "highest": highest, "black": black, "white": white}
    measures |= {"spike": max(highest - black, black - lowest) / scale, "grey_levels": len(np.unique(inside[:SAMPLED]))}
    measures["efc"] = _entropy_focus(array[sparse] - black)
    if outside is not None:
        outside = (outside - black) / scale
        energy = np.median(np.square(outside[outside != 0])) if (outside != 0).mean() > 0.5 else 0.0
        if energy > 0:
            measures["fber"] = np.median(np.square((inside - black) / scale)) / energy
        measures["air"] = float(outside.std())
        measures["ghost"] = float(np.percentile(np.abs(outside), 99))
    core = _core(array, zooms, bounds)
    if min(core.shape) >= 8:
        measures |= _core_measures((core - black) / scale, zooms)
    return {name: float(value) for name, value in measures.items()}


def _profiles(mask: np.ndarray) -> list[np.ndarray]:
    """Returns the voxels of `mask` in each slice along x, y and z."""
    count = {"dtype": np.uint32}
    along_xy = mask.view(np.uint8).sum(axis=2, **count)
    along_z = mask.view(np.uint8).sum(axis=0, **count).sum(axis=0)
    return [along_xy.sum(axis=1), along_xy.sum(axis=0), along_z]


def _occupied(profile: np.ndarray) -> tuple[int, int]:
    occupied = np.flatnonzero(profile > 0.005 * max(profile.max(), 1))
    return (int(occupied[0]), int(occupied[-1])) if len(occupied) else (0, len(profile) - 1)


def _edge_areas(profiles, bounds: np.ndarray, zooms: np.ndarray) -> dict[str, float]:
    """Returns the area (cm2) of the head a little inside of its outermost slices."""
    areas = {}
    for axis, (first, last) in enumerate((("left", "right"), ("back", "front"), ("bottom", "top"))):
        depth = int(CUT_DEPTH // zooms[axis])
        pixel = np.prod(np.delete(zooms, axis)) / 100.0
        low, high = bounds[axis]
        areas[first] = float(profiles[axis][min(low + depth, high)] * pixel)
        areas[last] = float(profiles[axis][max(high - depth, low)] * pixel)
    return areas


def _air(array: np.ndarray, head: np.ndarray, zooms: np.ndarray, bounds: np.ndarray) -> np.ndarray | None:
    """Returns voxels of the air above the neck, some centimetres from the head; None if there are hardly any."""
    first = max(0, int(bounds[2, 1] - AIR_HEIGHT / zooms[2]))
    steps = np.maximum(1, np.round(BLOCK / zooms)).astype(int)
    sparse = tuple(slice(None, None, step) for step in steps)
    # In a box with a margin, so that what touches the border is closed as anything else.
    covered = np.pad(head[:, :, first:][sparse], AIR_FROM)
    covered = ndimage.binary_dilation(covered, iterations=AIR_FROM)[(slice(AIR_FROM, -AIR_FROM),) * 3]
    # The shadow of the head along x and y: what lies between two parts of it is no air.
    for axis in (0, 1):
        before = np.maximum.accumulate(covered, axis=axis)
        after = np.flip(np.maximum.accumulate(np.flip(covered, axis), axis=axis), axis)
        covered = covered | (before & after)
    air = array[:, :, first:][sparse][~covered]
    return air if air.size >= 200 else None


def _core(array: np.ndarray, zooms: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Returns the box of the array in which the middle of the brain lies."""
    size = (bounds[:, 1] - bounds[:, 0] + 1) * zooms
    centre = bounds.mean(axis=1)
    centre[2] = bounds[2, 1] - min(CORE_DEPTH, 0.5 * size[2]) / zooms[2]
    half = np.array([CORE_HALF_WIDTH * size[0], CORE_HALF_LENGTH * min(size[1], 1.25 * size[0]), CORE_HALF_HEIGHT])
    first = np.maximum(np.ceil(centre - half / zooms), 0).astype(int)
    last = np.maximum(np.floor(centre + half / zooms), first).astype(int)
    return array[tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))]


def _core_measures(core: np.ndarray, zooms: np.ndarray) -> dict[str, float]:
    """Returns what is measured in the middle of the brain; `core` is 0 in the air and 1 where the head is white."""
    step = max(2, round((8 * core.size / SAMPLED) ** (1 / 3)))
    stops = [(side - 2) // step * step + 1 for side in core.shape]
    corner = [
        core[i : stops[0] + i : step, j : stops[1] + j : step, k : stops[2] + k : step]
        for i in (0, 1) for j in (0, 1) for k in (0, 1)
    ]  # fmt: skip
    inside = _ellipsoid(corner[0].shape)
    corner = [part[inside] for part in corner]
    values = corner[0]
    # The highest band of a Haar wavelet along all three axes at once: anatomy has hardly any of it.
    signs = [(-1) ** bin(index).count("1") for index in range(8)]
    detail = sum(sign * part for sign, part in zip(signs, corner, strict=True)) / np.sqrt(8.0)
    noise = float(np.median(np.abs(detail)) / 0.6745)
    found = {"noise": noise, "snr": float(np.median(values)) / noise if noise > 1e-6 else np.nan}
    variance = float(values.var())
    if variance > TINY:
        found["contrast"] = float(((values - values.mean()) ** 3).mean() / variance**1.5)
        widths = [_fwhm(values, corner[index], zoom) for index, zoom in zip((4, 2, 1), zooms, strict=True)]
        found["fwhm_mm"] = float(np.prod(widths) ** (1 / 3))
    found["cjv"] = _joint_variation(values)
    found["bias"] = _bias(core, zooms)
    return found


def _ellipsoid(shape) -> np.ndarray:
    squares = [np.linspace(-1.0, 1.0, side) ** 2 for side in shape]
    return squares[0][:, None, None] + squares[1][:, None] + squares[2] <= 1.0


def _fwhm(values: np.ndarray, neighbours: np.ndarray, zoom: float) -> float:
    """Returns the width (mm) of the Gaussian that would make white noise as smooth as these neighbours are."""
    ratio = float(np.var(values - neighbours) / (2.0 * np.var(values)))
    ratio = min(max(ratio, 1e-6), 1.0 - 1e-6)
    return zoom * np.sqrt(-2.0 * np.log(2.0) / np.log(1.0 - ratio))


def _entropy_focus(values: np.ndarray) -> float:
    """Returns the entropy of the intensities' shares of the energy, over that of an image of one intensity."""
    values = np.abs(values.ravel())
    energy = np.sqrt(float(np.square(values, dtype=np.float64).sum()))
    if energy <= TINY:
        return np.nan
    shares = values[values > 0] / energy
    most = np.sqrt(values.size) * np.log(1.0 / np.sqrt(values.size))
    return float((shares * np.log(shares)).sum(dtype=np.float64) / most)


def _joint_variation(values: np.ndarray) -> float:
    """Returns (spread of white + spread of grey) / (white - grey), of the two brighter of three classes."""
    counts, edges = np.histogram(values, bins=64, range=tuple(np.percentile(values, (0.5, 99.5))))
    middles = (edges[1:] + edges[:-1]) / 2.0
    mass, first = np.cumsum(counts), np.cumsum(counts * middles)
    mass, first = np.concatenate([[0], mass]), np.concatenate([[0.0], first])
    low, high = np.triu_indices(63, 1)
    low, high = low + 1, high + 1
    between = np.zeros(len(low))
    for start, end in ((0, low), (low, high), (high, 64)):
        weight = mass[end] - mass[start]
        between += (first[end] - first[start]) ** 2 / np.maximum(weight, 1)
    best = int(np.argmax(between))
    grey = values[(values >= edges[low[best]]) & (values < edges[high[best]])]
    white = values[(values >= edges[high[best]]) & (values <= edges[-1])]
    if min(len(grey), len(white)) < 50:
        return np.nan
    spread = [1.4826 * np.median(np.abs(part - np.median(part))) for part in (grey, white)]
    return float(sum(spread) / max(np.median(white) - np.median(grey), TINY))


def _bias(core: np.ndarray, zooms: np.ndarray) -> float:
    """Returns the standard deviation of the logarithm of white over blocks of some centimetres."""
    steps = np.maximum(1, np.round(3.0 / zooms)).astype(int)
    core = core[tuple(slice(None, None, step) for step in steps)]
    block = [max(4, side // 5) for side in core.shape]
    number = [side // width for side, width in zip(core.shape, block, strict=True)]
    core = core[tuple(slice(0, count * width) for count, width in zip(number, block, strict=True))]
    blocks = core.reshape(number[0], block[0], number[1], block[1], number[2], block[2]).transpose(0, 2, 4, 1, 3, 5)
    white = np.percentile(blocks.reshape(*number, -1), 90, axis=3)[_ellipsoid(number)]
    white = white[white > 0.05]
    return float(np.log(white).std()) if len(white) >= 8 else np.nan
