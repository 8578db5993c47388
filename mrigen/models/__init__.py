"""Model families: a folder each, with the keys of its recipe (no TensorFlow) and its `LatentModel`.

Names load on first use: recipes look at the keys without TensorFlow.
"""

import importlib

_MODULES = {
    "Autoencoder": "mrigen.models.autoencoder.model",
    "LatentModel": "mrigen.models.base",
    "ModelFamily": "mrigen.models.family",
    "ModelRecipe": "mrigen.models.keys",
    "MorphingAutoencoder": "mrigen.models.morph.model",
    "VariationalAutoencoder": "mrigen.models.vae.model",
    "build_model": "mrigen.models.building",
    "families": "mrigen.models.family",
    "model_recipe": "mrigen.models.family",
    "split_inputs": "mrigen.models.batches",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
