"""Ways of making heads that are known to be bad: what the figures of an evaluation are compared with."""

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrigen.evaluation.heads import Heads
from mrigen.quality.alignment import place, places_of, sample
from mrigen.statistics.pca import fit_pca

# Standard deviation of the noise that tells mean heads apart.
FAINT = 2.0 / 255.0
MOVED_MM, NODDED_DEGREES = 6.0, 5.0


def quantised(volumes: np.ndarray) -> np.ndarray:
    """Returns volumes as prepared images are: float32 in [0, 1], multiples of 1 / 255."""
    return np.rint(np.clip(volumes, 0.0, 1.0) * np.float32(255)).astype(np.float32) / np.float32(255)


def made_people(count: int, name: str) -> pd.DataFrame:
    """Returns the people of heads that nobody has: each is a family, and nothing else is known."""
    names = [f"{name}-{index:04d}" for index in range(count)]
    return pd.DataFrame({"participant_id": names, "family": names})


def pca_volumes(taught: np.ndarray, count: int, num_components: int, seed: int = 0) -> np.ndarray:
    """Returns draws of probabilistic PCA without its noise, (count, x, y, z).

    Args:
        taught: (n, x, y, z) of the training people.
        num_components: at most n - 1 are there.
    """
    model = fit_pca(taught.reshape(len(taught), -1), min(num_components, len(taught) - 1))
    scores = np.random.default_rng([seed, 1]).standard_normal((count, len(model.eigenvalues)))
    drawn = model.mean + (scores * np.sqrt(model.eigenvalues)) @ model.components
    return quantised(drawn.reshape(count, *taught.shape[1:]))


def mean_volumes(taught: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Returns the mean of the training people with another faint noise each time, (count, x, y, z)."""
    noise = np.random.default_rng([seed, 2]).standard_normal((count, *taught.shape[1:]), dtype=np.float32)
    return quantised(taught.mean(axis=0) + FAINT * noise)


def moved(volume: np.ndarray, zooms, shift=(0.0, 0.0, 0.0), nod: float = 0.0) -> np.ndarray:
    """Returns a head (x, y, z) that is moved by `shift` mm and then nodded (turned about the left-right axis) by `nod`
    degrees; what comes in from outside is the border."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("x", -nod, degrees=True).as_matrix()
    pose[:3, 3] = -np.asarray(shift, float)
    points = place(pose, places_of(volume.shape, zooms).reshape(-1, 3))
    return quantised(sample(volume, zooms, points).reshape(volume.shape))


def moved_copies(heads: Heads, zooms, seed: int = 0) -> np.ndarray:
    """Returns the heads of training people again, moved by 6 mm in some direction and nodded by 5 degrees."""
    directions = np.random.default_rng([seed, 3]).standard_normal((len(heads), 3))
    directions *= MOVED_MM / np.linalg.norm(directions, axis=1, keepdims=True)
    signs = np.where(np.arange(len(heads)) % 2, -1.0, 1.0)
    return np.stack(
        [
            moved(volume, zooms, shift, sign * NODDED_DEGREES)
            for volume, shift, sign in zip(heads.volumes, directions, signs, strict=True)
        ]
    )


def blurred(volumes: np.ndarray, zooms, fwhm: float) -> np.ndarray:
    """Returns volumes (n, x, y, z) under a Gaussian of `fwhm` mm."""
    sigma = fwhm / 2.3548 / np.asarray(zooms, float)
    return quantised(np.stack([ndimage.gaussian_filter(volume, sigma, mode="nearest") for volume in volumes]))
