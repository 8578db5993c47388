"""Whether a run on the synthetic cohort finds where the truth was planted: python -m benchmarks.explanation RUN

The run is that of a cohort with `data.phantom.sex_effect: shape`. Prints, for every map of `mrigen explain`, its area
under the precision-recall curve against the planted region inside the head, the share of voxels in that region (what
chance gives), and their ratio.
"""

import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score

from mrigen.data.phantom_anatomy import grid_points, load_template, planted_region, sample
from mrigen.data.phantom_factors import MEAN_BRAIN_VOLUME_ML
from mrigen.probing import explain
from mrigen.runs import open_run


def main() -> None:
    """Prints the figures."""
    run = open_run(sys.argv[1])
    template = load_template(float(run.grid["zooms"][0]))
    magnification = (template.mask.sum() / 1000 / MEAN_BRAIN_VOLUME_ML) ** (1 / 3)
    points = grid_points(tuple(run.grid["volume_shape"]), run.affine) * magnification
    points += template.centre.reshape(3, 1, 1, 1)
    # A pushed surface changes the voxels on both sides of it.
    head = ndimage.binary_dilation(sample(template, "mask", points) > 0.5)
    planted = planted_region(points)[head]
    with tempfile.TemporaryDirectory() as folder:
        explain(run, directory=folder)
        for path in sorted(Path(folder).glob("*.nii.gz")):
            values = nibabel.load(path).get_fdata()
            if values.ndim == 3:
                found = average_precision_score(planted, np.abs(values)[head])
                print(f"{path.name}: {found:.3f}, chance {planted.mean():.3f}, ratio {found / planted.mean():.2f}")


if __name__ == "__main__":
    main()
