"""Whether the volumes of regions, and what goes with them, are those of people; by a segmenter that no run has taught.

Volumes are relative to the brain. Regions are the labels of the cohort (see `mrigen.evaluation.labels`); where it has
none, three tissues stand in.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mrigen.evaluation.anatomy_measures import (
    NUM_BOOTSTRAPS,
    bootstrapped,
    by_family,
    cohens_d,
    correlation_distance,
    interval,
    median,
    number,
    permuted,
    ratio,
    slopes_of,
    wasserstein,
)
from mrigen.evaluation.anatomy_pictures import SMALL, plot_labels, plot_regions
from mrigen.evaluation.anatomy_study import FEWEST_HEADS, UNSEEN, Measured, Study
from mrigen.evaluation.heads import COPIES, FLOOR, SAMPLES, Material
from mrigen.evaluation.normative import NormativeTable
from mrigen.evaluation.result import HIGHER, LOWER, ONE, FigureKind, PartResult, Row

# Regions whose volumes are correlated with each other: the largest ones.
MOST_CORRELATED = 30
# A head passes the gate whose farthest region is no farther out than that of this share of real people.
GATE = 0.95
# Real slopes of which less than this share is more than noise are none to compare with.
LEAST_SIGNAL = 0.25
FEWEST_AGES = 8

FIGURES: Mapping[str, FigureKind] = {
    "region_d_median": FigureKind("Cohen's d of relative volumes, without sign, median over regions", LOWER),
    "region_d_share_small": FigureKind("regions whose d is at most 0.2 above the floor's median", HIGHER),
    "region_w2_median": FigureKind("Wasserstein-2 of relative volumes, in real standard deviations, median", LOWER),
    "region_sd_ratio": FigureKind("spread of relative volumes over that of people, median over regions", ONE),
    "region_correlation_distance": FigureKind("distance of correlations between regions, root mean square", LOWER),
    "region_age_slope": FigureKind("change of regions with age, over that of real people", ONE),
    "region_size_slope": FigureKind("change of regions with the size of the brain, over that of real people", ONE),
    "tissue_d_largest": FigureKind("Cohen's d of fluid, grey or white matter: the largest without sign", LOWER),
    "brain_volume_d": FigureKind("Cohen's d of the volume of the brain", "0"),
    "gate_share": FigureKind("heads whose every tissue and region is as near to the mean as 19 in 20 people's", HIGHER),
    "normative_share": FigureKind("volumes from the 5th to the 95th published centile", "0.9"),
    "normative_centile": FigureKind("median published centile of the volumes", "50"),
    "segmenter_dice": FigureKind("the segmenter's Dice with labels of never-seen people, median over regions", HIGHER),
    "segmenter_volume_error": FigureKind("its error of a volume, share of it, median over regions", LOWER),
    "segmenter_volume_r": FigureKind("correlation of its volumes with those of the labels, median", HIGHER),
}


def judge(material: Material) -> PartResult:
    """Returns volumes of regions of each contender beside those of never-seen people.

    References:
        Cohen 1988, Statistical power analysis for the behavioral sciences.
        Peng et al. 2024, Metadata-conditioned generative models to synthesize anatomically-plausible 3D brain MRIs,
        Med. Image Anal. 98 (samples judged by Cohen's d of regions; here real people at the same n stand beside).
    """
    study = Study(material)
    rows: list[Row] = []
    notes = list(study.notes)
    unseen = study.measured[UNSEEN].known
    if len(unseen.brain) < FEWEST_HEADS:
        note = "too few people"
        return PartResult(tuple(Row(name, SAMPLES, None, note=note) for name in FIGURES), tuple(notes))
    floor_d = median(np.abs(cohens_d(study.measured[FLOOR].known.shares, unseen.shares)))
    limit, real, of_real = _gate(study)
    for name in material.contenders:
        measured = study.measured[name]
        rows += _rows_of(name, measured, study, unseen, floor_d, (limit, real, of_real), material)
        lost = len(measured.brain) - len(measured.known.brain)
        if lost:
            notes.append(f"{lost} heads of {name} show no brain that can be measured; they fail the gate.")
    rows += study.own_error
    if material.normative is not None:
        rows += _normative(material, study, notes)
    else:
        notes.append("No table of published centiles was named, so volumes are not compared with any.")
    rows.sort(key=lambda row: list(FIGURES).index(row.figure))
    facts = study.facts | {"regions": _region_facts(study, unseen)}
    pictures = {"anatomy_regions": plot_regions(study, unseen)}
    if study.segmenter is not None:
        pictures["anatomy_labels"] = plot_labels(material, study, study.segmenter)
    return PartResult(tuple(rows), tuple(notes), pictures, facts)


def _rows_of(name, measured, study, unseen, floor_d, gate, material) -> list[Row]:
    known, count = measured.known, len(measured.brain)
    rows = [_gate_row(name, measured, gate, material.seed)]
    if len(known.brain) < FEWEST_HEADS:
        names = [figure for figure in FIGURES if figure.startswith(("region", "tissue", "brain"))]
        return rows + [Row(figure, name, None, n=count, note="too few heads") for figure in names]
    generator = np.random.default_rng([material.seed, 42])
    ours, theirs = known.shares, unseen.shares
    values = _distances(ours, theirs)
    by_chance = np.array([list(_distances(*pair).values()) for pair in permuted(known, unseen, generator)])
    for place, (figure, value) in enumerate(values.items()):
        p = None if not np.isfinite(value) else (1 + int((by_chance[:, place] >= value).sum())) / (1 + len(by_chance))
        rows.append(Row(figure, name, number(value), p=p, n=len(known.brain)))
    small = np.abs(cohens_d(ours, theirs)) <= floor_d + SMALL
    rows.append(Row("region_d_share_small", name, number(np.mean(small)), n=len(known.brain)))
    others = _others(study, name)
    of_both: dict[str, Callable[[Measured, Measured], float]] = {
        "region_sd_ratio": lambda a, b: median(ratio(a.shares.std(axis=0), b.shares.std(axis=0))),
        "brain_volume_d": lambda a, b: float(cohens_d(a.brain[:, None], b.brain[:, None])[0]),
        "tissue_d_largest": lambda a, b: float(np.nanmax(np.abs(cohens_d(a.tissues, b.tissues)))),
    }
    for figure, function in of_both.items():
        draws = [function(*pair) for pair in bootstrapped((known, unseen), generator)]
        # The largest of several differences is larger in every bootstrap.
        low, high = (None, None) if figure == "tissue_d_largest" else interval(draws)
        rows.append(Row(figure, name, number(function(known, unseen)), low, high, n=len(known.brain)))
    for figure, of in (("region_age_slope", "age"), ("region_size_slope", "brain")):
        rows.append(_slope_row(figure, name, known, others, of, generator))
    return rows


def _distances(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Returns the figures of two sets of shares (n, regions) of which chance alone makes more than 0."""
    count = min(len(ours), len(theirs))
    largest = np.argsort(-theirs.mean(axis=0), kind="stable")[:MOST_CORRELATED]
    return {
        "region_d_median": median(np.abs(cohens_d(ours, theirs))),
        "region_w2_median": median(ratio(wasserstein(ours, theirs, count), theirs.std(axis=0))),
        "region_correlation_distance": correlation_distance(ours[:, largest], theirs[:, largest]),
    }


def _slope_row(figure, name, known, others, of, generator) -> Row:
    """Returns how the slopes of regions on age or size relate to those of real people that are not among these."""
    ours, theirs = (each.take(np.isfinite(getattr(each, of))) for each in (known, others))
    count = len(ours.brain)
    if min(count, len(theirs.brain)) < FEWEST_AGES or np.ptp(getattr(ours, of)) <= 0:
        note = "no age is known" if of == "age" and not count else "too few heads that differ"
        return Row(figure, name, None, n=count, note=note)

    def relation(first, second) -> float:
        spread = np.maximum(second.shares.std(axis=0), 1e-9)
        slope, _ = slopes_of(first.shares / spread, getattr(first, of))
        real, error = slopes_of(second.shares / spread, getattr(second, of))
        signal = (real**2 - error**2).sum()
        if signal < LEAST_SIGNAL * (real**2).sum():
            return float("nan")
        return float((slope * real).sum() / signal)

    value = relation(ours, theirs)
    if not np.isfinite(value):
        return Row(figure, name, None, n=count, note="real people's own slopes are lost in noise")
    low, high = interval([relation(*pair) for pair in bootstrapped((ours, theirs), generator)])
    return Row(figure, name, value, low, high, n=count)


def _others(study, name) -> Measured:
    """Returns the real people that are not among those of a contender."""
    real = study.measured[UNSEEN].with_others(study.measured["taught"]).known
    same = study.measured[FLOOR].ids if name in (FLOOR, COPIES) else ()
    return real.take(~np.isin(real.ids, same))


def _logarithms(measured: Measured) -> np.ndarray:
    """Returns logarithms of every tissue, region and of the brain, (n, figures)."""
    parts = [measured.tissues, measured.shares, measured.brain[:, None]]
    return np.log(np.maximum(np.concatenate(parts, axis=1), 1e-6))


def _gate(study):
    """Returns the limit of the gate, real people's values, and how far the farthest of each real person lies, when the
    person is left out of what it is compared with."""
    real = study.measured[UNSEEN].with_others(study.measured["taught"]).known
    values = _logarithms(real)
    known = np.isfinite(values).all(axis=1)
    real, values = real.take(known), values[known]
    count, mean, variance = len(values), values.mean(axis=0), values.var(axis=0)
    # The person left out, in closed form.
    mean_of_others = (count * mean - values) / (count - 1)
    square_of_others = (count * (variance + mean**2) - values**2) / (count - 1)
    deviation = np.sqrt(np.maximum(square_of_others - mean_of_others**2, 1e-12))
    farthest = np.abs((values - mean_of_others) / deviation).max(axis=1)
    of_real = dict(zip(real.ids, farthest, strict=True))
    return float(np.quantile(farthest, GATE)), values, of_real


def _gate_row(name, measured, gate, seed) -> Row:
    limit, real, of_real = gate
    values = _logarithms(measured)
    with np.errstate(invalid="ignore"):
        farthest = np.abs((values - real.mean(axis=0)) / np.maximum(real.std(axis=0), 1e-6)).max(axis=1)
    if name == FLOOR:
        farthest = np.array([of_real.get(each, own) for each, own in zip(measured.ids, farthest, strict=True)])
    passes = (np.nan_to_num(farthest, nan=np.inf) <= limit).astype(float)
    generator = np.random.default_rng([seed, 43])
    draws = [passes[by_family(measured.families, generator)].mean() for _ in range(NUM_BOOTSTRAPS)]
    return Row("gate_share", name, float(passes.mean()), *interval(draws), n=len(passes))


def _normative(material, study, notes) -> list[Row]:
    table = NormativeTable(material.normative)
    keys = {name: name for name in study.names if name in table.regions}
    keys |= {name: name.removeprefix("label ") for name in study.names if name.removeprefix("label ") in table.regions}
    if not keys:
        notes.append(f"{material.normative}: none of its regions is one of the cohort's labels.")
    else:
        notes.append(f"{len(keys)} regions are compared with the centiles of {material.normative}.")
    rows = []
    for name in (UNSEEN, *material.contenders):
        measured = study.measured[name].known
        found = [
            table.judge(key, measured.age, measured.sex, measured.regions[:, study.names.index(region)], measured.brain)
            for region, key in keys.items()
        ]
        inside, centiles = (np.concatenate([each[side] for each in found]) if found else np.zeros(0) for side in (0, 1))
        told = np.isfinite(inside)
        note = "" if told.any() else "no age or sex is known" if keys else "no region in the table"
        share, middle = (inside[told].mean(), np.median(centiles[told])) if told.any() else (np.nan, np.nan)
        rows.append(Row("normative_share", name, number(share), n=len(measured.brain), note=note))
        rows.append(Row("normative_centile", name, number(middle), n=len(measured.brain), note=note))
    return rows


def _region_facts(study, unseen) -> list[dict]:
    found = []
    sides = {name: study.measured[name].known.shares for name in (SAMPLES, FLOOR)}
    d = {name: cohens_d(shares, unseen.shares) for name, shares in sides.items() if len(shares) >= FEWEST_HEADS}
    for place, name in enumerate(study.names):
        one = {"region": name, "ml": number(unseen.regions[:, place].mean())}
        one |= {f"d_{side}": number(values[place]) for side, values in d.items()}
        if hasattr(study, "dice"):
            one |= {"dice": number(study.dice[place]), "error": number(study.error[place])}
        found.append(one)
    return found
