"""The keys of `model` that every family has, and what code that knows no family may ask of them. No TensorFlow."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mrigen.schema import Section, fault, key

# Patches along the longest side that "auto" allows.
MOST_PATCHES = 80


class ModelRecipe(Section):
    """What every model family has: an encoder of convolutions, latents, and a decoder.

    A family adds its keys in a class of its own (see `mrigen.models.family`), with `kind: Literal["its name"]`, and
    says what it is capable of by the class attributes and properties below.

    Attributes:
        has_likelihood: whether the model says how likely volumes are: it has an ELBO and a KL, and can collapse.
        has_prior: whether it has a prior that latents can be drawn from.
        warps_template: whether its decoder moves a learned template, so that samples have displacements.
    """

    has_likelihood: ClassVar[bool] = False
    has_prior: ClassVar[bool] = False
    warps_template: ClassVar[bool] = False

    kind: str
    latent_dim: int | None = key(
        64,
        "an integer >= 1, or null",
        "Set the number of latent variables, for example 64; null keeps the spatial latent of the last block.",
        ge=1,
        le=65536,
    )
    latent_channels: int = key(
        16, "an integer >= 1", "Channels of the spatial latent (only with latent_dim: null).", ge=1, le=4096
    )
    blocks: int = key(3, "an integer from 1 to 6", "Blocks of (conv-ReLU-norm) x 2 and halving, each way.", ge=1, le=6)
    channels: int | list[Annotated[int, Field(ge=1, le=4096)]] = key(
        32, "an integer >= 1, or one for each block", "Channels of the blocks, from full resolution down."
    )
    patch: Annotated[int, Field(ge=1, le=16)] | Literal["auto"] = key(
        "auto",
        "auto, or an integer from 1 to 16",
        "Voxels a side of what the first block sees as one place: each doubling costs an eighth of the time and "
        "memory. auto keeps every side at 80 places or fewer.",
    )
    residual: bool = key(
        False, "true or false", "Add the input of each pair of convolutions to its output (residual blocks)."
    )
    mean_image: bool = key(
        True, "true or false", "Add a learned image, started at the training mean, to what is decoded."
    )

    @model_validator(mode="after")
    def _channels_of_each_block(self):
        if isinstance(self.channels, list) and len(self.channels) != self.blocks:
            raise fault(
                f"got {len(self.channels)} channels for {self.blocks} blocks, expected one a block. "
                "Change channels or blocks."
            )
        if isinstance(self.channels, int) and not 1 <= self.channels <= 4096:
            raise fault(f"got channels {self.channels}, expected an integer from 1 to 4096. Set 32 for a start.")
        return self

    @property
    def block_channels(self) -> list[int]:
        """Channels of each block, from full resolution down."""
        return [self.channels] * self.blocks if isinstance(self.channels, int) else list(self.channels)

    @property
    def objective_name(self) -> str:
        """What training minimises, for tables."""
        return "squared error"

    @property
    def watched_figure(self) -> str:
        """The validation figure that early stopping and the choice of the best epoch look at: elbo_nats or loss."""
        return "loss"

    @property
    def covariates(self) -> tuple[str, ...]:
        """Covariates that the model is given beside latents."""
        return ()

    @property
    def invariant_covariates(self) -> tuple[str, ...]:
        """Of these, those that latents should not predict."""
        return ()

    @property
    def counted_voxels(self) -> str | None:
        """Which voxels the likelihood counts: "head", "brain" or, all of them, None."""
        return None

    @property
    def chosen_refinement_steps(self) -> int:
        """Steps by which inference improves on the encoder's guess."""
        return 0

    @property
    def forecast_settings(self) -> dict[str, Any] | None:
        """Arguments of `mrigen.statistics.collapse.forecast_active` for this model; None where it cannot collapse."""
        return None

    def least_weights(self, volume_shape: Sequence[int]) -> int:
        """Returns how many weights a model of these keys has at least, so that one that no machine can hold is refused
        before it is built; 0 of a family that does not say."""
        return 0


def convolutional_weights(recipe: ModelRecipe, volume_shape: Sequence[int]) -> int:
    """Returns the weights of the encoder's convolutions, and of the dense layers to latents and back.

    Args:
        recipe: of a family with that encoder.
        volume_shape: (x, y, z), voxels.
    """
    patch, channels = choose_patch(recipe.patch, volume_shape), recipe.block_channels
    places = math.prod(-(-side // (patch * 2 ** len(channels))) for side in volume_shape)
    taken_in = [1, *channels[:-1]]
    convolutions = sum(27 * (own * before + own * own) for before, own in zip(taken_in, channels, strict=True))
    latents = recipe.latent_channels if recipe.latent_dim is None else recipe.latent_dim * places
    return convolutions + 2 * channels[-1] * latents + (math.prod(volume_shape) if recipe.mean_image else 0)


def choose_patch(patch: int | str, volume_shape: Sequence[int]) -> int:
    """Returns the patch size of a recipe: the number as it is, or for "auto" the power of two that suits the volume.

    Example:
        >>> [choose_patch("auto", shape) for shape in ((58, 70, 58), (96, 112, 96), (160, 192, 160))]
        [1, 2, 4]
    """
    if patch != "auto":
        return int(patch)
    patch = 1
    while max(volume_shape) > MOST_PATCHES * patch:
        patch *= 2
    return patch
