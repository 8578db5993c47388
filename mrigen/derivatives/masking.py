"""Brain masks, and by what a bad one shows."""

import dataclasses
import functools
import warnings

import numpy as np
from scipy import ndimage

from mrigen.data.heads import LARGEST_BRAIN, Head
from mrigen.imaging.volumes import Volume

# Brains that are larger or smaller (ml) are looked at.
BRAIN_VOLUMES = (800.0, 2000.0)
# Largest share of the mask that was cut off as further parts, or filled as holes, and that lies on the image's sides.
MOST_IN_PARTS, MOST_IN_HOLES, MOST_ON_SIDES = 0.01, 0.01, 0.005
# Least agreement (Dice) of the masks of an image and its mirror image, and of the aligned mask and the template's.
LEAST_AGREEMENT, LEAST_OVERLAP = 0.98, 0.9
# What of the template is brain.
TEMPLATE_BRAIN = 0.2


@dataclasses.dataclass(frozen=True)
class BrainMask:
    """The brain of an image.

    Attributes:
        array: (x, y, z) bool, one part without holes.
        share: (x, y, z) float32, how sure it is that a voxel is brain, from 0 to 1.
        source: where it comes from: "deepbet", "given" or "stripped".
        measures: of its quality, by name.
    """

    array: np.ndarray
    share: np.ndarray
    source: str
    measures: dict[str, float]


def is_stripped(volume: Volume, head: Head) -> bool:
    """Whether an image shows a brain alone."""
    if head.cut_out is None:
        return False
    return head.cut_out.sum() * _voxel_ml(volume) <= LARGEST_BRAIN


def find_brain(volume: Volume, head: Head, given: np.ndarray | None = None) -> BrainMask:
    """Returns the brain of an image: as given, what is left of a stripped one, or as deepbet sees it.

    deepbet sees each image as it is and mirrored; the mean is taken, and how far they agree is a measure.

    Args:
        volume: the native image, closest-canonical axes.
        head: what of it is head.
        given: (x, y, z) bool, a mask that is there.

    References:
        Fisch et al. 2024, deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks.
    """
    if given is not None:
        found = _cleaned(given.astype(np.float32), "given", {})
        return dataclasses.replace(found, array=given, share=given.astype(np.float32))
    if is_stripped(volume, head):
        return _cleaned(head.mask.astype(np.float32), "stripped", {})
    straight = _deepbet(volume.array)
    mirrored = _deepbet(volume.array[::-1])[::-1]
    agreement = dice(straight > 0.5, mirrored > 0.5)
    return _cleaned((straight + mirrored) / 2.0, "deepbet", {"mask_agreement": agreement})


def _deepbet(array: np.ndarray) -> np.ndarray:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # Scans are done side by side.
    try:
        return _deepbet_model().run_model(np.ascontiguousarray(array, dtype=np.float32))
    except (AssertionError, ValueError):  # As it says that it sees no brain.
        return np.zeros(array.shape, np.float32)
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _deepbet_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepbet import BrainExtraction

        return BrainExtraction(no_gpu=True)


def _cleaned(share: np.ndarray, source: str, measures: dict[str, float]) -> BrainMask:
    """Returns the largest part of a mask, without holes."""
    found = share > 0.5
    labels, number = ndimage.label(found)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1 if number else found
    filled = ndimage.binary_fill_holes(largest)
    size = max(int(filled.sum()), 1)
    sides = sum(filled[index].sum() for axis in range(3) for index in _sides(axis))
    measures = measures | {
        "mask_parts": float(found.sum() - largest.sum()) / size,
        "mask_holes": float(filled.sum() - largest.sum()) / size,
        "mask_sides": float(sides) / size,
    }
    share = np.where(filled, np.maximum(share, 0.5 + 1e-3), np.minimum(share, 0.5)).astype(np.float32)
    return BrainMask(filled, share, source, measures)


def _sides(axis: int):
    for end in (0, -1):
        yield (slice(None),) * axis + (end,)


def brain_volume(volume: Volume, mask: np.ndarray) -> float:
    """Returns the volume of a mask, ml."""
    return float(mask.sum() * _voxel_ml(volume))


def _voxel_ml(volume: Volume) -> float:
    return float(abs(np.linalg.det(volume.affine[:3, :3])) / 1000.0)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Returns how far two masks agree, from 0 to 1.

    References:
        Dice 1945, Measures of the amount of ecologic association between species.

    Example:
        >>> dice(np.array([True, True, False]), np.array([True, False, False]))
        0.6666666666666666
    """
    total = int(first.sum() + second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 0.0


def flag_mask(measures: dict[str, float], source: str) -> list[str]:
    """Returns what is strange about a mask, a sentence each.

    Args:
        measures: of it; those that are missing are not looked at.
        source: where it comes from.
    """
    low, high = BRAIN_VOLUMES
    flags = []
    if not low <= measures["brain_ml"] <= high:
        flags.append(f"The brain has {measures['brain_ml']:.0f} ml, not {low:.0f} to {high:.0f}.")
    if measures["mask_parts"] > MOST_IN_PARTS:
        flags.append(f"The mask was in parts: {measures['mask_parts']:.1%} of it lay apart and were dropped.")
    if measures["mask_holes"] > MOST_IN_HOLES and source != "stripped":
        flags.append(f"The mask had holes: {measures['mask_holes']:.1%} of it were filled.")
    if measures["mask_sides"] > MOST_ON_SIDES:
        flags.append(f"The brain touches the sides of the image: {measures['mask_sides']:.1%} of the mask lie there.")
    if measures.get("mask_agreement", 1.0) < LEAST_AGREEMENT:
        flags.append(f"The masks of the image and its mirror image differ: Dice {measures['mask_agreement']:.3f}.")
    if measures.get("template_overlap", 1.0) < LEAST_OVERLAP:
        flags.append(
            f"The mask laid onto the template's has a Dice of {measures['template_overlap']:.3f}: it, or the "
            "alignment, is wrong."
        )
    return flags
