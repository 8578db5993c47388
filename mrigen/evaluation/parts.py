"""The parts of an evaluation: each is a module with a function `judge(material)` and its `FIGURES`."""

import dataclasses
import importlib
from collections.abc import Mapping

from mrigen.evaluation.heads import Material
from mrigen.evaluation.result import FigureKind, PartResult


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of an evaluation.

    Attributes:
        module: of `mrigen.evaluation`; it is imported when the part is asked for.
        words: what it answers, one line.
        needs_run: whether it asks a run, and not only its samples.
    """

    module: str
    words: str
    needs_run: bool = False

    def judge(self, material: Material) -> PartResult:
        """Returns what the part finds."""
        return importlib.import_module(f"mrigen.evaluation.{self.module}").judge(material)

    @property
    def figures(self) -> Mapping[str, FigureKind]:
        """The figures of its rows, by key."""
        return importlib.import_module(f"mrigen.evaluation.{self.module}").FIGURES


PARTS = {
    "detail": Part("detail", "Is there a cortex? Power by wavelength, contrast of tissues, folding."),
    "discrimination": Part("discrimination", "Can a classifier tell samples from real people?"),
    "distribution": Part("distribution", "Do samples lie where people lie? Distances, precision, recall, coverage."),
    "anatomy": Part("anatomy", "Are the volumes of regions, and what goes with them, those of people?"),
    "copying": Part("copying", "Are samples copies of people that were learned from?"),
    "usefulness": Part("usefulness", "Does what is learned from samples hold for real people?"),
    "conditions": Part("conditions", "Do samples have the sex, age and size that was asked for?", needs_run=True),
    "reconstruction": Part("reconstruction", "How well are never-seen people reconstructed?", needs_run=True),
    "repeatability": Part("repeatability", "Do the latents of two scans of one person agree?", needs_run=True),
}
