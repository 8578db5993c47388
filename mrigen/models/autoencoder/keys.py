"""The keys of `model` with `kind: autoencoder`."""

from collections.abc import Sequence
from typing import Literal

from mrigen.models.keys import ModelRecipe, convolutional_weights
from mrigen.schema import key


class AutoencoderRecipe(ModelRecipe):
    """An autoencoder has no keys but those that all have."""

    kind: Literal["autoencoder"] = key("autoencoder", "autoencoder", "The model family.")

    def least_weights(self, volume_shape: Sequence[int]) -> int:
        return convolutional_weights(self, volume_shape)
