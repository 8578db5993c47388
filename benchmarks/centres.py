"""Whether samples lie where the training heads lie: python -m benchmarks.centres RUN

Prints, in world coordinates (mm), the mean of the centres of mass of the run's samples (make them first:
mrigen sample -n 10 --run RUN) and the median of those of the training heads, whole as scanned and as prepared.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrigen.data.dataset import open_dataset
from mrigen.data.pipeline import read_volumes
from mrigen.data.preprocess import grid_affine
from mrigen.imaging.volumes import apply_affine, read_volume
from mrigen.runs import open_run


def centre_of_mass(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns (3,) world coordinates in mm of the intensity-weighted mean position."""
    return apply_affine(affine, np.array(ndimage.center_of_mass(array)))


def main() -> None:
    """Prints the table."""
    run = open_run(Path(sys.argv[1]))
    dataset = open_dataset(run.recipe, run.split)
    rows = dataset.rows("train")
    table = dataset.cache.table.iloc[rows]
    native = [read_volume(path) for path in table["path"]]
    samples = [read_volume(path) for path in sorted(run.directory.glob("samples/sub-*/anat/*_T1w.nii.gz"))]
    zooms, shape = run.grid["zooms"], run.grid["volume_shape"]
    places = table[["centre_x", "centre_y", "centre_z"]].to_numpy()
    prepared = zip(read_volumes(dataset.cache, rows), places, strict=True)
    centres = {
        "native heads": np.median([centre_of_mass(volume.array, volume.affine) for volume in native], axis=0),
        "prepared heads": np.median([centre_of_mass(v, grid_affine(c, zooms, shape)) for v, c in prepared], 0),
        "samples": np.mean([centre_of_mass(volume.array, volume.affine) for volume in samples], axis=0),
    }
    for name, centre in centres.items():
        distance = np.linalg.norm(centre - centres["samples"])
        print(f"{name:15} {np.array2string(centre, precision=1)} mm, {distance:.1f} mm from the samples")


if __name__ == "__main__":
    main()
