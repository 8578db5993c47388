"""A learned image that every person is a warped copy of."""

import keras

from mrigen.layers.mean_image import MeanImage
from mrigen.layers.warping import warp


@keras.saving.register_keras_serializable(package="mrigen")
class WarpedTemplate(MeanImage):
    """Warps one learned, float32 image by the displacement of each person; `start_at` sets it to the training mean.

    Input shape: (batch, x, y, z, 3), displacement in voxels; see `warp`.
    Output shape: (batch, x, y, z, 1), float32.
    """

    def build(self, input_shape):
        super().build((*input_shape[:-1], 1))

    def call(self, displacement):
        return warp(self.image, displacement)
