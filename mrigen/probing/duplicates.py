"""Which images are the same image twice."""

import numpy as np

# Prepared images of two people correlate less than this; two files of one image, and two scans of one visit, more.
SAME_IMAGE = 0.998


def same_images(volumes: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Returns the pairs (row of `volumes`, row of `others`) that correlate above `SAME_IMAGE`, (pairs, 2) int.

    Args:
        volumes: (n, ...), flattened for the comparison.
        others: (m, ...); `volumes` themselves if None, each pair then once and nobody beside themselves.
    """
    first = _standardized(volumes)
    if others is None:
        return np.argwhere(np.triu(first @ first.T, 1) > SAME_IMAGE)
    return np.argwhere(first @ _standardized(others).T > SAME_IMAGE)


def _standardized(volumes: np.ndarray) -> np.ndarray:
    flat = volumes.reshape(len(volumes), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
