"""The plain convolutional autoencoder: the paper's design with an honest decoder."""

import keras
import tensorflow as tf

from mrigen.layers.latent_head import flat_size, latent_head
from mrigen.losses import squared_error
from mrigen.models.base import LatentModel


@keras.saving.register_keras_serializable(package="mrigen")
class Autoencoder(LatentModel):
    """Minimises the squared error, summed over voxels and halved (the NLL of a unit-variance Gaussian, less its
    constant). See `LatentModel` for arguments and shapes.

    Example:
        >>> import numpy as np
        >>> model = Autoencoder((9, 8, 7), latent_dim=3, channels=(2, 2))
        >>> model.build((None, 9, 8, 7, 1))
        >>> model.encode(np.zeros((2, 9, 8, 7, 1), "float32")).shape.as_list()
        [2, 3]
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.to_latent = latent_head(self.latent_dim, self.latent_channels, self.seed + 400, "to_latent")
        self.flatten = keras.layers.Flatten(dtype="float32")
        self.report("mse")

    def build_latent(self, features_shape):
        spatial = self.latent_dim is None
        self.to_latent.build(features_shape if spatial else (None, flat_size(features_shape[1:])))

    def posterior(self, volumes, training=False, refined=True) -> dict:
        features = tf.cast(self.features(volumes, training), tf.float32)
        if self.latent_dim is not None:
            features = self.flatten(features)
        features *= features.shape[-1] ** -0.5  # See latent_head.
        return {"loc": self.flatten(self.to_latent(features))}

    def call(self, volumes, training=False):
        outputs = self.posterior(volumes, training)
        return {**outputs, "reconstruction": self.decode(outputs["loc"], training)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        error = squared_error(x, y_pred["reconstruction"])
        self.record(mse=error / self.num_voxels)
        return 0.5 * tf.reduce_mean(error)
