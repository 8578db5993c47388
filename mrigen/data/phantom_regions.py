"""Regions of the cortex: they grow from seeds through tissue, slower where there is fluid, never across the middle."""

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

__all__ = ["grow_regions"]

LEAST_TISSUE = 0.1


def grow_regions(tissue: np.ndarray, points: np.ndarray, seeds: np.ndarray, head_starts: np.ndarray) -> np.ndarray:
    """Returns the region (x, y, z) of every voxel: which seed's growth reaches it first.

    Growth is followed on every second voxel. What it never reaches has the nearest seed.

    Args:
        tissue: (x, y, z), how much of each voxel is tissue, 0 to 1.
        points: (3, x, y, z) coordinates in mm; x < 0 is left.
        seeds: (2, regions, 3) in mm, left and right.
        head_starts: (2, regions) in mm.

    Returns:
        (x, y, z) int64, the number of the seed, those of the left first.
    """
    every_second = tuple(slice(None, None, 2) for _ in range(3))
    coarse, places = tissue[every_second], points[(slice(None), *every_second)]
    side = (places[0] > 0).astype(int)
    nearest = np.zeros(coarse.shape, int)
    num_regions = seeds.shape[1]
    for half in (0, 1):
        own = side == half
        nearest[own] = cKDTree(seeds[half]).query(places[:, own].T)[1] + half * num_regions
    grows = coarse > LEAST_TISSUE
    number = np.full(coarse.shape, -1)
    number[grows] = np.arange(grows.sum())
    starts, ends, costs = [], [], []
    for axis in range(3):
        here = tuple(slice(None, -1) if other == axis else slice(None) for other in range(3))
        there = tuple(slice(1, None) if other == axis else slice(None) for other in range(3))
        joined = grows[here] & grows[there] & (side[here] == side[there])
        length = np.linalg.norm(places[(slice(None), *there)] - places[(slice(None), *here)], axis=0)
        starts.append(number[here][joined])
        ends.append(number[there][joined])
        costs.append(length[joined] / ((coarse[here] + coarse[there])[joined] / 2) ** 2)
    # A node before each seed: the edge from it is as long as the others' head start.
    positions, total = places[:, grows].T, int(grows.sum())
    sides, rows = side[grows], np.arange(total)
    # A seed that was drawn across the middle begins at the middle.
    first = np.concatenate(
        [rows[sides == half][cKDTree(positions[sides == half]).query(seeds[half])[1]] for half in (0, 1)]
    )
    waits = head_starts.max() - head_starts.ravel() + 1.0
    starts.append(total + np.arange(len(first)))
    ends.append(first)
    costs.append(waits)
    edges = (np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends)))
    graph = scipy.sparse.csr_array(edges, shape=(total + len(first),) * 2)
    _, _, sources = dijkstra(
        graph, directed=False, indices=total + np.arange(len(first)), min_only=True, return_predecessors=True
    )
    found = sources[:total] - total
    nearest[grows] = np.where(found >= 0, found, nearest[grows])
    regions = nearest
    for axis in range(3):
        regions = regions.repeat(2, axis=axis).take(np.arange(tissue.shape[axis]), axis=axis)
    # Where a coarse voxel lies across the middle, its half on the other side has the nearest of that side.
    strays = (points[0] > 0) != (regions >= num_regions)
    for half in (0, 1):
        lost = strays & ((points[0] > 0) == half)
        own = side == half
        if lost.any():
            at = cKDTree(places[:, own].T).query(points[:, lost].T)[1]
            regions[lost] = nearest[own][at]
    return regions
