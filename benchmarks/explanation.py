"""Whether maps of the sexes find where the truth was planted, and nothing where there is none.

python -m benchmarks.explanation RUN: the run is that of a cohort with `data.phantom.sex_effect: shape`. For every map
of `mrigen explain` (written to RUN/explanation where it is not there), as it is and as its root mean square under a
Gaussian window of 8, 16 and 24 mm (full width at half maximum), its area under the precision-recall curve against the
planted region inside the head over the share of voxels in that region, which is what chance gives; and of every mask
the share of the planted region that it marks, and which share of it lies outside the region and its 8 mm rim.

python -m benchmarks.explanation RUN null 200 [PERMUTATIONS]: the sexes of the run's people are drawn anew 200 times;
in how many a map is shown, and in how many any voxel is marked where nothing is withheld. RUN is not written to.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score

from mrigen.data.phantom_anatomy import grid_points, load_template, planted_region, sample
from mrigen.data.phantom_factors import MEAN_BRAIN_VOLUME_ML
from mrigen.probing import explain, saliency
from mrigen.probing.explained_people import reason_to_withhold
from mrigen.probing.permutation import permute_by_group
from mrigen.runs import Run, open_run

WINDOWS_MM = (0.0, 8.0, 16.0, 24.0)
RIM_MM = 8.0


class SameModel(Run):
    """A run whose model is made once; the graphs of another one would take longer than all else."""

    def load_model(self):
        return self.__dict__["model"]


def planted(run: Run) -> None:
    """Prints how well each map finds the planted region."""
    zooms = np.asarray(run.grid["zooms"], float)
    template = load_template(float(zooms[0]))
    magnification = (template.mask.sum() / 1000 / MEAN_BRAIN_VOLUME_ML) ** (1 / 3)
    points = grid_points(tuple(run.grid["volume_shape"]), run.affine) * magnification
    points += template.centre.reshape(3, 1, 1, 1)
    # A pushed surface changes the voxels on both sides of it.
    head = ndimage.binary_dilation(sample(template, "mask", points) > 0.5)
    region = planted_region(points) & head
    near = ndimage.distance_transform_edt(~region, zooms) <= RIM_MM
    folder = run.directory / "explanation"
    if not (folder / "explanation.json").is_file():
        explain(run).write()
    chance = region[head].mean()
    print(f"{region.sum()} of {head.sum()} voxels are planted: chance {chance:.3f}")
    for path in sorted(folder.glob("*.nii.gz")):
        values = nibabel.load(path).get_fdata()
        if values.ndim != 3:
            continue
        if path.name.endswith("_mask.nii.gz"):
            mask = values > 0
            found, strays = mask[region].mean(), (mask & ~near).sum() / max(mask.sum(), 1)
            print(f"{path.name}: {mask.sum():.0f} voxels, {found:.2f} of the region; {strays:.2f} of them outside")
            continue
        ratios = []
        for width in WINDOWS_MM:
            sigma = width / 2.355 / zooms
            strength = np.sqrt(np.maximum(ndimage.gaussian_filter(values**2, sigma), 0.0)) if width else np.abs(values)
            ratios.append(average_precision_score(region[head], strength[head]) / chance)
        print(f"{path.name}: " + ", ".join(f"{w:g} mm {r:.2f}" for w, r in zip(WINDOWS_MM, ratios, strict=True)))


def null(run: Run, count: int, num_permutations: int) -> None:
    """Prints in how many of `count` drawings of the sexes something is shown, and something is marked."""
    saliency.MOST_PAIRS = 1  # It is not looked at.
    groups = run.subjects["family"].fillna(run.subjects["participant_id"]).to_numpy(dtype=str)
    shown, marked = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(run.directory, Path(folder) / "run"))
        model = run.load_model()
        for number in range(count):
            labels = permute_by_group(run.subjects["sex"].to_numpy(), groups, np.random.default_rng([7, number]))
            table = run.subjects.assign(sex=labels)
            table.to_csv(copy / "subjects.tsv", sep="\t", index=False, na_rep="n/a")
            other = SameModel(copy)
            other.__dict__["model"] = model
            explanation = explain(other, num_permutations=num_permutations, seed=number, withhold=False)
            shown += reason_to_withhold(other, explanation.figures) is None
            for name, test in explanation.tests.items():
                marked[name] = marked.get(name, 0) + bool(test.mask.any())
            print(f"{number + 1}: shown {shown}; marked {marked}", flush=True)


def main() -> None:
    """Prints the figures."""
    run = open_run(sys.argv[1])
    if len(sys.argv) > 2:
        null(run, int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 300)
    else:
        planted(run)


if __name__ == "__main__":
    main()
