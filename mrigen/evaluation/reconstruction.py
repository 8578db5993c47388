"""How well are people reconstructed whom nothing was learned from: by a run, by PCA, and by the mean head."""

import dataclasses
from collections.abc import Mapping

import joblib
import numpy as np
from scipy import ndimage

from mrigen.errors import UsageError
from mrigen.evaluation.bootstrap import drawn_means, mean_interval, percentiles
from mrigen.evaluation.heads import FLOOR, MEAN, PCA, SAMPLES, Heads, Material
from mrigen.evaluation.pictures import plot_groups
from mrigen.evaluation.result import HIGHER, LOWER, FigureKind, PartResult, Row
from mrigen.evaluation.similarity import num_scales, similarities

REGIONS = {"brain": "in the brain", "head": "in the head"}
MEASURES = {
    "mse": ("mean squared error, intensities 0 to 1,", LOWER),
    "psnr": ("peak signal-to-noise ratio, dB,", HIGHER),
    "ssim": ("structural similarity", HIGHER),
    "ms_ssim": ("structural similarity over scales", HIGHER),
}
FIGURES: Mapping[str, FigureKind] = {
    **{
        f"reconstruction_{name}_{region}": FigureKind(f"{words} {where}", better)
        for name, (words, better) in MEASURES.items()
        for region, where in REGIONS.items()
    },
    **{
        f"reconstruction_over_pca_{region}": FigureKind(f"mean squared error over that of PCA {where}", LOWER)
        for region, where in REGIONS.items()
    },
}
# What is brighter than this belongs to a head, as an intensity.
DARK = 0.05
LEAST_ERROR = 1e-12


@dataclasses.dataclass(frozen=True)
class Scores:
    """How near some heads are to others: measure -> (n, regions); NaN where a head has no such region."""

    values: Mapping[str, np.ndarray]
    families: np.ndarray


def judge(material: Material) -> PartResult:
    """Returns how well people are reconstructed.

    Rows are of "samples" (the run, never-seen people), "training" (the run, people it learned from: what lies between
    both is learned by heart), "pca" and "mean" (never-seen people).

    Raises:
        UsageError: there is no run.
    """
    if material.run is None:
        raise UsageError("got no run, expected one: samples alone reconstruct nobody. Name a run.", "run")
    from mrigen.analysis.rivals import teach_pca

    run, unseen, notes = material.run, material.unseen, []
    model = run.load_model()
    counted = np.asarray(model.apply_mask(np.ones((1, *unseen.volumes.shape[1:], 1), np.float32)))[0, ..., 0] > 0
    if not counted.all():
        notes.append(f"Only the {counted.mean():.0%} of the voxels that the run reconstructs are looked at.")
    pca, num_copies = teach_pca(material.taught.volumes, model.latent_size, run.recipe.training, material.zooms)
    flat = pca.reconstruct(unseen.volumes.reshape(len(unseen), -1))
    made = {SAMPLES: (unseen, reconstruct(run, model, unseen))}
    if FLOOR in material.contenders:
        floor = material.contenders[FLOOR]
        made[FLOOR] = (floor, reconstruct(run, model, floor))
    made[PCA] = (unseen, np.clip(flat.reshape(unseen.volumes.shape), 0.0, 1.0))
    mean = material.taught.volumes.mean(axis=0)
    made[MEAN] = (unseen, np.broadcast_to(mean, unseen.volumes.shape))
    scores = {name: score(heads, volumes, counted) for name, (heads, volumes) in made.items()}
    rows = []
    for measure in MEASURES:
        for index, region in enumerate(REGIONS):
            figure = f"reconstruction_{measure}_{region}"
            rows += [_mean(figure, of, own, measure, index, material.seed) for of, own in scores.items()]
    for index, region in enumerate(REGIONS):
        figure = f"reconstruction_over_pca_{region}"
        rows += [_ratio(figure, of, scores[of], scores[PCA], index, material.seed) for of in (SAMPLES, MEAN)]
    lost = int((~np.isfinite(scores[SAMPLES].values["mse"][:, 0])).sum())
    if lost:
        notes.append(f"{lost} of {len(unseen)} people have no brain to speak of; they are left out.")
    scales = num_scales(unseen.volumes.shape[1:])
    facts = {
        "pca": {"num_components": len(pca.components), "num_people": len(material.taught), "num_copies": num_copies},
        "num_scales": scales,
    }
    groups = {
        "never seen": unseen,
        "reconstruction": dataclasses.replace(unseen, volumes=made[SAMPLES][1]),
        f"PCA, {len(pca.components)}": dataclasses.replace(unseen, volumes=made[PCA][1]),
    }
    pictures = {"reconstruction": plot_groups(groups, material.zooms, material.is_oriented)}
    return PartResult(tuple(rows), tuple(notes), pictures, facts)


def reconstruct(run, model, heads: Heads) -> np.ndarray:
    """Returns what a model makes of heads, (n, x, y, z) in [0, 1]: what the means of their posteriors stand for."""
    from mrigen.runs.encoding import decode_latents, encode_volumes

    latents = encode_volumes(model, np.rint(255.0 * heads.volumes).astype(np.uint8))["loc"]
    conditions = run.conditions(heads.people["scan_id"]) if "scan_id" in heads.people else None
    return np.clip(decode_latents(model, latents, conditions), 0.0, 1.0)


def head_of(volume: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Returns what of an image is head, (x, y, z) bool: the largest piece that is not dark, without its holes."""
    pieces, count = ndimage.label((volume >= DARK) | brain)
    if not count:
        return np.zeros(volume.shape, bool)
    return ndimage.binary_fill_holes(pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax()))


def score(heads: Heads, volumes: np.ndarray, counted: np.ndarray) -> Scores:
    """Returns how near `volumes` (n, x, y, z) are to heads, by the brain and the head of the latter.

    Args:
        heads: real ones. volumes: their reconstructions, in [0, 1].
        counted: (x, y, z) bool, voxels that are looked at.
    """
    found = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(_score_one)(volume, other, brain, counted)
        for volume, other, brain in zip(heads.volumes, volumes, heads.brains, strict=True)
    )
    table = np.array(found)
    return Scores({name: table[..., column] for column, name in enumerate(MEASURES)}, heads.families)


def _score_one(volume, other, brain, counted) -> np.ndarray:
    """Returns the measures (regions, measures) of one head."""
    masks = {"brain": brain & counted, "head": head_of(volume, brain) & counted}
    box = ndimage.find_objects(masks["head"].astype(np.uint8))
    if not box:
        return np.full((len(masks), len(MEASURES)), np.nan)
    similar = similarities(volume, other, masks)
    rows = []
    for name, mask in masks.items():
        if not mask.any():
            rows.append([np.nan] * len(MEASURES))
            continue
        error = float(np.square(volume[mask] - other[mask], dtype=np.float64).mean())
        rows.append([error, -10.0 * np.log10(max(error, LEAST_ERROR)), *similar[name]])
    return np.array(rows)


def _mean(figure: str, of: str, scores: Scores, measure: str, index: int, seed: int) -> Row:
    values = scores.values[measure][:, index]
    kept = np.isfinite(values)
    if kept.sum() < 2:
        return Row(figure, of, None, n=int(kept.sum()), note="too few brains")
    low, high = mean_interval(values[kept], scores.families[kept], [seed, 30])
    return Row(figure, of, float(values[kept].mean()), low, high, n=int(kept.sum()))


def _ratio(figure: str, of: str, own: Scores, pca: Scores, index: int, seed: int) -> Row:
    """Returns the error over that of PCA, of the same people."""
    errors = np.stack([own.values["mse"][:, index], pca.values["mse"][:, index]], axis=1)
    kept = np.isfinite(errors).all(axis=1)
    if kept.sum() < 2 or not errors[kept, 1].mean() > 0.0:
        return Row(figure, of, None, n=int(kept.sum()), note="too few brains")
    families = own.families[kept]
    draws = drawn_means(errors[kept], families, [seed, 31])
    low, high = percentiles(draws[:, 0] / draws[:, 1], len(np.unique(families)))
    return Row(figure, of, float(errors[kept, 0].mean() / errors[kept, 1].mean()), low, high, n=int(kept.sum()))
