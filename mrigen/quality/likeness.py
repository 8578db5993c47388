"""How like the cohort a prepared head is: correlation with the mean head, distance from the principal components, and
whether it lies the way the others do."""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import fft

from mrigen.statistics.pca import fit_pca

# People whose mean and principal components stand for the cohort.
MOST_FITTED = 600
MOST_COMPONENTS = 24
FOLDS = 5
# Voxel size on which heads are compared, mm.
COARSE = 8.0


def coarse_zooms(zooms: Sequence[float]) -> tuple[float, ...]:
    """Returns the voxel size (mm) of volumes of `zooms` mm after `coarsen`."""
    return tuple(zoom * factor for zoom, factor in zip(zooms, _factors(zooms), strict=True))


def _factors(zooms: Sequence[float]) -> list[int]:
    return [max(1, round(COARSE / zoom)) for zoom in zooms]


def coarsen(volumes: np.ndarray, zooms: Sequence[float]) -> np.ndarray:
    """Returns volumes (n, x, y, z) uint8 on a grid of about 8 mm, means of whole blocks."""
    factors = _factors(zooms)
    if factors == [1, 1, 1]:
        return np.asarray(volumes)
    sides = [side // factor for side, factor in zip(volumes.shape[1:], factors, strict=True)]
    coarse = np.empty((len(volumes), *sides), np.uint8)
    box = tuple(slice(0, side * factor) for side, factor in zip(sides, factors, strict=True))
    shape = [length for pair in zip(sides, factors, strict=True) for length in pair]
    for index in range(len(volumes)):
        coarse[index] = np.rint(np.asarray(volumes[index])[box].reshape(shape).mean(axis=(1, 3, 5)))
    return coarse


def chosen(count: int) -> np.ndarray:
    """Returns the rows that stand for a cohort of `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_FITTED)).astype(int))


def mean_head(coarse: np.ndarray) -> np.ndarray:
    """Returns the mean (x, y, z) float32 of the heads that are like each other: those that are not are left out."""
    heads = coarse[chosen(len(coarse))].reshape(-1, coarse[0].size).astype(np.float32)
    mean = np.median(heads, axis=0)
    for _ in range(2):
        like = correlations(heads, mean)
        mean = heads[like >= np.median(like) - 2.0 * _spread(like)].mean(axis=0)
    return mean.reshape(coarse.shape[1:])


def likeness(coarse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns the correlation (n,) of each head with the mean of the others."""
    heads, count = coarse.reshape(len(coarse), -1), min(len(coarse), MOST_FITTED)
    found = np.empty(len(heads))
    for index, head in enumerate(heads):
        head = head.astype(np.float32)
        others = mean.ravel() if count < 3 else mean.ravel() - head / count
        found[index] = correlations(head[None], others)[0]
    return found


def correlations(heads: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns the correlation of each row with `mean`."""
    heads, mean = heads - heads.mean(axis=1, keepdims=True), mean - mean.mean()
    norms = np.sqrt(np.einsum("ij,ij->i", heads, heads)) * np.linalg.norm(mean)
    return heads @ mean / np.maximum(norms, 1e-12)


def distances(coarse: np.ndarray, like: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns how far (n,) each head lies from what the principal components of others can show.

    The root of the mean squared residual, intensities in [0, 1]. The components of each fold are fitted on people of
    the other folds whose heads are like the mean.

    Args:
        coarse: (n, x, y, z) uint8.
        like: (n,), see `likeness`.
        seed: of the folds.
    """
    heads = coarse.reshape(len(coarse), -1)
    fold = np.random.default_rng(seed).permutation(len(heads)) % FOLDS
    good = like >= np.median(like) - 3.0 * _spread(like)
    found = np.empty(len(heads))
    for number in range(FOLDS):
        others = np.flatnonzero((fold != number) & good)
        others = others[chosen(len(others))]
        components = min(MOST_COMPONENTS, max(1, len(others) // 4))
        model = fit_pca(heads[others].astype(np.float32) / 255.0, components)
        own = np.flatnonzero(fold == number)
        for part in np.array_split(own, -(-len(own) // 256)):
            if len(part):
                block = heads[part].astype(np.float32) / 255.0
                squares = np.einsum("ij,ij->i", block - model.mean, block - model.mean)
                left = squares - np.square(model.transform(block)).sum(axis=1)
                found[part] = np.sqrt(np.maximum(left, 0.0) / heads.shape[1])
    return found


def find_orientation(
    head: np.ndarray, mean: np.ndarray
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], float, float]:
    """Returns the permutation and flips of axes under which a head is most like the mean, moved as fits best.

    Mirrored heads are not told from others: of each pair the one that is not mirrored stands for both.

    Returns:
        (axes, signs); the correlation with the mean as it is; that of the best.
    """
    side = fft.next_fast_len(int(1.5 * max(head.shape + mean.shape)))
    spectrum = np.conj(fft.rfftn(_standard(mean, side)))
    scores = {}
    for axes in itertools.permutations(range(3)):
        turned = head.transpose(axes)
        for signs in itertools.product((1, -1), repeat=2):
            flipped = turned[:, :: signs[0], :: signs[1]]
            matched = fft.irfftn(fft.rfftn(_standard(flipped, side)) * spectrum, (side,) * 3)
            scores[axes, (1, *signs)] = float(matched.max())
    best = max(scores, key=scores.get)
    return best, scores[(0, 1, 2), (1, 1, 1)], scores[best]


def _standard(head: np.ndarray, side: int) -> np.ndarray:
    """Returns a head in the middle of a cube, of mean 0 and length 1."""
    cube = np.zeros((side,) * 3, np.float32)
    first = [(side - length) // 2 for length in head.shape]
    part = head.astype(np.float32)
    cube[tuple(slice(low, low + length) for low, length in zip(first, head.shape, strict=True))] = part
    cube -= cube.mean()
    return cube / max(float(np.linalg.norm(cube)), 1e-12)


def _spread(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) + 1e-3
