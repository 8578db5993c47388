"""The morphing autoencoder: a VAE whose decoder warps a learned template."""

import keras
import numpy as np
import tensorflow as tf

from mrigen.layers import (
    Conv3D,
    ConvolutionBlock,
    PatchExpansion,
    WarpedTemplate,
    bending,
    coarsen,
    integrate_velocity,
    upsample,
    upsample_displacement,
)
from mrigen.layers.latent_head import flat_size
from mrigen.losses import squared_error
from mrigen.models.morph.keys import MorphRecipe
from mrigen.models.vae.model import VariationalAutoencoder
from mrigen.schema import check_arguments

# Arguments of the model, and keys of a recipe, that no other model has.
OPTIONS = (
    "field_spacing",
    "field_channels",
    "linear_fields",
    "integration_steps",
    "velocity_smoothness",
    "affine",
    "detail_penalty",
    "appearance_modes",
    "shading_spacing",
)


@keras.saving.register_keras_serializable(package="mrigen")
class MorphingAutoencoder(VariationalAutoencoder):
    """A VAE that says of a person how the learned template is to be moved and shaded, and draws nothing itself.

    z becomes a few smooth fields on a coarse grid: a velocity, which is integrated to a map without folds and warps the
    template once at full resolution, a log-gain and an offset. So reconstructions and samples are as crisp as the
    template. The loss adds a prior on the velocity, `velocity_smoothness` / 2 times its summed squared second
    differences, in nats (and, where that weight is learned, what makes it a density); affine changes, such as head
    size, cost nothing. It is no part of `elbo_nats`.

    Args:
        field_spacing: voxels from one point of the fields to the next, rounded down where it does not divide a side.
        field_channels: channels of the convolutions on the grid of the fields.
        linear_fields: whether a part that is linear in z, modes of movement and shading, is added to what the
            convolutions say: it is learned soon and from few people, and leaves them what is not linear.
        integration_steps: see `integrate_velocity`.
        affine: whether pose and size are a part of their own: an affine velocity, linear in z; the velocity of the grid
            is then freed of everything affine, and is shape alone.
        detail_penalty: weight of half the summed squared detail, an image (drawn from the fields' features, not smooth)
            that is added to what was moved and shaded: what no movement explains, such as a lesion. None for no detail.
        appearance_modes: how many learned images are added to the template before it is moved, each by an amount that
            is linear in z: what heads differ in, at the same place, beside shape and shading. They are as crisp as it.
        shading_spacing: voxels from one point of the log-gain and the offset to the next, at least `field_spacing`;
            None for that. As fine as the velocity, they say what a movement of less than a voxel could say as well, and
            nothing makes them dear: what `growth_maps` sees is then too little, and elsewhere.
        velocity_smoothness: weight of the prior on the velocity, per squared voxel of the coarse grid; or "learned", a
            trained weight, which settles where the prior makes the velocities of the training people likeliest.
        See `VariationalAutoencoder` for the others; `mean_image` is the template and has to be true.
        The output also holds what `decode_parts` returns.

    References:
        Dalca et al. 2019, Learning conditional deformable templates with convolutional networks.
        Multiscale metamorphic VAE for 3D brain MRI synthesis, arXiv 2301.03588.
        Cootes, Edwards, Taylor 2001, Active appearance models (modes of appearance, in the template's space).
    """

    def __init__(
        self,
        *args,
        field_spacing=4,
        field_channels=32,
        linear_fields=False,
        integration_steps=6,
        velocity_smoothness=1.0,
        affine=False,
        detail_penalty=None,
        appearance_modes=0,
        shading_spacing=None,
        **kwargs,
    ):
        self.field_spacing = field_spacing
        self.field_channels = field_channels
        self.linear_fields = linear_fields
        self.integration_steps = integration_steps
        self.velocity_smoothness = velocity_smoothness
        self.affine = affine
        self.detail_penalty = detail_penalty
        self.appearance_modes = appearance_modes
        self.shading_spacing = shading_spacing
        check_arguments(MorphRecipe, {name: getattr(self, name) for name in OPTIONS})
        super().__init__(*args, **kwargs)
        if not self.mean_image:
            raise ValueError("mean_image: got False, expected True: it is the template that is warped.")
        if shading_spacing is not None and shading_spacing < field_spacing:
            raise ValueError(
                f"shading_spacing: got {shading_spacing}, expected at least field_spacing, {field_spacing}, or None."
            )
        if velocity_smoothness == "learned":
            self.log_smoothness = self.add_weight(
                name="log_smoothness", shape=(), initializer="zeros", dtype="float32", autocast=False
            )
        self.report(*self.reported, "smoothness_nats")
        if detail_penalty is not None:
            self.report(*self.reported, "detail_nats")

    @classmethod
    def from_recipe(cls, recipe: MorphRecipe, volume_shape, precision: str, seed: int, **options):
        options |= {name: getattr(recipe, name) for name in OPTIONS}
        return super().from_recipe(recipe, volume_shape, precision, seed, **options)

    def make_decoder(self, sides):
        self.field_sides = tuple(-(-side // self.field_spacing) for side in self.volume_shape)
        if self.shading_spacing is not None:
            self.shading_sides = tuple(-(-side // self.shading_spacing) for side in self.volume_shape)
        self.velocity_block = ConvolutionBlock(
            self.field_channels, self.residual, seed=self.seed + 1000, dtype=self.dtype_policy, name="velocity_block"
        )
        # Starts at zero: the first reconstruction is the template.
        self.to_fields = Conv3D(5, 1, kernel_initializer="zeros", dtype="float32", name="to_fields")
        if self.linear_fields:
            self.to_modes = keras.layers.Dense(
                5 * flat_size(self.field_sides),
                use_bias=False,
                kernel_initializer="zeros",
                dtype="float32",
                name="to_modes",
            )
        if self.affine:
            self.to_affine = keras.layers.Dense(12, kernel_initializer="zeros", dtype="float32", name="to_affine")
            self.affine_basis = affine_basis(self.field_sides)
        if self.detail_penalty is not None:
            self.to_detail = PatchExpansion(
                1, self.field_spacing, self.volume_shape, "zeros", dtype=self.dtype_policy, name="to_detail"
            )
        if self.appearance_modes:
            # Not from zero, as the images are: one of the two has to, and the other not.
            start = keras.initializers.VarianceScaling(seed=self.seed + 1100)
            self.to_amounts = keras.layers.Dense(
                self.appearance_modes, use_bias=False, kernel_initializer=start, dtype="float32", name="to_amounts"
            )
        self.mean = WarpedTemplate(self.appearance_modes, name="mean")

    def build_decoder(self, shape):
        self.velocity_block.build((None, *self.field_sides, shape[-1]))
        self.to_fields.build((None, *self.field_sides, self.field_channels))
        self.mean.build((None, *self.volume_shape, 3))
        if self.linear_fields:
            self.to_modes.build((None, self.latent_size + self.condition_size))
        if self.affine:
            self.to_affine.build((None, self.latent_size + self.condition_size))
        if self.appearance_modes:
            self.to_amounts.build((None, self.latent_size + self.condition_size))
        if self.detail_penalty is not None:
            self.to_detail.build((None, *self.field_sides, self.field_channels))

    def decode_parts(self, z, training=False, condition=None) -> dict:
        """Returns what latents `z` (batch, latent) become, float32; see `decode`.

        Returns:
            velocity: (batch, *field_sides, 3), voxels of the coarse grid for a unit of time.
            displacement: (batch, x, y, z, 3), voxels; see `warp`.
            gain, offset: (batch, x, y, z, 1), smooth; the offset is an intensity on the [0, 1] scale.
            detail: (batch, x, y, z, 1), with a `detail_penalty` only.
            reconstruction: (batch, x, y, z, 1), the warped template (+ modes) * gain + offset (+ detail).
        """
        code = self.with_condition(z, condition)
        features = self._features(code, training)
        parts = self.render(*self._split(code, features), self.amounts(z, condition))
        if self.detail_penalty is not None:
            parts["detail"] = tf.cast(self.to_detail(features), tf.float32)
            parts["reconstruction"] += parts["detail"]
        return {**parts, "reconstruction": self.likelihood.apply_mask(parts["reconstruction"])}

    def fields(self, z, training=False, condition=None):
        """Returns the velocity (batch, *field_sides, 3) of latents `z`, and the log-gain and offset beside it
        (batch, *field_sides, 2), with a `shading_spacing` on its grid."""
        code = self.with_condition(z, condition)
        return self._split(code, self._features(code, training))

    def amounts(self, z, condition=None):
        """Returns the amounts of the `appearance_modes` of latents `z`, (batch, modes); None where there are none."""
        return self.to_amounts(self.with_condition(z, condition)) if self.appearance_modes else None

    def _features(self, code, training):
        return self.velocity_block(upsample(self.expand(code), self.field_sides), training=training)

    def _split(self, code, features):
        fields = self.to_fields(features)
        if self.linear_fields:
            fields += tf.reshape(self.to_modes(code), tf.shape(fields))
        velocity, shading = tf.split(fields, [3, 2], axis=-1)
        if self.affine:
            # What is affine in the velocity of the grid is taken out, and that of its own put in.
            flat = tf.reshape(velocity, [-1, flat_size(self.field_sides), 3])
            # A coefficient of 1 moves points by about one voxel of the coarse grid.
            given = tf.reshape(self.to_affine(code), [-1, 4, 3]) * flat_size(self.field_sides) ** 0.5
            own = tf.einsum("pa,bpc->bac", self.affine_basis, flat)
            flat += tf.einsum("pa,bac->bpc", self.affine_basis, given - own)
            velocity = tf.reshape(flat, tf.shape(velocity))
        if self.shading_spacing is not None:
            shading = coarsen(shading, self.shading_sides)
        return velocity, shading

    def render(self, velocity, shading, amounts=None) -> dict:
        """Returns what `decode_parts` returns (without detail), of fields such as those of `fields` and amounts such as
        those of `amounts`; without these, the template is moved as it is."""
        displacement = self.displacement(velocity)
        log_gain, offset = tf.split(upsample(shading, self.volume_shape), 2, axis=-1)
        gain = tf.exp(tf.math.asinh(log_gain))  # Grows no faster than its logarithm does at the start.
        return {
            "velocity": velocity,
            "displacement": displacement,
            "gain": gain,
            "offset": offset,
            "reconstruction": self.mean(displacement, amounts) * gain + offset,
        }

    @property
    def template(self):
        return self.mean.image.numpy()[..., 0]

    def displacement(self, velocity):
        """Returns the displacement (batch, x, y, z, 3) in voxels that leads from a head into the template; of the
        negated velocity, the one that leads back."""
        return upsample_displacement(integrate_velocity(velocity, self.integration_steps), self.volume_shape)

    @property
    def smoothness_weight(self):
        """The weight of the prior on the velocity; a number, or a scalar tensor where it is learned."""
        if self.velocity_smoothness == "learned":
            return tf.exp(tf.convert_to_tensor(self.log_smoothness))
        return self.velocity_smoothness

    def penalty(self, parts):
        nats = 0.5 * self.smoothness_weight * bending(parts["velocity"])
        if self.detail_penalty is not None:
            nats += 0.5 * self.detail_penalty * squared_error(parts["detail"], 0.0)
        return nats

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        smoothness = 0.5 * self.smoothness_weight * bending(y_pred["velocity"])
        if self.velocity_smoothness == "learned":
            # Of a Gaussian over the directions in which a velocity can bend: all but the twelve of affine changes.
            num_bending = max(0, 3 * flat_size(self.field_sides) - 12)
            smoothness -= 0.5 * num_bending * tf.convert_to_tensor(self.log_smoothness)
        self.record(smoothness_nats=smoothness)
        if self.detail_penalty is not None:
            detail = 0.5 * self.detail_penalty * squared_error(y_pred["detail"], 0.0)
            self.record(detail_nats=detail)
            smoothness += detail
        return loss + tf.reduce_mean(smoothness)

    def resampled_weights(self):
        weights = super().resampled_weights()
        if self.appearance_modes:
            weights["image"] = [*weights["image"], self.mean.modes]
        given_out = [] if self.detail_penalty is None else [self.to_detail.convolution.kernel]
        return {**weights, "given_out": given_out}

    def get_config(self):
        return {**super().get_config(), **{name: getattr(self, name) for name in OPTIONS}}


def affine_basis(sides) -> np.ndarray:
    """Returns an orthogonal basis of the affine functions on a grid, (points, at most 4) float32.

    The columns, a constant and one for each axis, have length 1; that of an axis of one point is zero.
    """
    axes = [np.arange(side) - (side - 1) / 2.0 for side in sides]
    columns = [np.ones(flat_size(sides)), *(axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))]
    norms = [np.linalg.norm(column) for column in columns]
    columns = [column / max(norm, 1e-12) for column, norm in zip(columns, norms, strict=True)]
    return np.stack(columns, axis=-1).astype(np.float32)
