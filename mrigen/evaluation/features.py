"""Spaces in which heads are compared: a few numbers a head, by ways that need no download and know no sample.

A space is a function of the material; what it returns has the features of each group of heads, (n, d). Another one (a
network of the reader's own) is given to `mrigen.evaluation.distribution.judge` under a name, as those of `SPACES`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mrigen.evaluation.heads import FLOOR, Heads, Material
from mrigen.statistics.pca import fit_pca

# Groups beside the contenders: never-seen people; taught people who are not in the floor, by whom a space is made.
UNSEEN, OTHERS = "unseen", "others"
# Fewer others than this make no space: then all taught people do, and the floor is too low.
FEWEST_OTHERS, MOST_OTHERS = 12, 128
NUM_COMPONENTS = 20
# Output channels of the stages of the random network, and the side of its filters.
CHANNELS, SIDE = (8, 16, 32), 3

Space = Callable[[Material], Mapping[str, np.ndarray]]


def groups(material: Material) -> dict[str, Heads]:
    """Returns the heads whose features are wanted: `OTHERS`, `UNSEEN` and each contender."""
    return {OTHERS: others(material), UNSEEN: material.unseen, **material.contenders}


def others(material: Material) -> Heads:
    """Returns taught people of no family of the floor, at most `MOST_OTHERS`; all taught people where those are few."""
    taken = material.contenders[FLOOR].families if FLOOR in material.contenders else np.zeros(0, str)
    rows = np.flatnonzero(~np.isin(material.taught.families, taken))
    if len(rows) < FEWEST_OTHERS:
        rows = np.arange(len(material.taught))
    if len(rows) > MOST_OTHERS:
        rows = np.sort(np.random.default_rng([material.seed, 11]).choice(rows, MOST_OTHERS, replace=False))
    return material.taught.take(rows)


def pca_scores(material: Material) -> dict[str, np.ndarray]:
    """Returns scores on the leading principal components of `others`; people of the floor are as new to them as those
    never seen are."""
    heads = groups(material)
    model = fit_pca(_flat(heads[OTHERS]), min(NUM_COMPONENTS, len(heads[OTHERS]) // 2))
    return {name: model.transform(_flat(group)) for name, group in heads.items()}


def random_network(material: Material) -> dict[str, np.ndarray]:
    """Returns what an untrained 3D network sees, (n, 112 at most): mean and standard deviation of each channel.

    Three stages of 3x3x3 convolution, ReLU and mean pooling by 2; weights are Gaussian draws of one seed for good, each
    filter of mean 0 and norm 1, so that features compare across runs on one grid.

    References:
        Saxe et al. 2011, On random weights and unsupervised feature learning (untrained features as a baseline).
        Qiao et al. 2019, Micro-batch training with batch-channel normalization and weight standardization.
    """
    filters = _filters()
    return standardised(
        {
            name: np.stack([_responses(volume, filters) for volume in group.volumes])
            for name, group in groups(material).items()
        }
    )


def morphometry(material: Material) -> dict[str, np.ndarray]:
    """Returns volumes, extents, places and tissue shares, (n, 13 at most).

    Volumes of head and brain (ml), extents of both (mm), where the brain's centre lies from the head's (back to front,
    bottom to top, mm), the part of the brain's voxels in the darkest and the brightest of three classes (cut where the
    intensities of `others` are), and the brain's share of the head.
    """
    heads = groups(material)
    cuts = _tissue_cuts(heads[OTHERS])
    zooms = np.asarray(material.zooms, float)
    return standardised(
        {
            name: np.stack([_measure(*pair, zooms, cuts) for pair in zip(group.volumes, group.brains, strict=True)])
            for name, group in heads.items()
        }
    )


SPACES: dict[str, Space] = {"pca": pca_scores, "network": random_network, "morphometry": morphometry}
WORDS = {
    "pca": "scores on principal components of training people",
    "network": "an untrained 3D network",
    "morphometry": "volumes, extents and tissue shares",
}


def scaled(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns features (n, d) in units in which the variance of `OTHERS` (or of `UNSEEN`, where there are none) is 1 in
    all: the sum over features."""
    reference = np.asarray(features.get(OTHERS, features[UNSEEN]), float)
    total = float(reference.var(axis=0).sum())
    divisor = np.sqrt(total) if total > 0.0 else 1.0
    return {name: (np.asarray(values, float) - reference.mean(axis=0)) / divisor for name, values in features.items()}


def standardised(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns those features (n, d) that vary among `OTHERS`, each of standard deviation 1 there."""
    reference = np.asarray(features[OTHERS], float)
    loc, scale = reference.mean(axis=0), reference.std(axis=0)
    kept = scale > 1e-6 * np.maximum(np.abs(reference).max(axis=0), 1e-12)
    if not kept.any():
        return {name: np.zeros((len(values), 1)) for name, values in features.items()}
    return {name: (np.asarray(values, float)[:, kept] - loc[kept]) / scale[kept] for name, values in features.items()}


def _flat(heads: Heads) -> np.ndarray:
    return heads.volumes.reshape(len(heads), -1)


def _filters() -> list[np.ndarray]:
    """Returns the weights of each stage, (27 * channels in, channels out) float32."""
    rng, made, before = np.random.default_rng(20240229), [], 1
    for channels in CHANNELS:
        weights = rng.standard_normal((SIDE**3 * before, channels))
        weights -= weights.mean(axis=0)
        made.append((weights / np.linalg.norm(weights, axis=0)).astype(np.float32))
        before = channels
    return made


def _responses(volume: np.ndarray, filters: list[np.ndarray]) -> np.ndarray:
    """Returns the mean and the standard deviation of each channel of each stage."""
    maps, found = np.asarray(volume, np.float32)[..., None], []
    for weights in filters:
        maps = np.maximum(_convolve(maps, weights), 0.0)
        found += [maps.mean(axis=(0, 1, 2), dtype=float), maps.std(axis=(0, 1, 2), dtype=float)]
        maps = _halve(maps)
    return np.concatenate(found)


def _convolve(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the convolution of maps (x, y, z, c) with `weights` (27 c, k): (x, y, z, k); 0 outside."""
    padded = np.pad(maps, [(1, 1)] * 3 + [(0, 0)])
    # (x, y, z, c, 3, 3, 3), without a copy; a slab at a time is copied.
    patches = np.lib.stride_tricks.sliding_window_view(padded, (SIDE,) * 3, axis=(0, 1, 2))
    return np.stack([slab.reshape(-1, len(weights)) @ weights for slab in patches]).reshape(
        *maps.shape[:3], weights.shape[1]
    )


def _halve(maps: np.ndarray) -> np.ndarray:
    """Returns means of 2x2x2 voxels; a last odd voxel is left out, a side of one voxel stays."""
    for axis in range(3):
        half = maps.shape[axis] // 2
        if half:
            even, odd = np.take(maps, range(0, 2 * half, 2), axis), np.take(maps, range(1, 2 * half, 2), axis)
            maps = (even + odd) / 2.0
    return maps


def _tissue_cuts(heads: Heads) -> np.ndarray:
    """Returns the two intensities, as parts of a brain's 95th percentile, between which the grey class lies."""
    from sklearn.cluster import KMeans

    rng, drawn = np.random.default_rng(0), []
    for volume, brain in zip(heads.volumes, heads.brains, strict=True):
        inside = volume[brain]
        if inside.size:
            drawn.append(rng.choice(inside, 500) / max(float(np.percentile(inside, 95)), 1e-6))
    if not drawn or np.ptp(np.concatenate(drawn)) == 0:
        return np.array([1.0 / 3.0, 2.0 / 3.0])
    values = np.concatenate(drawn)[:, None]
    centres = np.sort(KMeans(3, n_init=4, random_state=0).fit(values).cluster_centers_.ravel())
    return (centres[1:] + centres[:-1]) / 2.0


def _measure(volume: np.ndarray, brain: np.ndarray, zooms: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    litre = float(np.prod(zooms)) / 1000.0
    head = volume > 0.15 * max(float(np.percentile(volume, 99)), 1e-6)
    inside = volume[brain]
    relative = inside / max(float(np.percentile(inside, 95)), 1e-6) if inside.size else np.zeros(1)
    (head_centre, head_extent), (brain_centre, brain_extent) = _place(head, zooms), _place(brain, zooms)
    return np.array(
        [
            litre * head.sum(),
            litre * brain.sum(),
            brain.sum() / max(int(head.sum()), 1),
            *head_extent,
            *brain_extent,
            *(brain_centre - head_centre)[1:],
            (relative < cuts[0]).mean(),
            (relative > cuts[1]).mean(),
        ]
    )


def _place(mask: np.ndarray, zooms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centre of a mask, and between which places 98 % of it lie along each axis, mm."""
    places = np.argwhere(mask) * zooms
    if not len(places):
        return np.zeros(3), np.zeros(3)
    low, high = np.percentile(places, [1, 99], axis=0)
    return places.mean(axis=0), high - low
