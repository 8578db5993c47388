"""Which voxels of a map of the sexes are more than chance: the maps of permuted people, and the largest of each."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy import ndimage

from mrigen.models import LatentModel
from mrigen.models.batches import BATCH_SIZE, pad_batch
from mrigen.probing.direction import Direction, fit_direction
from mrigen.probing.growth import growth_maps
from mrigen.probing.permutation import permute_by_group

# How often a map of nothing may mark a voxel, anywhere.
ERROR_RATE = 0.05
# Of the permutations, this share says how much a voxel varies by chance, and the others how large the largest is.
SPREAD_SHARE = 1 / 3
# Fewer cannot tell one in twenty.
FEWEST_PERMUTATIONS = 30
# Added to the standard deviation of a map: a grey level of an image of 8 bits, or that share of a volume.
SMALLEST_SPREAD = 1 / 255
# Full width at half maximum of the Gaussian window in which z is averaged: a difference in shape changes voxels on both
# sides of every edge in its reach, and not the voxels between the edges. On a synthetic cohort it was better than
# single voxels, threshold-free cluster enhancement and narrower windows; see docs/explain.md.
WINDOW_MM = 20.0


@dataclasses.dataclass(frozen=True)
class MapTest:
    """A map, and how far it is beyond those of permuted people.

    Attributes:
        values: (x, y, z) float32.
        z: (x, y, z) float32, away from the mean of permuted people's maps, over their standard deviation.
        strength: (x, y, z) float32, the root mean square of z around a voxel, in a window of `WINDOW_MM`.
        threshold: of the strength, which the largest of all maps of nothing exceeds once in 20 times.
        p_value: how often the largest strength of permuted people reaches the map's own; over all voxels, so corrected.
    """

    values: np.ndarray
    z: np.ndarray
    strength: np.ndarray
    threshold: float
    p_value: float

    @property
    def mask(self) -> np.ndarray:
        """(x, y, z) bool, the voxels around which the map is beyond chance."""
        return self.strength > self.threshold


def maps_with_tests(
    model: LatentModel,
    direction: Direction,
    latents: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    sites: np.ndarray,
    confounds: np.ndarray | None = None,
    *,
    zooms: Sequence[float],
    inside: np.ndarray | None = None,
    condition: np.ndarray | None = None,
    num_permutations: int = 300,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, MapTest]:
    """Returns the maps of a direction with their tests, by name; see `decoded_maps`.

    What the latents have beside the confounds is given to other people, and everything is done again: the confounds are
    taken out, the probe is fitted, a woman and a man are decoded. People exchange within sites, and families as wholes.

    Args:
        model: that decodes. direction: of the people as they are; its regularisation stays.
        latents: (n, latent). targets: (n,) int. groups, sites: (n,) str. confounds: (n, confounds) or None.
        zooms: voxel size, mm.
        inside: (x, y, z) bool, the head: nothing is marked elsewhere, and air does not grow; None: everywhere.
        condition: (condition,) covariates of everyone who is decoded, of a model that is told any.
        num_permutations: at least `FEWEST_PERMUTATIONS`.
        seed: of the permutations.
        advance: called with a number of permutations that are done.

    References:
        Freedman and Lane 1983, A nonstochastic interpretation of reported significance levels; Winkler et al. 2014,
        Permutation inference for the general linear model, NeuroImage 92.
        Nichols and Holmes 2002, Nonparametric permutation tests for functional neuroimaging (the largest voxel).
    """
    generator = np.random.default_rng(seed)
    shuffles = (permuted_rows(groups, sites, generator) for _ in range(num_permutations))
    refits = [
        fit_direction(exchanged(latents, confounds, rows), targets, groups, direction.c, confounds) for rows in shuffles
    ]
    num_spread = round(SPREAD_SHARE * num_permutations)
    maps = decoded_maps(model, [direction, *refits], condition)
    if inside is not None:
        maps = (
            found | {"growth": np.where(inside, found["growth"], 0.0)} if "growth" in found else found for found in maps
        )
    observed = {name: np.asarray(values, np.float64) for name, values in next(maps).items()}
    sums = {name: np.zeros((2, *values.shape)) for name, values in observed.items()}
    largest = {name: [] for name in observed}
    centres, spreads = {}, {}
    for number, found in enumerate(maps):
        if number == num_spread:
            for name, (total, squares) in sums.items():
                centres[name] = total / num_spread
                variance = np.maximum(squares - num_spread * centres[name] ** 2, 0.0) / (num_spread - 1)
                # Where nothing is decoded, hardly anything varies: no evidence, not infinite evidence.
                spreads[name] = np.sqrt(variance) + SMALLEST_SPREAD
        for name, values in found.items():
            if number < num_spread:
                sums[name] += values, np.square(values, dtype=np.float64)
            else:
                largest[name].append(float(strength_of((values - centres[name]) / spreads[name], zooms, inside).max()))
        advance(1)
    # One threshold for all maps: the largest of any of them.
    joint = np.sort(np.max(list(largest.values()), axis=0))
    return {
        name: _test(values, (values - centres[name]) / spreads[name], zooms, inside, joint)
        for name, values in observed.items()
    }


def _test(values, z, zooms: Sequence[float], inside: np.ndarray | None, largest: np.ndarray) -> MapTest:
    strength = strength_of(z, zooms, inside)
    # The map itself is one of the permutations; a voxel at the threshold is not beyond it.
    rank = math.ceil((1.0 - ERROR_RATE) * (len(largest) + 1))
    threshold = float(largest[rank - 1]) if rank <= len(largest) else math.inf
    p_value = (1 + int((largest >= strength.max() - 1e-12).sum())) / (1 + len(largest))
    return MapTest(*(part.astype(np.float32) for part in (values, z, strength)), threshold, p_value)


def strength_of(z: np.ndarray, zooms: Sequence[float], inside: np.ndarray | None = None) -> np.ndarray:
    """Returns the root mean square of z (x, y, z) around each voxel `inside`, in a Gaussian window of `WINDOW_MM`."""
    widths = WINDOW_MM / math.sqrt(8.0 * math.log(2.0)) / np.asarray(zooms, float)
    strength = np.sqrt(np.maximum(ndimage.gaussian_filter(np.square(z), widths), 0.0))
    return strength if inside is None else np.where(inside, strength, 0.0)


def permuted_rows(groups: np.ndarray, sites: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns rows (n,) exchanged within sites, families of one size as wholes; see `permute_by_group`."""
    rows = np.arange(len(groups))
    for site in np.unique(sites):
        own = np.flatnonzero(sites == site)
        rows[own] = permute_by_group(own, groups[own], generator)
    return rows


def exchanged(latents: np.ndarray, confounds: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Returns latents (n, latent) in which everybody has what somebody else, of `rows`, has beside the confounds."""
    if confounds is None:
        return latents[rows]
    design = np.concatenate([np.ones((len(latents), 1)), confounds], axis=1)
    explained = design @ np.linalg.lstsq(design, latents, rcond=None)[0]
    return explained + (latents - explained)[rows]


def decoded_maps(
    model: LatentModel, directions: Sequence[Direction], condition: np.ndarray | None
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the maps of the two ends of each direction, each (x, y, z): "difference", the man's image minus the
    woman's, and where a template is warped "growth", the logarithm of how much larger the man's tissue is."""
    decode = model.graph(_sex_maps)
    conditions = None if condition is None else tf.constant(np.repeat(condition[None], BATCH_SIZE, axis=0), tf.float32)
    for first in range(0, len(directions), BATCH_SIZE // 2):
        some = directions[first : first + BATCH_SIZE // 2]
        ends = np.concatenate([way.at(way.ends) for way in some])
        found = decode(pad_batch(tf.constant(ends, tf.float32)), conditions)
        maps = {name: values.numpy() for name, values in found.items()}
        for row in range(len(some)):
            yield {name: values[row] for name, values in maps.items()}


def _sex_maps(model: LatentModel, z: tf.Tensor, condition: tf.Tensor | None) -> dict[str, tf.Tensor]:
    """Returns the maps (pairs, x, y, z) of a woman, a man, a woman, and so on, z (2 pairs, latent)."""
    parts = model.decode_parts(z, condition=condition)
    heads = tf.clip_by_value(parts["reconstruction"][..., 0], 0.0, 1.0)
    maps = {"difference": heads[1::2] - heads[::2]}
    if "velocity" in parts:
        maps["growth"] = growth_maps(model, parts["velocity"][::2], parts["velocity"][1::2])
    return maps
