"""What is done to every scan of a cohort."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from mrigen.errors import UsageError
from mrigen.system.wording import nearest

# Step -> what it does. A brain mask is always made; steps are done in this order.
STEPS = {
    "bias": "even out the brightness (N4)",
    "rigid": "turn and shift each head to the place of the MNI152 template; its size and shape stay",
    "affine": "the same, with size and shear: everybody as large as the template",
    "deface": "cut off what lies in front of and below the brain",
}
DEFAULT_STEPS = ("bias", "rigid")
ALIGNMENTS = ("rigid", "affine")
ZOOM_LIMITS = (0.5, 8.0)  # mm
# Raise when the files that come out change, so that a folder never holds both kinds.
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is done to every scan.

    Attributes:
        steps: of `STEPS`, beside the brain mask.
        zooms: voxel size, mm, of aligned images; each scan's own (the cube of its voxel's volume) by default.
        mask: of the cohort, as `data.mask` takes it: masks that are there, and are not made.
        suffix: BIDS suffix of the images.
    """

    steps: tuple[str, ...] = DEFAULT_STEPS
    zooms: float | None = None
    mask: str | None = None
    suffix: str = "T1w"

    @property
    def has_bias(self) -> bool:
        """Whether the brightness is evened out."""
        return "bias" in self.steps

    @property
    def has_deface(self) -> bool:
        """Whether faces are cut off."""
        return "deface" in self.steps

    @property
    def alignment(self) -> str | None:
        """How heads are aligned: "rigid" or "affine"; None if they are not."""
        return next((step for step in self.steps if step in ALIGNMENTS), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as JSON has them."""
        return {"version": VERSION} | dataclasses.asdict(self) | {"steps": list(self.steps)}


def check_settings(steps: Sequence[str], deface: bool, zooms: float | None, mask: str | None, suffix: str) -> Settings:
    """Returns the settings that arguments of `prepare` mean.

    Raises:
        UsageError: a step is unknown, two exclude each other, or the voxel size is none.

    Example:
        >>> check_settings(("bias", "rigid"), True, None, None, "T1w").steps
        ('bias', 'rigid', 'deface')
    """
    steps = [steps] if isinstance(steps, str) else list(steps)
    for step in steps:
        if step not in STEPS:
            raise UsageError(
                f"got '{step}', expected any of {', '.join(STEPS)}. Name the steps to take beside the brain "
                f"mask.{nearest(str(step), STEPS)}",
                "steps",
            )
    if len(set(steps) & set(ALIGNMENTS)) > 1:
        raise UsageError("got rigid and affine, expected one of them. Drop one.", "steps")
    if zooms is not None and not (math.isfinite(zooms) and ZOOM_LIMITS[0] <= zooms <= ZOOM_LIMITS[1]):
        low, high = ZOOM_LIMITS
        raise UsageError(f"got {zooms}, expected {low:g} to {high:g} mm. Set 1 for a start.", "zooms")
    if zooms is not None and not set(steps) & set(ALIGNMENTS):
        raise UsageError(
            f"got {zooms} without an alignment, expected none: the images stay on their own grid then. "
            "Drop it, or take the step rigid.",
            "zooms",
        )
    steps = [*steps, "deface"] if deface else steps
    return Settings(tuple(step for step in STEPS if step in steps), zooms, mask, suffix)
