"""What a run is worth: figures, diagnosis, maps of latents, segmentation.

Names load on first use.
"""

from mrigen.system.exports import lazy_names

_MODULES = {
    "Diagnosis": "mrigen.analysis.diagnosis",
    "LatentMaps": "mrigen.analysis.latent_maps",
    "Segmentations": "mrigen.analysis.segmentation",
    "diagnose": "mrigen.analysis.diagnosis",
    "map_latents": "mrigen.analysis.latent_maps",
    "segment": "mrigen.analysis.segmentation",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
