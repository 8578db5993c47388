"""A learned image that every person is a warped copy of."""

import keras
import tensorflow as tf

from mrigen.layers.mean_image import MeanImage
from mrigen.layers.warping import warp


@keras.saving.register_keras_serializable(package="mrigen")
class WarpedTemplate(MeanImage):
    """Warps one learned, float32 image by the displacement of each person; `start_at` sets it to the training mean.

    Args:
        num_modes: learned images that can be added to it, in any amounts, before it is warped. They start at zero.

    Input shape: (batch, x, y, z, 3), displacement in voxels; see `warp`. Call argument `amounts`: (batch, num_modes),
        or None to add nothing.
    Output shape: (batch, x, y, z, 1), float32.
    """

    def __init__(self, num_modes: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.num_modes = num_modes

    def build(self, input_shape):
        super().build((*input_shape[:-1], 1))
        if self.num_modes:
            shape = (*input_shape[1:-1], self.num_modes)
            self.modes = self.add_weight(name="modes", shape=shape, initializer="zeros")

    def call(self, displacement, amounts=None):
        if amounts is None:
            return warp(self.image, displacement)
        # A sum of images that are warped alike is the same as their sum, warped; the template is shared by the batch.
        warped = warp(tf.concat([self.image, self.modes], axis=-1), displacement)
        amounts = tf.cast(amounts, tf.float32)[:, None, None, None]
        return warped[..., :1] + tf.reduce_sum(amounts * warped[..., 1:], axis=-1, keepdims=True)

    def get_config(self):
        return {**super().get_config(), "num_modes": self.num_modes}
