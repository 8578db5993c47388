"""How well brain masks by label propagation agree with the cohort's: python -m benchmarks.segmentation RUN [SPLIT].

The Dice coefficient on each image's own grid, median and range over the people of a split (heldout by default), of the
encoder's guess alone and after the fit of the template to each head; of the brain, and of the regions of label maps.
"""

import sys

import numpy as np

from mrigen.analysis.segmentation import FIT_STEPS, Segmenter
from mrigen.imaging.volumes import Volume, read_grid, read_volume, to_canonical
from mrigen.runs import open_run


def main() -> None:
    """Prints a line for each number of steps."""
    run, split = open_run(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "heldout"
    people = run.subjects.merge(run.split, on="participant_id").query("split == @split").dropna(subset=["mask_path"])
    for steps in (0, FIT_STEPS):
        segmenter = Segmenter(run, steps, regions=True)
        brains, regions = [], []
        for person in people.itertuples():
            truth, affine = read_volume(person.mask_path).array, read_grid(person.path).affine
            found = segmenter(person.path)
            brains.append(dice(_canonical(found.brain, affine) > 0.5, truth > 0))
            labels = _canonical(found.regions, affine)
            regions.append([dice(labels == label, truth == label) for label in segmenter.labels])
        print(f"{split}, {len(brains)} heads, {steps} steps: brain {_describe(brains)}")
        each = np.nanmean(regions, axis=1)
        print(f"  mean of {len(segmenter.labels)} regions: {_describe(each)}")
    medians = sorted(zip(np.nanmedian(regions, axis=0), segmenter.labels, strict=True), reverse=True)
    print("  regions, median Dice: " + ", ".join(f"{label} {value:.2f}" for value, label in medians))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Returns twice the voxels inside both, over those inside either counted for each; not a number if both are empty.

    References:
        Dice 1945, Measures of the amount of ecologic association between species.
    """
    total = float(first.sum() + second.sum())
    return 2.0 * float((first & second).sum()) / total if total else float("nan")


def _describe(values) -> str:
    return f"median Dice {np.median(values):.4f} ({np.min(values):.4f} to {np.max(values):.4f})"


def _canonical(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns an array on an image's grid along closest-canonical axes, as `read_volume` gives them."""
    return to_canonical(Volume(array, affine)).array


if __name__ == "__main__":
    main()
