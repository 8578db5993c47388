"""What is looked for in the measures of an image: limits that hold for any head, and those against a cohort.

The limits against the cohort were chosen on 60 people of one scanner, spoiled and not; `python -m benchmarks qc` counts
on others, and says what had been seen of them.
"""

import dataclasses

# Fewer images than this have no range of their own: only the limits that hold for any head are looked at.
FEWEST = 12
# Of few images the range itself is uncertain: n images have limits that are wider by this over n.
UNCERTAINTY = 5.0
# An image is "wrong" where it cannot be a head as a model needs it, and to be looked at where it is unlike the others.
WRONG, LOOK, FINE = "wrong", "look", "fine"

# Flag -> what is probably the matter, and what to do.
FLAGS = {
    "unreadable": "The file cannot be used at all.",
    "header": "Compare it with the scanner's own file.",
    "size": "The voxel size in the header is probably wrong, or it is no head.",
    "voxels": "Others were scanned with other voxels: compare what is comparable.",
    "cut": "Part of the head lies outside of the field of view.",
    "spike": "A few voxels are wild: a damaged or wrapped value.",
    "levels": "Too few grey levels: the image was stored with too coarse a scale.",
    "intensity": "It was scaled or stored unlike the others.",
    "noise": "It is noisier than the others.",
    "blur": "It is smoother than the others: motion, a low resolution or a filter.",
    "motion": "There is structure in the air: motion, ghosting or flow.",
    "contrast": "The brain's contrast is another one: perhaps not T1-weighted.",
    "bias": "One side of the brain is far brighter: the field of the coil was not corrected.",
    "orientation": "The axes in the header are probably wrong.",
    "mirrored": "Left and right are perhaps swapped; see the page for how sure that is.",
    "unlike": "It is unlike the other heads: another body part, a phantom, a failed scan or a rare anatomy.",
    "volume": "The volume does not fit sex and age: another person's row, or a rare anatomy.",
    "duplicate": "One image under two ids: find out whose it is.",
}


@dataclasses.dataclass(frozen=True)
class Limit:
    """Values of a measure that no head has.

    Attributes:
        flag: of `FLAGS`. measure: a column.
        low, high: the last values that are fine, or None.
        level: WRONG or LOOK.
    """

    flag: str
    measure: str
    low: float | None
    high: float | None
    level: str = WRONG


@dataclasses.dataclass(frozen=True)
class Range:
    """Values of a measure that are unlike the cohort's.

    Attributes:
        flag: of `FLAGS`. measure: a column.
        below, above: how many robust standard deviations from the median are too many, or None.
        is_log: whether the logarithm is compared.
        floor: the least standard deviation that is assumed: of the logarithm, or of the measure itself.
        least: smaller values count as this one, before the logarithm.
        level: WRONG or LOOK.
    """

    flag: str
    measure: str
    below: float | None
    above: float | None
    is_log: bool = True
    floor: float = 0.05
    least: float = 0.0
    level: str = LOOK


LIMITS = (
    Limit("size", "width_mm", 85.0, 230.0),
    Limit("size", "length_mm", 105.0, 290.0),
    Limit("size", "head_volume_ml", 300.0, 7000.0),
    Limit("cut", "height_mm", 95.0, None),
    Limit("cut", "cut_top_cm2", None, 45.0),
    Limit("cut", "cut_side_cm2", None, 90.0),
    Limit("levels", "grey_levels", 40.0, None),
    Limit("spike", "spike", None, 20.0),
    Limit("spike", "spike", None, 8.0, LOOK),
    Limit("noise", "noise", None, 0.15),
    Limit("motion", "ghost", None, 0.25),
    Limit("bias", "bias", None, 0.4),
    Limit("contrast", "contrast", None, 0.6),
    Limit("unlike", "likeness", 0.55, None),
    Limit("cut", "lost_fraction", None, 0.1, LOOK),
)

RANGES = (
    Range("size", "width_mm", 5.0, 5.0, floor=0.03),
    Range("size", "length_mm", 5.0, 5.0, floor=0.03),
    Range("size", "head_volume_ml", 5.0, 5.0, floor=0.06),
    Range("cut", "height_mm", 6.0, None, floor=0.03),
    Range("cut", "cut_top_cm2", None, 5.0, is_log=False, floor=4.0),
    Range("cut", "cut_side_cm2", None, 6.0, is_log=False, floor=5.0),
    Range("voxels", "voxel_max", 5.0, 5.0, floor=0.05),
    Range("intensity", "scale", 6.0, 6.0, floor=0.25),
    Range("intensity", "offset", 6.0, 6.0, is_log=False, floor=0.02),
    Range("levels", "grey_levels", 6.0, None, floor=0.1),
    Range("noise", "noise", None, 5.0, floor=0.1),
    Range("motion", "ghost", None, 4.3, floor=0.15, least=0.005),
    Range("motion", "air", None, 4.8, floor=0.15, least=0.001),
    Range("blur", "fwhm_mm", None, 5.0, floor=0.06),
    Range("blur", "noise", 5.0, None, floor=0.15),
    Range("contrast", "contrast", None, 5.0, is_log=False, floor=0.15),
    Range("contrast", "cjv", None, 6.0, floor=0.06),
    Range("bias", "bias", None, 6.0, floor=0.15),
    Range("unlike", "likeness", 5.0, None, is_log=False, floor=0.012),
    Range("contrast", "tissue", 5.0, None, is_log=False, floor=0.04),
    Range("unlike", "distance", None, 5.0, floor=0.05),
)
