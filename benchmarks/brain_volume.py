"""Brain volumes of a run against an independent count on the label maps: python -m benchmarks.brain_volume RUN"""

import sys

import nibabel
import numpy as np

from mrigen.runs import open_run


def main() -> None:
    """Prints the largest and the mean relative difference."""
    people = open_run(sys.argv[1]).subjects
    people = people[people["mask_path"].notna()]
    counted = []
    for path in people["mask_path"]:
        labels = nibabel.load(path)
        counted.append(np.count_nonzero(np.asanyarray(labels.dataobj)) * np.prod(labels.header.get_zooms()[:3]) / 1000)
    away = np.abs(people["brain_volume_ml"].to_numpy() / np.array(counted) - 1.0)
    print(f"{len(away)} people: largest difference {100 * away.max():.4f} %, mean {100 * away.mean():.4f} %")


if __name__ == "__main__":
    main()
