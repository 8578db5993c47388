"""Pictures of heads that may be copies, beside the people on whom they lie."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mrigen.evaluation.copying_people import People, levels, smooth
from mrigen.quality.alignment import place, sample
from mrigen.quality.pictures import picture_strip, plot_strips


@dataclasses.dataclass(frozen=True)
class Pair:
    """A head and a person.

    Attributes:
        volume: (x, y, z) in [0, 1], of the head.
        name: of the head.
        person: its number among `People`.
        is_mirrored: whether the head's mirror image lies on the person.
        is_copied: whether it is a copy.
        correlation: of both, where they lie on each other.
    """

    volume: np.ndarray
    name: str
    person: int
    is_mirrored: bool
    is_copied: bool
    correlation: float


def plot_pairs(people: People, pairs: Sequence[Pair]) -> Figure:
    """Returns pairs: the head, the person on whom it lies, and what is left between them."""
    strips, titles, verdicts, spacing = [], [], [], max(1.0, float(min(people.zooms)))
    for pair in pairs:
        head = levels(pair.volume)
        made, real = (
            _laid(each, people, spacing)
            for each in (head[::-1] if pair.is_mirrored else head, people.heads[pair.person])
        )
        scale = float((made * real).sum() / max(float((made * made).sum()), 1e-6))
        difference = np.clip(127.5 + (scale * made - real), 0, 255)
        side = "learned from" if people.is_taught[pair.person] else "never seen"
        titles += [
            pair.name,
            f"{people.names[pair.person]} ({side})",
            f"difference, correlation {pair.correlation:.3f}",
        ]
        strips += [picture_strip(np.rint(each).astype(np.uint8), (spacing,) * 3) for each in (made, real, difference)]
        verdicts += ["wrong" if pair.is_copied else "fine"] * 3
    return plot_strips(strips, titles, verdicts, columns=3)


def _laid(head: np.ndarray, people: People, spacing: float) -> np.ndarray:
    """Returns a head where the common one is, around its brain case: no face is seen."""
    lattice = people.common.brain.lattice(spacing, margin=8.0)
    places = place(people.common.pose_of(smooth(head)), lattice.reshape(-1, 3))
    laid = sample(head.astype(np.float32), people.zooms, places).reshape(lattice.shape[:3])
    return np.clip(laid, 0, 255)
