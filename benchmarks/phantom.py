"""The synthetic cohorts: time to make them, how much sex there is in them, and how far one template goes.

python -m benchmarks.phantom [time] [sex] [template] [morph]   (without a word: the first three)

For both anatomies. time: seconds for 100 people at 4 mm. sex: for each planted effect the cross-validated AUC of a
linear support vector machine on the voxels of 200 people (10 folds, families undivided). template: mean squared error
at 8 mm of 8 people to whom the template of 16 others is fitted directly, by a smooth displacement and a smooth gain (no
model, no latents). morph: the held-out error of `morph` on 200 people at 8 mm, of 60 epochs (CPU-minutes).
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrigen.data.phantom import PhantomSettings, draw_factors, write_phantom_cohort
from mrigen.data.phantom_anatomy import load_template
from mrigen.data.phantom_scanner import scan_subject

ANATOMIES = ("warped", "grown")
NUM_TEMPLATE, NUM_FITTED = 16, 8
# Smoothness in voxels of 8 mm: of an update, of the displacement at each step, and of the gain.
UPDATE, ELASTIC, GAIN = 1.0, 0.42, 2.5


def main() -> None:
    """Prints the figures."""
    wanted = sys.argv[1:] or ["time", "sex", "template"]
    with tempfile.TemporaryDirectory() as folder:
        for anatomy in ANATOMIES:
            if "time" in wanted:
                started = time.perf_counter()
                write_phantom_cohort(Path(folder) / anatomy, PhantomSettings(num_subjects=100, anatomy=anatomy))
                print(f"{anatomy}: 100 people at 4 mm: {time.perf_counter() - started:.1f} s")
            for effect in ("none", "size", "shape", "both") if "sex" in wanted else ():
                print(f"{anatomy}: sex_effect {effect}: AUC {_auc_of_voxels(anatomy, effect, Path(folder)):.3f}")
        for name, measure in {"template": _error_of_one_template, "morph": _error_of_morph}.items():
            if name in wanted:
                errors = {anatomy: measure(anatomy, Path(folder)) for anatomy in ANATOMIES}
                for anatomy, error in errors.items():
                    print(f"{name}: {anatomy}: mean squared error {error:.5f}")
                print(f"{name}: {errors['grown'] / errors['warped']:.2f} times as much is left on grown brains")


def _auc_of_voxels(anatomy: str, effect: str, folder: Path) -> float:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from mrigen.data.dataset import open_dataset
    from mrigen.data.pipeline import read_volumes
    from mrigen.recipe import load_recipe

    overrides = ["data.source=phantom", "data.num_subjects=200", f"data.phantom.sex_effect={effect}"]
    dataset = open_dataset(load_recipe("vae", [*overrides, f"data.phantom.anatomy={anatomy}"]), directory=folder)
    people = dataset.cache.table
    voxels = read_volumes(dataset.cache, dataset.rows()).reshape(len(people), -1)
    sex = (people["sex"] == "M").to_numpy()
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), SVC(kernel="linear", C=1e-3))
    scores = cross_val_predict(model, voxels, sex, groups=people["family"], cv=folds, method="decision_function")
    return roc_auc_score(sex, scores)


def _error_of_one_template(anatomy: str, _) -> float:
    settings = PhantomSettings(num_subjects=NUM_TEMPLATE + NUM_FITTED, zooms=8.0, anatomy=anatomy)
    template = load_template(settings.zooms) if anatomy == "warped" else None
    images = np.array(
        [
            scan_subject(template, settings, index, row)[0] / row["intensity_scale"]
            for index, row in enumerate(draw_factors(settings).to_dict("records"))
        ]
    )
    common = images[:NUM_TEMPLATE].mean(axis=0)
    for _ in range(4):
        common = np.mean([_carried_back(common, image) for image in images[:NUM_TEMPLATE]], axis=0)
    return np.mean([((_register(common, image, 100)[0] - image) ** 2).mean() for image in images[NUM_TEMPLATE:]])


def _register(template, image, num_steps):
    """Returns the template moved and shaded to look like the image, the displacement and the gain.

    References:
        Thirion, Image matching as a diffusion process, Medical Image Analysis 2 (1998).
    """
    displacement, gain = np.zeros((3, *image.shape)), np.zeros(image.shape)
    for step in range(num_steps):
        moved = _pull(template, displacement)
        if step > 10:
            weight = ndimage.gaussian_filter(moved**2, GAIN) + 1e-3
            gain = ndimage.gaussian_filter(moved * (image - moved), GAIN) / weight
        shaded = moved * (1 + gain)
        gradient, error = np.stack(np.gradient(shaded)), image - shaded
        update = gradient * error / ((gradient**2).sum(axis=0) + error**2 + 1e-4)
        displacement = ndimage.gaussian_filter(
            displacement + ndimage.gaussian_filter(update, (0, UPDATE, UPDATE, UPDATE)), (0, ELASTIC, ELASTIC, ELASTIC)
        )
    return _pull(template, displacement) * (1 + gain), displacement, gain


def _carried_back(template, image):
    """Returns the image without the gain, moved onto the template."""
    _, displacement, gain = _register(template, image, 30)
    inverse = -displacement
    for _ in range(5):
        inverse = -np.stack([_pull(part, inverse) for part in displacement])
    return _pull(image / (1 + gain), inverse)


def _pull(array, displacement):
    return ndimage.map_coordinates(array, np.indices(array.shape) + displacement, order=1)


def _error_of_morph(anatomy: str, folder: Path) -> float:
    from mrigen import fit

    settings = {
        "data.source": "phantom",
        "data.num_subjects": 200,
        "data.phantom.zooms": 8,
        "data.phantom.anatomy": anatomy,
        "preprocess.zooms": 8,
        "preprocess.volume_shape": [24, 28, 24],
        "model.blocks": 2,
        "model.channels": [16, 32],
        "model.field_spacing": 2,
        "training.learning_rate": 2e-3,
        "training.epochs": 60,
    }
    run = fit("morph", directory=folder / f"morph-{anatomy}", **settings)
    return json.loads((Path(run.directory) / "metrics.json").read_text())["heldout"]["mse"]


if __name__ == "__main__":
    main()
