"""What a run is worth: figures, diagnosis, maps of latents, segmentation.

Names load on first use.
"""

import importlib

_MODULES = {
    "Diagnosis": "mrigen.analysis.diagnosis",
    "LatentMaps": "mrigen.analysis.latent_maps",
    "Segmentations": "mrigen.analysis.segmentation",
    "diagnose": "mrigen.analysis.diagnosis",
    "map_latents": "mrigen.analysis.latent_maps",
    "segment": "mrigen.analysis.segmentation",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
