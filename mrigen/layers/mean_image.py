"""A learned image that is added to what a decoder makes."""

import keras


@keras.saving.register_keras_serializable(package="mrigen")
class MeanImage(keras.layers.Layer):
    """Adds one learned, float32 image to every volume; `start_at` sets it to the training mean.

    The network then has to learn only how a person differs from the mean.

    Input shape: (batch, x, y, z, 1).
    Output shape: the same, float32.
    """

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.image = self.add_weight(name="image", shape=tuple(input_shape[1:]), initializer="zeros")

    def call(self, inputs):
        return inputs + self.image

    def start_at(self, mean_volume) -> None:
        """Sets the image to `mean_volume` (x, y, z), intensities in [0, 1]."""
        self.image.assign(mean_volume[..., None])
