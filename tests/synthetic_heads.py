"""Small heads that the parts of an evaluation are tried on: synthetic people made in memory, whose truth is known."""

import functools

import numpy as np

from mrigen.data.phantom_anatomy import load_template, subject_grid
from mrigen.data.phantom_factors import PhantomSettings, draw_factors
from mrigen.data.phantom_scanner import scan_subject
from mrigen.evaluation.contenders import made_people, mean_volumes, moved_copies, pca_volumes, quantised
from mrigen.evaluation.heads import COPIES, FLOOR, MEAN, PCA, SAMPLES, Heads, Material


@functools.cache
def synthetic_people(count: int, first: int = 0, zooms: float = 8.0, seed: int = 0, anatomy: str = "warped") -> Heads:
    """Returns `count` people of the synthetic cohort, from number `first` on: brains without skull, truth in `people`.

    Each takes a good part of a second, and those of earlier calls are kept: ask for the same ones again.
    """
    settings = PhantomSettings(num_subjects=first + count, seed=seed, zooms=zooms, anatomy=anatomy, num_sites=1)
    template = load_template(zooms) if anatomy == "warped" else None
    people = draw_factors(settings).iloc[first:].reset_index(drop=True)
    volumes, brains = [], []
    for index, row in enumerate(people.to_dict("records")):
        volume, mask, _, _ = scan_subject(template, settings, first + index, row)
        volumes.append(quantised(volume / np.percentile(volume[mask > 0], 99.5)))
        brains.append(mask > 0)
    return Heads(np.stack(volumes).astype(np.float32), people, np.stack(brains))


def make_material(samples: np.ndarray | Heads, count: int = 24, zooms: float = 8.0, **settings) -> Material:
    """Returns the material of an evaluation of `samples` (as many volumes as `count`, or heads).

    People 0 to count - 1 are never seen, the next 2 * count are taught. Settings go to `synthetic_people`.
    """
    unseen = synthetic_people(count, 0, zooms, **settings)
    taught = synthetic_people(2 * count, count, zooms, **settings)
    floor, sides = taught.take(np.arange(count)), (zooms,) * 3

    def heads(volumes, name):
        return Heads(volumes, made_people(len(volumes), name), np.stack([volume > 0.1 for volume in volumes]))

    contenders = {
        SAMPLES: samples if isinstance(samples, Heads) else heads(samples, SAMPLES),
        FLOOR: floor,
        PCA: heads(pca_volumes(taught.volumes, count, 16), PCA),
        MEAN: heads(mean_volumes(taught.volumes, count), MEAN),
        COPIES: heads(moved_copies(floor, sides), COPIES),
    }
    return Material(unseen, taught, contenders, sides, subject_grid(zooms)[1])
