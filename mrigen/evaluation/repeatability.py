"""Do the latents of two scans of one person agree?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrigen.evaluation import agreement
from mrigen.evaluation.contenders import MOVED_MM, NODDED_DEGREES, moved_copies
from mrigen.evaluation.heads import Heads, Material
from mrigen.evaluation.representations import GROUPS, LATENTS, UNTRAINED, VOLUME, VOXELS, represent
from mrigen.evaluation.result import HIGHER, ONE, FigureKind, PartResult, Row
from mrigen.imaging.figures import COLOURS
from mrigen.statistics.repeatability import FEWEST_PEOPLE, Estimate, Repeatability, repeatability
from mrigen.system.wording import counted

FIGURES: Mapping[str, FigureKind] = {
    "icc_median": FigureKind("intraclass correlation ICC(2,1) of each latent over scans of a person: the median", ONE),
    "icc_worst": FigureKind("the same: the lowest", ONE),
    "icc_whole": FigureKind("the same of the whole vector (I2C2): share of its variance that is people's", ONE),
    "discriminability": FigureKind("how often a scan is nearer to the person's other scan than to another's", ONE),
    "identified": FigureKind("share of scans whose nearest of all, by angle, is the person's other scan", ONE),
    "identified_mahalanobis": FigureKind("the same by Mahalanobis distance", ONE),
    "moved_icc_whole": FigureKind(
        f"icc_whole of heads and the same moved by {MOVED_MM:g} mm and nodded by {NODDED_DEGREES:g} degrees", ONE
    ),
    "moved_identified": FigureKind("share of these that are identified", ONE),
    agreement.FIGURE: FigureKind("linear CKA (debiased) of the run with others of its cohort, mean", HIGHER),
}
OF_RESCANS = tuple(FIGURES)[:6]
OF_MOVED = tuple(FIGURES)[6:8]
# Of a person, years; what lies farther apart is no test and retest.
APART = 1.0


def judge(material: Material) -> PartResult:
    """Returns how far a run's latents of one person's scans agree, beside what is simpler (`GROUPS`).

    `Material.rescans` are real scans of one person. The figures `moved_*` need none: never-seen heads are moved by
    resampling. `Material.others`, other runs of the cohort, are compared by CKA.
    """
    if material.run is None:
        rows = [Row(figure, LATENTS, None, note="no run") for figure in FIGURES]
        return PartResult(tuple(rows), ("Repeatability is of latents, and these are a run's.",))
    networks = {LATENTS: material.run.load_model(), UNTRAINED: material.run.build_model()}
    found = measure(material, material.rescans, networks)
    count = 0 if material.rescans is None else len(np.unique(persons_of_heads(material.rescans)))
    rows, notes, facts, pictures = [], [], {}, {}
    if found and material.rescans is not None:
        rows += [row for group, result in found.items() for row in _rows(group, result)]
        notes += _notes(material.rescans, found)
        facts["rescans"] = _facts(material.rescans, found)
        pictures["repeatability"] = plot_repeatability(found)
    else:
        few = counted(count, "person was", "people were") if count else "nobody was"
        rows += [Row(figure, LATENTS, None, n=count, note=f"{few} scanned twice") for figure in OF_RESCANS]
        notes.append(
            f"Repeatability: {few} scanned twice, expected {FEWEST_PEOPLE} at least. Sessions of one id are pairs, and "
            "ids that `data.same_person` joins."
        )
    found = measure(material, with_moved(material.unseen, material.zooms, material.seed), networks)
    found.pop(VOLUME, None)  # Nobody looked for the brains of moved heads again.
    for group, result in found.items():
        for figure, estimate in zip(OF_MOVED, (result.whole, result.identified), strict=True):
            rows.append(_row(figure, group, estimate, result.num_people))
    if not found:
        few = counted(len(material.unseen), "person", "people")
        rows += [Row(figure, LATENTS, None, note=few) for figure in OF_MOVED]
    if material.others:
        alike, said, facts["agreement"] = agreement.agreement(material)
        rows, notes = rows + alike, notes + said
    return PartResult(tuple(rows), tuple(notes), pictures, facts)


def measure(material: Material, heads: Heads | None, networks: Mapping[str, Any]) -> dict[str, Repeatability]:
    """Returns the repeatability of each of `GROUPS` over heads of people who have several; nothing where people are too
    few.

    Args:
        networks: see `represent`.
    """
    if heads is None:
        return {}
    persons = persons_of_heads(heads)
    if len(np.unique(persons)) < FEWEST_PEOPLE:
        return {}
    return {
        group: repeatability(values, persons, heads.families)
        for group, values in represent(material, heads, networks).items()
    }


def persons_of_heads(heads: Heads) -> np.ndarray:
    """Returns who is seen, (n,) str: `person` where people have it, else `participant_id`."""
    name = "person" if "person" in heads.people else "participant_id"
    return heads.people[name].to_numpy(dtype=str)


def with_moved(heads: Heads, zooms, seed: int = 0) -> Heads:
    """Returns heads and the same moved by resampling, each twice, one after the other."""
    people = heads.people.assign(person=[f"head-{number}" for number in range(len(heads))])
    both = Heads(
        np.concatenate([heads.volumes, moved_copies(heads, zooms, seed)]),
        pd.concat([people, people], ignore_index=True),
        np.concatenate([heads.brains, heads.brains]),
    )
    return both.take(np.arange(2 * len(heads)).reshape(2, -1).T.ravel())


def _rows(group: str, result: Repeatability) -> list[Row]:
    estimates = [result.median, result.worst, result.whole, result.discriminability, result.identified]
    estimates.append(result.identified_mahalanobis)
    skipped = {VOXELS: ("icc_median", "icc_worst"), VOLUME: ("identified_mahalanobis",)}.get(group, ())
    if group == VOXELS:  # As many as there are heads: no covariance to speak of.
        skipped = (*skipped, "identified_mahalanobis")
    return [
        _row(figure, group, estimate, result.num_people)
        for figure, estimate in zip(OF_RESCANS, estimates, strict=True)
        if figure not in skipped
    ]


def _row(figure: str, group: str, estimate: Estimate, count: int) -> Row:
    note = "constant" if estimate.value is None else ""
    return Row(figure, group, estimate.value, estimate.low, estimate.high, n=count, note=note)


def _notes(rescans: Heads, found: Mapping[str, Repeatability]) -> list[str]:
    result = found[LATENTS]
    people = counted(result.num_people, "person", "people")
    notes = [
        f"Repeatability is of {result.num_scans} scans of {people}; intraclass correlations use {result.scans_each} of "
        f"each. An own scan is found by chance in about {1 / (1 + result.num_scans - _scans_each(rescans)):.1%}."
    ]
    split = rescans.column("split")
    learned = len({person for person, of in zip(persons_of_heads(rescans), split, strict=True) if of == "train"})
    if learned:
        notes.append(
            f"The run learned from {learned} of {people}: too few who were scanned twice were never seen. Figures of "
            "the latents and of principal components are as good as they can look."
        )
    ages = pd.Series(rescans.column("age"), dtype=float).groupby(persons_of_heads(rescans))
    apart = int((ages.max() - ages.min() > APART).sum())
    if apart:
        notes.append(
            f"{apart} of {people} were scanned more than {APART:g} year apart: what changed in them counts as error."
        )
    constant = int(np.isnan(result.icc).sum())
    if constant:
        notes.append(f"{constant} of {len(result.icc)} latents are constant and have no intraclass correlation.")
    best, size = found[LATENTS].identified.value, found[VOLUME].whole.value
    if best is not None and size is not None:
        notes.append(
            f"Volume alone has an intraclass correlation of {size:.2f} and finds {found[VOLUME].identified.value:.0%} "
            "of the scans: a high correlation alone is no proof that a person is seen."
        )
    return notes


def _scans_each(rescans: Heads) -> float:
    return len(rescans) / len(np.unique(persons_of_heads(rescans)))


def _facts(rescans: Heads, found: Mapping[str, Repeatability]) -> dict[str, Any]:
    groups = {
        group: {"icc": [None if np.isnan(value) else round(float(value), 4) for value in result.icc]}
        for group, result in found.items()
        if group != VOXELS
    }
    result = found[LATENTS]
    counts = {"people": result.num_people, "scans": result.num_scans, "scans_each": result.scans_each}
    splits = pd.Series(rescans.column("split")).dropna().value_counts()
    return {**counts, "splits": {str(name): int(count) for name, count in splits.items()}, "groups": groups}


def _name(group: str) -> str:
    return "latents" if group == LATENTS else group


def plot_repeatability(found: Mapping[str, Repeatability]) -> Figure:
    """Returns a figure of the intraclass correlation of each variable, the highest first, and of what the whole vectors
    reach, with intervals."""
    figure = Figure(figsize=(9.6, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    each, whole = figure.subplots(1, 2)
    colours = dict(zip(GROUPS, COLOURS, strict=False))
    for group, result in found.items():
        icc = np.sort(result.icc[~np.isnan(result.icc)])[::-1]
        if group in (VOXELS, VOLUME) or not len(icc):
            continue
        each.plot(np.linspace(0, 100, len(icc)), icc, color=colours[group], label=f"{_name(group)} ({len(icc)})")
    each.axhline(0, color="0.7", linewidth=0.8)
    each.set(xlabel="share of the variables (%)", ylabel="ICC(2,1)", ylim=(-0.5, 1.02))
    each.legend(frameon=False, fontsize=8)
    shown = {"icc_whole": "whole", "discriminability": "discriminability", "identified": "identified"}
    for number, (group, result) in enumerate(found.items()):
        for place, name in enumerate(shown.values()):
            estimate: Estimate = getattr(result, name)
            if estimate.value is None:
                continue
            at = place + (number - (len(found) - 1) / 2) * 0.15
            low, high = (estimate.value if bound is None else bound for bound in (estimate.low, estimate.high))
            whole.plot([at, at], [low, high], color=colours[group])
            whole.plot(at, estimate.value, "o", color=colours[group], label=_name(group) if place == 0 else None)
    whole.set_xticks(range(len(shown)), list(shown))
    whole.set(ylim=(-0.2, 1.05))
    whole.legend(frameon=False, fontsize=8)
    return figure
