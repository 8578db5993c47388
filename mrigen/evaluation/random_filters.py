"""Small 3D networks whose convolutions are random and stay so; a linear classifier is fitted to what they put out.

With some dozens of heads a network that is trained throughout learns little that a random one does not see, and takes a
thousand times as long.

References:
    Saxe et al. 2011, On random weights and unsupervised feature learning, ICML. Dempster, Petitjean and Webb 2020,
    ROCKET: exceptionally fast and accurate time series classification using random convolutional kernels, Data Mining
    and Knowledge Discovery 34.
"""

import numpy as np

# Whole volumes are averaged in blocks until no side is longer than this.
LONGEST_SIDE = 64
# Filters of the layers of the network on whole volumes, and of the one on patches.
LAYERS, PATCH_FILTERS = (16, 32, 64), 48
# Cells along each axis that a layer's output is averaged over.
CELLS = 3
# Patches of a head, at most, and their side in voxels.
MOST_PATCHES, PATCH_SIDE = 64, 10
_FAINT = 1e-6


class VolumeNetwork:
    """Three layers of random 3 x 3 x 3 filters, each rectified and halved in resolution.

    Each layer gives the mean of its output over 3 x 3 x 3 cells of the volume and, over all of it, the size of its
    responses, how they are distributed and the share of positive ones.

    Args:
        seed: of filters.
    """

    def __init__(self, seed: int = 0):
        generator = np.random.default_rng([seed, 5])
        self._layers = []
        inputs = 1
        for width in LAYERS:
            self._layers.append(_random_filters(generator, width, inputs))
            inputs = width

    def __call__(self, volumes: np.ndarray) -> np.ndarray:
        """Returns what the network puts out for volumes (n, x, y, z): (n, features) float32."""
        factor = shrinking(volumes.shape[1:])
        return np.stack([self._features(coarsened(volume, factor)) for volume in volumes])

    def _features(self, volume: np.ndarray) -> np.ndarray:
        maps, features = volume[..., None].astype(np.float32), []
        for filters in self._layers:
            if min(maps.shape[:3]) < 3:
                break
            response = _convolved(maps, filters)
            active = np.maximum(response, 0.0)
            features += [_cell_means(active).ravel(), _spreads(response)]
            maps = _halved(active)
        return np.concatenate(features)


class PatchNetwork:
    """Random 3 x 3 x 3 filters, half of them with holes (dilation 2), on patches of 10 x 10 x 10 voxels.

    Over a patch each filter gives the logarithm of the mean size of its responses, two figures of how these are
    distributed, and the share of positive ones; mean and standard deviation of the patch come with them. The score
    that a linear classifier gives to the mean over patches is the mean of the scores of patches.

    Args:
        head: (x, y, z) bool, in which patches lie.
        seed: of filters.
    """

    def __init__(self, head: np.ndarray, seed: int = 0):
        self._filters = _random_filters(np.random.default_rng([seed, 6]), PATCH_FILTERS, 1)
        self.corners = patch_corners(head)

    def __call__(self, volumes: np.ndarray) -> np.ndarray:
        """Returns what the network puts out for volumes (n, x, y, z), mean over patches: (n, features) float32."""
        return np.stack([self.of_patches(volume).mean(axis=0) for volume in volumes])

    def of_patches(self, volume: np.ndarray) -> np.ndarray:
        """Returns what the network puts out for each patch of a volume (x, y, z): (patches, features) float32."""
        side = np.minimum(PATCH_SIDE, volume.shape)
        places = [tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True)) for corner in self.corners]
        patches = np.stack([volume[place] for place in places])
        flat, half = patches.reshape(len(patches), -1), PATCH_FILTERS // 2
        features = [flat.mean(axis=1)[:, None], flat.std(axis=1)[:, None]]
        for filters, dilation in ((self._filters[:half], 1), (self._filters[half:], 2)):
            response = _convolved_patches(patches, filters, dilation).reshape(len(patches), -1, len(filters))
            size = np.abs(response)
            mean, square = size.mean(axis=1) + _FAINT, np.sqrt((response**2).mean(axis=1)) + _FAINT
            largest = size.max(axis=1) + _FAINT
            features += [np.log(mean), np.log(mean / square), np.log(largest / square), (response > 0.0).mean(axis=1)]
        return np.concatenate(features, axis=1).astype(np.float32)


def shrinking(volume_shape) -> int:
    """Returns by how much a volume is coarsened so that no side is longer than `LONGEST_SIDE` voxels."""
    return -(-max(volume_shape) // LONGEST_SIDE)


def coarsened(volume: np.ndarray, factor: int) -> np.ndarray:
    """Returns a volume (x, y, z) whose voxels are the means of blocks of `factor` voxels along each axis; what is left
    over at the far ends is left out."""
    if factor == 1:
        return volume
    shape = [side // factor for side in volume.shape]
    cut = volume[tuple(slice(0, side * factor) for side in shape)]
    return cut.reshape(shape[0], factor, shape[1], factor, shape[2], factor).mean(axis=(1, 3, 5))


def patch_corners(head: np.ndarray) -> np.ndarray:
    """Returns where patches begin, (patches, 3) int: at most `MOST_PATCHES`, spread over `head` (x, y, z) bool, with
    their middle in it; one in the middle of the grid where there is no head."""
    side = np.minimum(PATCH_SIDE, head.shape)
    for step in range(2, max(head.shape) + 1):
        starts = [np.arange(most % step // 2, most + 1, step) for most in np.array(head.shape) - side]
        corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
        corners = corners[head[tuple((corners + side // 2).T)]]
        if len(corners) <= MOST_PATCHES:
            break
    return corners if len(corners) else ((np.array(head.shape) - side) // 2)[None]


def _random_filters(generator, count: int, inputs: int) -> np.ndarray:
    """Returns (count, 27 * inputs) float32 filters: without sum, with norm 1."""
    filters = generator.standard_normal((count, 27, inputs))
    filters -= filters.mean(axis=1, keepdims=True)
    filters = filters.reshape(count, -1)
    return (filters / np.linalg.norm(filters, axis=1, keepdims=True)).astype(np.float32)


def _windows(maps: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Returns the 27 neighbours of each voxel that has all of them, (x, y, z, 27, c) of maps (x, y, z, c)."""
    reach = 2 * dilation
    sides = [length - reach for length in maps.shape[:3]]
    offsets = np.ndindex(3, 3, 3)
    return np.stack(
        [
            maps[tuple(slice(dilation * o, dilation * o + side) for o, side in zip(offset, sides, strict=True))]
            for offset in offsets
        ],
        axis=3,
    )


def _convolved(maps: np.ndarray, filters: np.ndarray) -> np.ndarray:
    windows = _windows(maps)
    return windows.reshape(*windows.shape[:3], -1) @ filters.T


def _convolved_patches(patches: np.ndarray, filters: np.ndarray, dilation: int) -> np.ndarray:
    """Returns (patches, x, y, z, filters) of patches (patches, x, y, z)."""
    windows = _windows(np.moveaxis(patches, 0, -1), dilation)
    return np.einsum("xyzkp,fk->pxyzf", windows, filters, optimize=True)


def _halved(maps: np.ndarray) -> np.ndarray:
    x, y, z = (side // 2 for side in maps.shape[:3])
    cut = maps[: 2 * x, : 2 * y, : 2 * z]
    return cut.reshape(x, 2, y, 2, z, 2, -1).mean(axis=(1, 3, 5))


def _cell_means(maps: np.ndarray) -> np.ndarray:
    parts = [np.array_split(np.arange(side), min(CELLS, side)) for side in maps.shape[:3]]
    for axis, part in enumerate(parts):
        starts = [indices[0] for indices in part]
        lengths = np.array([len(indices) for indices in part]).reshape([-1 if i == axis else 1 for i in range(4)])
        maps = np.add.reduceat(maps, starts, axis=axis) / lengths
    return maps.astype(np.float32)


def _spreads(response: np.ndarray) -> np.ndarray:
    flat = response.reshape(-1, response.shape[-1])
    square, size = np.sqrt((flat**2).mean(axis=0)) + _FAINT, np.abs(flat).mean(axis=0) + _FAINT
    return np.concatenate([np.log(square), np.log(size / square), (flat > 0.0).mean(axis=0)]).astype(np.float32)
