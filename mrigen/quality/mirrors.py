"""Which heads are perhaps mirrored: judged by what makes left and right differ in most heads of the cohort."""

import numpy as np

from mrigen.quality.likeness import chosen

# Of an asymmetry (grey levels); what is larger is a tilted head.
CLIPPED = 60.0
# Of the ridge regression, in mean squared lengths.
RIDGE = 1.0
# Share of mirrored heads that is expected before anything was seen.
PRIOR = 0.01
# Below this the heads of the cohort do not agree on their asymmetry: median over spread.
AGREEMENT = 2.0


def mirrored_probability(coarse: np.ndarray, fitted: np.ndarray) -> np.ndarray | None:
    """Returns how likely each head is mirrored, (n,), if nearly all others are not.

    A head's asymmetry (the difference of its halves about its own middle) is weighed by a ridge regression that is to
    give 1 for everyone, each head by weights that did not see it. A mirrored head gives the opposite. The cohort's
    asymmetry is that of brains (the right frontal and left occipital lobes are larger) and that of the scanner: it says
    nothing if the whole cohort is mirrored.

    Args:
        coarse: (n, x, y, z) uint8; see `coarsen`.
        fitted: rows that stand for the cohort, which are heads as the others.

    Returns:
        None where the heads of the cohort do not agree on their asymmetry.
    """
    rows = fitted[chosen(len(fitted))]
    halves = np.stack([asymmetry(coarse[row]) for row in rows])
    gram = halves @ halves.T
    ridge = RIDGE * np.trace(gram) / len(gram)
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    hat = gram @ inverse
    weights = halves.T @ inverse.sum(axis=1)
    scores = np.array([asymmetry(head) @ weights for head in coarse])
    scores[rows] = (hat.sum(axis=1) - np.diag(hat)) / (1.0 - np.diag(hat))
    middle = float(np.median(scores))
    spread = 1.4826 * float(np.median(np.abs(scores - middle))) + 1e-6
    if middle < AGREEMENT * spread:
        return None
    log_odds = -2.0 * middle * scores / spread**2 + np.log(PRIOR / (1.0 - PRIOR))
    return 1.0 / (1.0 + np.exp(-np.clip(log_odds, -50.0, 50.0)))


def asymmetry(head: np.ndarray) -> np.ndarray:
    """Returns the right half of a head (x, y, z) minus its left one, about the plane where they are most alike; flat,
    of length 1."""
    head = head.astype(np.float32)
    side = len(head)
    # Each head against its own mirror image, at every shift: an autoconvolution along x.
    matched = np.fft.irfft((np.fft.rfft(head, 2 * side, axis=0) ** 2).sum(axis=(1, 2)), 2 * side)
    peak = int(np.argmax(matched[1:-1])) + 1
    before, best, after = matched[peak - 1 : peak + 2]
    curvature = before - 2.0 * best + after
    centre = (peak + (0.5 * (before - after) / curvature if curvature else 0.0)) / 2.0
    steps = np.arange(side // 2) + 0.5
    difference = np.clip(_at(head, centre + steps) - _at(head, centre - steps), -CLIPPED, CLIPPED).ravel()
    return difference / max(float(np.linalg.norm(difference)), 1e-6)


def _at(head: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the slices of a head at places along x, by linear interpolation; 0 outside."""
    first = np.floor(places).astype(int)
    share = (places - first).astype(np.float32)[:, None, None]
    padded = np.pad(head, ((1, 1), (0, 0), (0, 0)))
    low, high = (np.clip(first + step, 0, len(padded) - 1) for step in (1, 2))
    return (1.0 - share) * padded[low] + share * padded[high]
