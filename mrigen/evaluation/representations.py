"""What heads become before two of them are compared: latents, and what is simpler than latents."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrigen.evaluation.heads import PCA, SAMPLES, Heads, Material
from mrigen.statistics.collapse import ACTIVE_VARIANCE
from mrigen.statistics.pca import fit_pca, gram_matrix, gram_scores

# What is judged stands where samples do in the other parts.
LATENTS, UNTRAINED, VOXELS, VOLUME = SAMPLES, "untrained", "voxels", "volume"
GROUPS = {
    LATENTS: "posterior means of the run",
    PCA: "as many principal components of the people who were learned from",
    UNTRAINED: "posterior means of the same network before training",
    VOXELS: "all voxels",
    VOLUME: "the volume of the brain alone, or of the head where no brain is known",
}


def represent(material: Material, heads: Heads, networks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns heads as each of `GROUPS` has them: name -> (heads, variables).

    Args:
        material: whose people principal components are found in.
        heads: to represent.
        networks: the model of the run as `LATENTS`, and that before training as `UNTRAINED`.
    """
    latents = active(encode(networks[LATENTS], heads.volumes))
    flat = heads.volumes.reshape(len(heads), -1)
    taught = material.taught.volumes.reshape(len(material.taught), -1)
    number = max(1, min(latents.shape[1], len(taught) - 1))
    return {
        LATENTS: latents,
        PCA: fit_pca(taught, number).transform(flat),
        UNTRAINED: encode(networks[UNTRAINED], heads.volumes)["loc"],
        # Turned, so that they are no more columns than there are heads: distances and angles stay.
        VOXELS: gram_scores(gram_matrix(flat), np.arange(len(flat)), len(flat)),
        VOLUME: volumes_ml(heads, material.zooms)[:, None],
    }


def encode(model, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns loc and, for a VAE, scale (n, latent) of volumes (n, x, y, z) in [0, 1]."""
    from mrigen.runs.encoding import encode_volumes

    return encode_volumes(model, np.rint(volumes * np.float32(255)).astype(np.uint8))


def active(latents: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the posterior means (n, latent); of a VAE, those alone that vary by more than .01, if any does."""
    loc = latents["loc"]
    is_active = loc.var(axis=0) > ACTIVE_VARIANCE
    return loc[:, is_active] if "scale" in latents and is_active.any() else loc


def volumes_ml(heads: Heads, zooms) -> np.ndarray:
    """Returns the volume (n,) of each brain in ml, of each head where some brain is not known, or of `brains` where
    neither is."""
    for name in ("brain_volume_ml", "head_volume_ml"):
        known = heads.column(name).astype(float)
        if np.isfinite(known).all():
            return known
    return heads.brains.sum(axis=(1, 2, 3)) * float(np.prod(zooms)) / 1000.0
