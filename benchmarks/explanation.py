"""Whether maps of the sexes find where the truth was planted, and nothing where there is none.

python -m benchmarks.explanation RUN: the run is that of a cohort with `data.phantom.sex_effect: shape`. For every map
of `mrigen explain` (written to RUN/explanation where it is not there), as it is and as its root mean square under a
Gaussian window of 8, 16 and 24 mm (full width at half maximum), its area under the precision-recall curve against the
planted region inside the head over the share of voxels in that region, which is what chance gives; and of every mask
the share of the planted region that it marks, and which share of it lies outside the region and its 8 mm rim.

python -m benchmarks.explanation RUN null 200 [PERMUTATIONS [FIRST]]: the sexes of the run's people are drawn anew 200
times; in how many a map is shown, and in how many any voxel is marked where nothing is withheld; for each its largest
strength, threshold and p. FIRST: the number of the first drawing, to go on later. RUN is not written to.
"""

import dataclasses
import sys
from collections import Counter

import nibabel
import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score

from mrigen.data.phantom import planted_truth
from mrigen.probing import explain
from mrigen.probing.explained_people import explained_people, probe_figures, reason_to_withhold
from mrigen.probing.explaining import maps_of_people
from mrigen.probing.permutation import permute_by_group
from mrigen.runs import Run, open_run

WINDOWS_MM = (0.0, 8.0, 16.0, 24.0)
RIM_MM = 8.0


def planted(run: Run) -> None:
    """Prints how well each map finds the planted region."""
    zooms = np.asarray(run.grid["zooms"], float)
    region, brain, _ = planted_truth(run.recipe.data.phantom.anatomy, tuple(run.grid["volume_shape"]), run.affine)
    # A pushed surface changes the voxels on both sides of it.
    head = ndimage.binary_dilation(brain)
    region &= head
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


def null(run: Run, count: int = 200, num_permutations: int = 300, first: int = 0) -> None:
    """Prints in how many of `count` drawings of the sexes something is shown, and something is marked."""
    people, model = explained_people(run, ()), run.load_model()
    shown, marked = 0, Counter()
    for number in range(first, first + count):
        targets = permute_by_group(people.targets, people.groups, np.random.default_rng([7, number]))
        drawn = dataclasses.replace(people, targets=targets)
        shown += reason_to_withhold(run, probe_figures(drawn, seed=number)) is None
        tests = maps_of_people(run, model, drawn, drawn.direction(), num_permutations, seed=number)
        marked.update(name for name, test in tests.items() if test.mask.any())
        marked["any"] += any(test.mask.any() for test in tests.values())
        facts = {name: f"{t.strength.max():.2f} of {t.threshold:.2f}, p {t.p_value:.3f}" for name, t in tests.items()}
        print(f"{number + 1}: shown {shown}; marked {dict(marked)}; {facts}", flush=True)


def main() -> None:
    """Prints the figures."""
    run = open_run(sys.argv[1])
    if len(sys.argv) > 2:
        null(run, *map(int, sys.argv[3:]))
    else:
        planted(run)


if __name__ == "__main__":
    main()
