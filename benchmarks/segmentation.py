"""How well brain masks by label propagation agree with the cohort's: python -m benchmarks.segmentation RUN [SPLIT].

The Dice coefficient on each image's own grid, median and range over the people of a split (heldout by default), of the
encoder's guess alone and after the fit of the template to each head.
"""

import sys

import numpy as np

from mrigen.runs import open_run
from mrigen.segmentation import FIT_STEPS, Segmenter
from mrigen.volumes import Volume, read_grid, read_volume, to_canonical


def main() -> None:
    """Prints a line for each number of steps."""
    run, split = open_run(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "heldout"
    people = run.subjects.merge(run.split, on="participant_id").query("split == @split").dropna(subset=["mask_path"])
    for steps in (0, FIT_STEPS):
        segmenter = Segmenter(run, steps)
        values = [
            dice(_brain(segmenter, person.path), read_volume(person.mask_path).array > 0)
            for person in people.itertuples()
        ]
        print(
            f"{split}, {len(values)} heads, {steps} steps: median Dice {np.median(values):.4f} "
            f"({min(values):.4f} to {max(values):.4f})"
        )


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Returns twice the voxels inside both, over those inside either counted for each (Dice 1945)."""
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())


def _brain(segmenter: Segmenter, path: str) -> np.ndarray:
    """Returns the mask of an image along closest-canonical axes, as `read_volume` gives them."""
    return to_canonical(Volume(segmenter.probability(path), read_grid(path)[1])).array > 0.5


if __name__ == "__main__":
    main()
