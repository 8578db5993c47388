"""From the `model` block of a recipe to the built model."""

import tensorflow as tf

from mrigen.errors import UsageError
from mrigen.models.base import LatentModel
from mrigen.models.family import families
from mrigen.models.keys import ModelRecipe


def build_model(
    recipe: ModelRecipe, volume_shape, precision: str = "float32", seed: int = 0, covariates=None
) -> LatentModel:
    """Returns the built model of a recipe.

    Args:
        recipe: the `model` block.
        volume_shape: (x, y, z) in voxels; any shape, also odd ones.
        precision: Keras dtype policy of the layers (float32, mixed_bfloat16, mixed_float16).
        seed: seed of weights and noise.
        covariates: the `mrigen.data.covariates.Covariates` that the model is given; needed where the recipe names any.

    Raises:
        UsageError: memory does not suffice.
    """
    options = {}
    if covariates is not None:
        options = {
            "condition_size": covariates.size,
            "invariant": covariates.columns(recipe.invariant_covariates),
        }
    try:
        model = families()[recipe.kind].load().from_recipe(recipe, volume_shape, precision, seed, **options)
        model.build((None, *volume_shape, 1))
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"model: cannot be held in memory ({reason}) on a grid of {' x '.join(map(str, volume_shape))} voxels. Use "
            "fewer model.channels, a smaller model.latent_dim, or a smaller preprocess.volume_shape."
        ) from None
    return model
