"""What the maps of the sexes are called, and what their files say of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mrigen.imaging.maps import label_map
from mrigen.imaging.volumes import Nifti1Image
from mrigen.probing.map_tests import ERROR_RATE, WINDOW_MM, MapTest

# name -> what it is, its unit, and what a positive voxel says.
MAPS = {
    "difference": ("Intensity of a man with the mean score of men minus that of such a woman", "intensity, 0 to 1"),
    "growth": ("Logarithm of how much larger the tissue at a voxel is in men", "log of a ratio of volumes"),
    "saliency": ("Integrated gradients of the score, through the whole of inference", "log-odds in a voxel"),
}


def map_names(warps_template: bool) -> list[str]:
    """Returns the names of the maps of a model."""
    names = ["difference", "growth"] if warps_template else ["difference"]
    return [*names, *(f"{name}_{kind}" for kind in ("z", "strength", "mask") for name in names), "saliency"]


def image_paths(directory: Path, maps: Sequence[str], participants: Sequence[str]) -> list[Path]:
    """Returns the files of an explanation but for the figures: those of images, and explanation.json."""
    names = ["sequence", *maps, *(f"{name}_counterfactual" for name in participants)]
    return [*(directory / f"{name}.nii.gz" for name in names), directory / "explanation.json"]


def stem_of(path: Path) -> str:
    """Returns the name of an image without its endings."""
    return path.name.removesuffix(".nii.gz")


def finite_or_none(value: float) -> float | None:
    """Returns what JSON can hold of a number."""
    return value if np.isfinite(value) else None


def label_image(image: Nifti1Image, stem: str, tests: Mapping[str, MapTest]) -> None:
    """Writes into the header of the map called `stem` what it is."""
    name, _, kind = stem.partition("_")
    threshold = tests[name].threshold if name in tests else None
    if kind == "z":
        label_map(image, stem, f"{name}, z, women to men; positive: more in men", is_z=True)
    elif kind == "strength":
        label_map(
            image, stem, f"{name}, rms z in {WINDOW_MM:g} mm, women to men; beyond chance > {threshold:.2f}", threshold
        )
    elif kind == "mask":
        label_map(image, stem, f"{name}, women to men: 1 where strength > {threshold:.2f}")
    else:
        label_map(image, stem, f"{name}, women to men, positive: more in men; {MAPS[name][1]}")


def describe_image(
    stem: str,
    scores: np.ndarray,
    tests: Mapping[str, MapTest],
    confounds: Sequence[str],
    num_permutations: int,
    growth_spacing: Sequence[float] | None,
) -> dict:
    """Returns the content of the .json beside an image.

    Args:
        stem: its name without endings.
        scores: (step,) of the sequence.
        tests: name of a map -> its test.
        confounds, num_permutations, growth_spacing: see `Explanation`.
    """
    content = {"Direction": "women to men", "ConfoundsTakenOut": list(confounds)}
    if stem == "sequence":
        text = "What the run decodes, from the mean score of women to that of men; one image a step"
        return {"Description": text, "Units": "intensity, 0 to 1", "Scores": scores.tolist(), **content}
    name, _, kind = stem.partition("_")
    if stem.endswith("_counterfactual"):
        text = "The person as decoded, and with the mean score of the other sex"
        return {"Description": text, "Units": "intensity, 0 to 1", "ConfoundsTakenOut": list(confounds)}
    text, units = MAPS[name]
    content = {"Description": text, "Units": units, "Positive": "more in men", **content}
    if name == "saliency":
        content["Positive"] = "speaks for a man"
    if name not in tests:
        return content
    test = tests[name]
    if kind == "strength":
        content["Units"] = f"z: root mean square in a Gaussian window of {WINDOW_MM:g} mm (full width at half maximum)"
        content["Positive"] = "more or less in men"
    if kind == "z":
        content["Units"] = "z: away from the mean of permuted people, over their standard deviation"
    if kind == "mask":
        content["Units"] = "1 where the strength is beyond the threshold, 0 elsewhere"
        del content["Positive"]
    if name == "growth":
        # A movement is told between the points of the velocity, so tissue that shrinks beside it cannot be told apart.
        content["ResolutionMm"] = [round(float(length), 3) for length in growth_spacing]
    rule = (
        "largest strength of any voxel of any map under permutation within sites, families as wholes; "
        f"{ERROR_RATE:g} family-wise"
    )
    return content | {
        "WindowMm": WINDOW_MM,
        "Threshold": finite_or_none(test.threshold),
        "ThresholdOf": f"{name}_strength.nii.gz",
        "ThresholdRule": rule,
        "P": test.p_value,
        "Mask": f"{name}_mask.nii.gz",
        "NumPermutations": num_permutations,
    }
