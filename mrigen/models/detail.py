"""The network of detail as a Keras model: what is trained, stored and drawn from."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mrigen.distributions import DetailFlow


class DetailModel(keras.Model):
    """Draws what an image is beside what a decoder makes of it; see `mrigen.distributions.DetailFlow`.

    Args:
        sides: (x, y, z) of the volumes.
        channels, blocks, seed: as of the flow.
        precision: Keras dtype policy of its convolutions.

    Attributes:
        spread: (x, y, z, 1), the standard deviation of what a decoder leaves at each place of the grid.
    """

    def __init__(
        self,
        sides: Sequence[int],
        channels: Sequence[int],
        blocks: int,
        precision: str = "float32",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.spread = self.add_weight(name="spread", shape=(*sides, 1), initializer="ones", trainable=False)
        self.flow = DetailFlow(channels, blocks, seed, dtype=precision, name="flow")
        self.flow.build((None, *[self.flow.multiple] * 3, 1))
        self.built = True
        self._velocity = tf.function(self.flow, reduce_retracing=False)

    def call(self, mixed, mean, places, times):
        return self.flow(mixed, mean, places, times)

    def learn(self, images, mean, spread, places, times, noise):
        """Takes a step of the optimizer, and returns the loss before it; arguments as of `DetailFlow.loss`."""
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.flow.loss(images, mean, spread, places, times, noise))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    def draw(self, mean: np.ndarray, places: np.ndarray, seed: Sequence[int], steps: int) -> np.ndarray:
        """Returns an image with detail, (x, y, z) float32; the same for the same seed.

        Args:
            mean: what the decoder makes, (x, y, z), intensities in [0, 1].
            places: where each voxel lies in the template (or on the grid), (x, y, z, 3), -1 to 1.
            seed: of the noise.
            steps: from noise to image.
        """
        noise = np.random.default_rng(seed).standard_normal(mean.shape, dtype=np.float32)
        parts = (mean[..., None], self.spread.numpy(), places, noise[..., None])
        inputs = [tf.constant(values[None], tf.float32) for values in parts]
        return self.flow.draw(*inputs, steps, velocity=self._velocity).numpy()[0, ..., 0]


def places_on_grid(sides: Sequence[int], displacement: np.ndarray | None = None) -> np.ndarray:
    """Returns where voxels lie, (x, y, z, 3) float32, from -1 at one end of the grid to 1 at the other.

    Args:
        sides: of the grid.
        displacement: (x, y, z, 3) voxels from an image into the template, so that places are those of the template.
    """
    axes = [np.arange(side, dtype=np.float32) + np.float32(0.5) for side in sides]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    if displacement is not None:
        places = places + displacement
    return (2.0 * places / np.float32(sides) - 1.0).astype(np.float32)
