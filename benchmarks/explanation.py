"""Whether a run on the synthetic cohort finds where the truth was planted: python -m benchmarks.explanation RUN

The run is that of a cohort with `data.phantom.sex_effect: shape`. Prints, for every map of `mrigen explain` (written to
RUN/explanation where it is not there), as it is and as its root mean square under a Gaussian window of 8, 16 and 24 mm
(full width at half maximum), its area under the precision-recall curve against the planted region inside the head over
the share of voxels in that region, which is what chance gives.
"""

import sys

import nibabel
import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score

from mrigen.data.phantom_anatomy import grid_points, load_template, planted_region, sample
from mrigen.data.phantom_factors import MEAN_BRAIN_VOLUME_ML
from mrigen.probing import explain
from mrigen.runs import open_run

WINDOWS_MM = (0.0, 8.0, 16.0, 24.0)


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
    folder = run.directory / "explanation"
    if not (folder / "explanation.json").is_file():
        explain(run).write()
    print(f"{planted.sum()} of {planted.size} voxels are planted: chance {planted.mean():.3f}")
    for path in sorted(folder.glob("*.nii.gz")):
        values = nibabel.load(path).get_fdata()
        if values.ndim != 3:
            continue
        ratios = []
        for width in WINDOWS_MM:
            sigma = width / 2.355 / np.asarray(run.grid["zooms"], float)
            strength = np.sqrt(np.maximum(ndimage.gaussian_filter(values**2, sigma), 0.0)) if width else np.abs(values)
            ratios.append(average_precision_score(planted, strength[head]) / planted.mean())
        print(f"{path.name}: " + ", ".join(f"{w:g} mm {r:.2f}" for w, r in zip(WINDOWS_MM, ratios, strict=True)))


if __name__ == "__main__":
    main()
