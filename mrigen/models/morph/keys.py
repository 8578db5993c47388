"""The keys of `model` with `kind: morph`."""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mrigen.models.vae.keys import MOST_WEIGHT, VAERecipe
from mrigen.schema import fault, key


class MorphRecipe(VAERecipe):
    """What a morphing autoencoder has beside what a VAE has."""

    warps_template: ClassVar[bool] = True

    kind: Literal["morph"] = key("morph", "morph", "The model family.")
    field_spacing: int = key(
        4,
        "an integer from 1 to 16",
        "morph: voxels from one point of the velocity and gain fields to the next.",
        ge=1,
        le=16,
    )
    field_channels: int = key(
        32, "an integer >= 1", "morph: channels of the convolutions at that spacing.", ge=1, le=4096
    )
    linear_fields: bool = key(
        False,
        "true or false",
        "morph: add a part to those fields that is linear in the latents: modes, which few people suffice to learn.",
    )
    integration_steps: int = key(
        6, "an integer from 0 to 12", "morph: squarings that integrate the velocity; 0 adds it as it is.", ge=0, le=12
    )
    velocity_smoothness: Annotated[float, Field(ge=0, le=MOST_WEIGHT)] | Literal["learned"] = key(
        1.0,
        "learned, or a number from 0 to 1e9",
        "morph: weight of half the summed squared second differences of the velocity; learned: a trained weight.",
    )
    affine: bool = key(
        False, "true or false", "morph: give pose and size a part of their own; the velocity is then shape alone."
    )
    detail_penalty: float | None = key(
        None,
        "a number from 0 to 1e9, or null",
        "morph: weight of half the summed squared detail that is added to the moved template; null for no detail.",
        ge=0,
        le=MOST_WEIGHT,
    )
    appearance_modes: int = key(
        0,
        "an integer from 0 to 64",
        "morph: learned images that are added to the template before it is moved, in amounts that are linear in the "
        "latents: what heads differ in beside shape and shading.",
        ge=0,
        le=64,
    )
    shading_spacing: int | None = key(
        None,
        "an integer from 1 to 64, or null",
        "morph: voxels from one point of the gain and offset fields to the next, at least field_spacing; null for it. "
        "Coarse ones (64 mm) leave small movements to the velocity, where growth maps see them.",
        ge=1,
        le=64,
    )

    @model_validator(mode="after")
    def _has_a_template(self):
        if not self.mean_image:
            raise fault("got mean_image: false for kind: morph, expected true: it warps that image. Remove mean_image.")
        return self

    @model_validator(mode="after")
    def _shades_no_finer_than_it_moves(self):
        if self.shading_spacing is not None and self.shading_spacing < self.field_spacing:
            raise fault(
                f"got shading_spacing: {self.shading_spacing} with field_spacing: {self.field_spacing}, expected at "
                "least that. Set shading_spacing to a multiple of it, or to null."
            )
        return self

    def least_weights(self, volume_shape: Sequence[int]) -> int:
        places = math.prod(-(-side // self.field_spacing) for side in volume_shape)
        modes = 5 * places * (self.latent_dim or 0) if self.linear_fields else 0
        images = self.appearance_modes * math.prod(volume_shape)
        return super().least_weights(volume_shape) + 27 * self.field_channels**2 + modes + images
