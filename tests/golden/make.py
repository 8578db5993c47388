"""Makes the golden runs of this version: python tests/golden/make.py (two minutes of a core)

Writes tests/golden/VERSION with a cohort of small synthetic heads, a tiny run of each kind, and what they sample,
encode and probe to (expected.json, expected.npz). Once a version is out, its folder is never made again: later versions
have to read it, to the same numbers. See README.md.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["MRIGEN_CACHE"] = tempfile.mkdtemp(prefix="mrigen-golden-")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from golden_numbers import numbers_of  # noqa: E402

import mrigen  # noqa: E402
from mrigen.data.phantom import PhantomSettings, write_phantom_cohort  # noqa: E402
from mrigen.imaging.volumes import make_image, read_volume, write_image  # noqa: E402
from mrigen.recipe import load_recipe  # noqa: E402
from mrigen.system.backend import load_tensorflow  # noqa: E402
from mrigen.system.files import write_json  # noqa: E402

COMMON = [
    "data.source=files", "data.root=cohort", "preprocess.zooms=12", "preprocess.volume_shape=[16,20,16]",
    "model.latent_dim=4", "model.blocks=2", "model.channels=[2,4]", "training.epochs=80", "training.batch_size=4",
    "training.precision=float32", "training.learning_rate=1e-2", "training.augment=null",
    "training.early_stopping_epochs=null",
]  # fmt: skip
# A sigma that keeps latents in use, and between them most kinds of weights.
SIGMA = "model.decoder_sigma=0.005"
RUNS = {
    "autoencoder": ["model.kind=autoencoder"],
    "vae": [SIGMA, "model.posterior=low_rank", "model.posterior_rank=2", "model.likelihood=laplace"],
    "vae-told": [SIGMA, "model.condition=[sex, age]", "model.prior=mixture", "model.prior_components=2"],
    "morph": ["model.kind=morph", "model.field_channels=4", "model.affine=true", "model.refinement_steps=2"],
}
# What no later version needs to read a run.
LEFT_OUT = ("tensorboard", "log.txt", "history.jsonl", "qc.tsv", "checkpoint", ".claims")
NUM_PEOPLE, SPACING = 18, 8.0


def main() -> None:
    """Writes the folder of this version."""
    from mrigen.training import fit

    target = HERE / mrigen.__version__
    if target.exists():
        raise SystemExit(f"{target}: is there already, expected a new version. A golden run is never made again.")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_cohort(Path("cohort"))
        expected, arrays = {}, {}
        for name, changes in RUNS.items():
            run = fit(load_recipe("smoke", [*COMMON, *changes]), name, "golden")
            for other in LEFT_OUT:
                if (run.directory / other).is_dir():
                    shutil.rmtree(run.directory / other)
                (run.directory / other).unlink(missing_ok=True)
            table = run.directory / "subjects.tsv"
            table.write_text(table.read_text().replace(f"{Path.cwd()}/", ""))
            expected[name], own = numbers_of(name)
            arrays |= {f"{name}/{key}": values for key, values in own.items()}
        write_json("expected.json", expected)
        np.savez_compressed("expected.npz", **arrays)
        shutil.copytree(folder, target)
    print(target, sum(path.stat().st_size for path in target.rglob("*")), "bytes")


def make_cohort(directory: Path) -> None:
    """Writes synthetic heads on a coarse grid, as BIDS."""
    from scipy import ndimage

    with tempfile.TemporaryDirectory() as folder:
        fine = write_phantom_cohort(Path(folder) / "bids", PhantomSettings(num_subjects=NUM_PEOPLE))
        for path in sorted(fine.glob("sub-*/anat/*_T1w.nii.gz")):
            volume = read_volume(path)
            ratio = np.linalg.norm(volume.affine[:3, :3], axis=0) / SPACING
            smaller = np.clip(ndimage.zoom(volume.array, ratio, order=1), 0, None)
            affine = volume.affine.copy()
            affine[:3, :3] /= np.array(smaller.shape) / np.array(volume.array.shape)
            image = make_image(np.round(255 * smaller / smaller.max()).astype(np.float32), affine)
            image.set_data_dtype(np.uint8)
            write_image(directory / path.relative_to(fine), image)
        for name in ("participants.tsv", "dataset_description.json"):
            shutil.copy(fine / name, directory / name)


if __name__ == "__main__":
    load_tensorflow()
    main()
