"""Model families: a folder each, with the keys of its recipe (no TensorFlow) and its `LatentModel`.

Names load on first use: recipes look at the keys without TensorFlow.
"""

from mrigen.system.exports import lazy_names

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
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
