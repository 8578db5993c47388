"""The keys of `model` with `kind: autoencoder`."""

from typing import Literal

from mrigen.models.keys import ModelRecipe
from mrigen.schema import key


class AutoencoderRecipe(ModelRecipe):
    """An autoencoder has no keys but those that all have."""

    kind: Literal["autoencoder"] = key("autoencoder", "autoencoder", "The model family.")
