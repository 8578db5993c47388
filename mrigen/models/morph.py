"""The morphing autoencoder: a VAE whose decoder warps a learned template."""

import keras
import tensorflow as tf

from mrigen.layers import (
    Conv3D,
    ConvolutionBlock,
    WarpedTemplate,
    bending,
    integrate_velocity,
    upsample,
    upsample_displacement,
)
from mrigen.models.vae import VariationalAutoencoder
from mrigen.recipe import ModelRecipe


@keras.saving.register_keras_serializable(package="mrigen")
class MorphingAutoencoder(VariationalAutoencoder):
    """A VAE that says of a person how the learned template is to be moved and shaded, and draws nothing itself.

    z becomes a few smooth fields on a coarse grid: a velocity, which is integrated to a map without folds and warps the
    template once at full resolution, a log-gain and an offset. So reconstructions and samples are as crisp as the
    template. The loss adds a prior on the velocity, `velocity_smoothness` / 2 times its summed squared second
    differences, in nats; affine changes, such as head size, cost nothing. It is no part of `elbo_nats`.

    Args:
        field_spacing: voxels from one point of the fields to the next, rounded down where it does not divide a side.
        field_channels: channels of the convolutions on the grid of the fields.
        integration_steps: see `integrate_velocity`.
        velocity_smoothness: weight of the prior on the velocity, per squared voxel of the coarse grid.
        See `VariationalAutoencoder` for the others; `mean_image` is the template and has to be true.
        The output also holds what `decode_parts` returns.

    References:
        Dalca et al. 2019, Learning conditional deformable templates with convolutional networks.
        Multiscale metamorphic VAE for 3D brain MRI synthesis, arXiv 2301.03588.
    """

    def __init__(
        self, *args, field_spacing=4, field_channels=32, integration_steps=6, velocity_smoothness=1.0, **kwargs
    ):
        self.field_spacing = field_spacing
        self.field_channels = field_channels
        self.integration_steps = integration_steps
        self.velocity_smoothness = velocity_smoothness
        super().__init__(*args, **kwargs)
        if not self.mean_image:
            raise ValueError("mean_image: got False, expected True: it is the template that is warped.")
        self.add_trackers(*self.trackers, "smoothness_nats")

    @classmethod
    def from_recipe(cls, recipe: ModelRecipe, volume_shape, precision: str, seed: int, **options):
        names = ("field_spacing", "field_channels", "integration_steps", "velocity_smoothness")
        options |= {name: getattr(recipe, name) for name in names}
        return super().from_recipe(recipe, volume_shape, precision, seed, **options)

    def make_decoder(self, sides):
        self.field_sides = tuple(-(-side // self.field_spacing) for side in self.volume_shape)
        self.refine = ConvolutionBlock(
            self.field_channels, self.residual, seed=self.seed + 1000, dtype=self.dtype_policy, name="refine"
        )
        # Starts at zero: the first reconstruction is the template.
        self.to_fields = Conv3D(5, 1, kernel_initializer="zeros", dtype="float32", name="to_fields")
        self.mean = WarpedTemplate(name="mean")

    def build_decoder(self, shape):
        self.refine.build((None, *self.field_sides, shape[-1]))
        self.to_fields.build((None, *self.field_sides, self.field_channels))
        self.mean.build((None, *self.volume_shape, 3))

    def decode_parts(self, z, training=False) -> dict:
        """Returns what latents `z` (batch, latent) become, float32.

        Returns:
            velocity: (batch, *field_sides, 3), voxels of the coarse grid for a unit of time.
            displacement: (batch, x, y, z, 3), voxels; see `warp`.
            gain, offset: (batch, x, y, z, 1), smooth; the offset is an intensity on the [0, 1] scale.
            reconstruction: (batch, x, y, z, 1), the warped template * gain + offset.
        """
        return self.render(*self.fields(z, training))

    def fields(self, z, training=False):
        """Returns the velocity (batch, *field_sides, 3) of latents `z`, and the log-gain and offset beside it
        (batch, *field_sides, 2)."""
        features = self.refine(upsample(self.expand(z), self.field_sides), training=training)
        return tf.split(self.to_fields(features), [3, 2], axis=-1)

    def render(self, velocity, shading) -> dict:
        """Returns what `decode_parts` returns, of fields such as those of `fields`."""
        displacement = self.displacement(velocity)
        log_gain, offset = tf.split(upsample(shading, self.volume_shape), 2, axis=-1)
        gain = tf.exp(tf.math.asinh(log_gain))  # Grows no faster than its logarithm does at the start.
        return {
            "velocity": velocity,
            "displacement": displacement,
            "gain": gain,
            "offset": offset,
            "reconstruction": self.mean(displacement) * gain + offset,
        }

    def displacement(self, velocity):
        """Returns the displacement (batch, x, y, z, 3) in voxels that leads from a head into the template; of the
        negated velocity, the one that leads back."""
        return upsample_displacement(integrate_velocity(velocity, self.integration_steps), self.volume_shape)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        smoothness = 0.5 * self.velocity_smoothness * bending(y_pred["velocity"])
        self.track(smoothness_nats=smoothness)
        return loss + tf.reduce_mean(smoothness)

    def get_config(self):
        names = ("field_spacing", "field_channels", "integration_steps", "velocity_smoothness")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
