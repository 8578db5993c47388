"""Model families, and the registry from `model.kind` to the class."""

from mrigen.models.autoencoder import Autoencoder
from mrigen.models.base import LatentModel
from mrigen.models.morph import MorphingAutoencoder
from mrigen.models.vae import VariationalAutoencoder, split_inputs
from mrigen.recipe import ModelRecipe

MODELS: dict[str, type[LatentModel]] = {
    "autoencoder": Autoencoder,
    "vae": VariationalAutoencoder,
    "morph": MorphingAutoencoder,
}

__all__ = [
    "MODELS",
    "Autoencoder",
    "LatentModel",
    "MorphingAutoencoder",
    "VariationalAutoencoder",
    "build_model",
    "split_inputs",
]


def build_model(
    recipe: ModelRecipe, volume_shape, precision: str = "float32", seed: int = 0, covariates=None
) -> LatentModel:
    """Returns the built model of a recipe.

    Args:
        recipe: the `model` block.
        volume_shape: (x, y, z) in voxels; any shape, also odd ones.
        precision: Keras dtype policy of the layers (float32, mixed_bfloat16, mixed_float16).
        seed: seed of weights and noise.
        covariates: that the model is told; needed where the recipe has a `condition`.
    """
    options = {}
    if covariates is not None:
        places = covariates.slices()
        columns = [column for name in recipe.invariant_to for column in range(covariates.size)[places[name]]]
        options = {"condition_size": covariates.size, "invariant": columns}
    model = MODELS[recipe.kind].from_recipe(recipe, volume_shape, precision, seed, **options)
    model.build((None, *volume_shape, 1))
    return model
