"""What an image is beside what a decoder makes of it: a distribution that is drawn from by a flow."""

import math

import keras
import tensorflow as tf

from mrigen.layers import Conv3D, TimedBlock, fold, normalised, unfold

# Frequencies, in half-periods over the grid, by which a place is told beside its coordinates.
PLACE_FREQUENCIES = (1.0, 2.0, 4.0)
TIME_FREQUENCIES = 5
TIME_FEATURES = 64


@keras.saving.register_keras_serializable(package="mrigen")
class DetailFlow(keras.layers.Layer):
    """p(image given a decoder's mean of it and the place of each voxel in the anatomy), by conditional flow matching.

    The difference of the two, over its spread at each place, is reached from white noise along straight lines on the
    average: at time t there is (1 - t) noise + t difference, and the network says how fast and whereto each voxel
    moves. It is made of convolutions alone, so it learns from crops (detail is local, and one head holds a million
    voxels of it) and draws whole volumes.

    Args:
        channels: at each halving of resolution; the first is of places of two voxels a side.
        blocks: residual blocks at each.
        seed: seed of the weights.

    Call arguments:
        mixed: (batch, x, y, z, 1), what there is at a time.
        mean: (batch, x, y, z, 1), the decoder's, intensities in [0, 1].
        places: (batch, x, y, z, 3), where each voxel lies in the template (or on the grid), -1 to 1.
        times: (batch,), from 0, noise, to 1, the difference over its spread.
    Output: the velocity, (batch, x, y, z, 1) float32.

    References:
        Lipman et al. 2023, Flow matching for generative modeling; Liu et al. 2023, Flow straight and fast.
        Karras et al. 2022, Elucidating the design space of diffusion-based generative models, table 1
        (preconditioning: the network has to say what the best linear guess leaves, in units of its spread).
    """

    def __init__(self, channels=(64, 96, 128), blocks: int = 2, seed: int | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.channels = tuple(channels)
        self.blocks = blocks
        self.seed = seed
        self._made = 0
        policy = {"dtype": self.dtype_policy}
        first, *deeper = self.channels
        self.entry = Conv3D(first, 3, padding="same", kernel_initializer=self._start(), **policy)
        self.way_down = [[self._block(size) for _ in range(blocks)] for size in self.channels[:-1]]
        self.narrowing = [
            Conv3D(size, 2, strides=2, padding="same", kernel_initializer=self._start(), **policy) for size in deeper
        ]
        self.bottom = [self._block(self.channels[-1]) for _ in range(blocks + 1)]
        self.widening = [
            keras.layers.Dense(8 * size, kernel_initializer=self._start(), **policy) for size in self.channels[:-1]
        ]
        self.way_up = [[self._block(size) for _ in range(blocks)] for size in self.channels[:-1]]
        # Starts at zero: the best linear guess.
        self.exit = Conv3D(8, 3, padding="same", kernel_initializer="zeros", dtype="float32")
        self.time = [
            keras.layers.Dense(TIME_FEATURES, "silu", kernel_initializer=self._start(), dtype="float32")
            for _ in range(2)
        ]

    def _start(self):
        self._made += 1
        return keras.initializers.HeNormal(seed=None if self.seed is None else self.seed + self._made)

    def _block(self, size):
        self._made += 1
        return TimedBlock(size, None if self.seed is None else self.seed + self._made, dtype=self.dtype_policy)

    def build(self, mixed_shape, mean_shape=None, places_shape=None, times_shape=None):
        sides = [-(-side // self.multiple) * self.multiple // 2 for side in mixed_shape[1:4]]
        self.time[0].build((None, 2 * TIME_FREQUENCIES + 1))
        self.time[1].build((None, TIME_FEATURES))
        features = 3 * (1 + 2 * len(PLACE_FREQUENCIES))
        self.entry.build((None, *sides, 16 + features))
        grids = [[side // 2**level for side in sides] for level in range(len(self.channels))]
        for level, size in enumerate(self.channels[:-1]):
            shape, below = (None, *grids[level], size), (None, *grids[level + 1], self.channels[level + 1])
            for block in (*self.way_down[level], *self.way_up[level]):
                block.build(shape, (None, TIME_FEATURES))
            self.narrowing[level].build(shape)
            self.widening[level].build(below)
        for block in self.bottom:
            block.build((None, *grids[-1], self.channels[-1]), (None, TIME_FEATURES))
        self.exit.build((None, *sides, self.channels[0]))

    @property
    def multiple(self) -> int:
        """Voxels of which sides are padded to a multiple."""
        return 2 ** len(self.channels)

    def call(self, mixed, mean, places, times):
        sides = mixed.shape[1:4]
        mixed, times = tf.cast(mixed, tf.float32), tf.cast(times, tf.float32)
        time = tf.reshape(times, [-1, 1, 1, 1, 1])
        # Noise and difference have variance 1 and know nothing of each other, so far.
        variance = tf.square(time) + tf.square(1.0 - time)
        guess = (2.0 * time - 1.0) / variance * mixed
        left = self._network(mixed * tf.math.rsqrt(variance), tf.cast(mean, tf.float32), places, times)
        return guess + unfold(left, sides) * tf.math.rsqrt(variance)

    def _network(self, mixed, mean, places, times):
        time = self._features_of_times(times)
        parts = [
            fold(mixed, self.multiple),
            fold(4.0 * mean - 2.0, self.multiple),
            self._features_of_places(tf.cast(places, tf.float32)),
        ]
        inner = self.entry(tf.cast(tf.concat(parts, axis=-1), self.compute_dtype))
        kept = []
        for blocks, narrow in zip(self.way_down, self.narrowing, strict=True):
            for block in blocks:
                inner = block(inner, time)
            kept.append(inner)
            inner = narrow(inner)
        for block in self.bottom:
            inner = block(inner, time)
        for blocks, widen, before in zip(self.way_up[::-1], self.widening[::-1], kept[::-1], strict=True):
            inner = before + unfold(widen(inner))
            for block in blocks:
                inner = block(inner, time)
        return self.exit(normalised(inner))

    def _features_of_times(self, times):
        angles = times[:, None] * math.pi * 2.0 ** tf.range(TIME_FREQUENCIES, dtype=tf.float32)
        features = tf.concat([tf.sin(angles), tf.cos(angles), times[:, None]], axis=-1)
        for dense in self.time:
            features = dense(features)
        return features

    def _features_of_places(self, places):
        missing = [-side % self.multiple for side in places.shape[1:4]]
        places = tf.pad(places, [[0, 0], *([0, few] for few in missing), [0, 0]])[:, ::2, ::2, ::2]
        angles = [places * math.pi * frequency for frequency in PLACE_FREQUENCIES]
        return tf.concat([places, *(wave(angle) for angle in angles for wave in (tf.sin, tf.cos))], axis=-1)

    def loss(self, images, mean, spread, places, times, noise):
        """Returns how far the velocity at a time is from noise to difference, (batch,): the mean squared error over
        that of the best linear guess, about.

        Args:
            images: (batch, x, y, z, 1). noise: likewise, standard normal. The others: as of a call.
            spread: the standard deviation of the difference of image and mean, by which it is divided, likewise.
        """
        images, mean, noise = (tf.cast(values, tf.float32) for values in (images, mean, noise))
        difference = (images - mean) / tf.cast(spread, tf.float32)
        time = tf.reshape(tf.cast(times, tf.float32), [-1, 1, 1, 1, 1])
        velocity = self(time * difference + (1.0 - time) * noise, mean, places, times)
        error = tf.square(difference - noise - velocity) * (tf.square(time) + tf.square(1.0 - time))
        return tf.reduce_mean(error, axis=[1, 2, 3, 4])

    def draw(self, mean, spread, places, noise, steps: int, velocity=None):
        """Returns images (batch, x, y, z, 1) float32: `mean` and a detail, which `noise` (standard normal, of the same
        shape) becomes in so many steps of Heun's method.

        Args:
            mean, places: as of a call. noise: of the shape of `mean`. spread: as of `loss`.
            steps: how many; each but the last calls the network twice.
            velocity: what is called instead of this layer, such as a graph of it.
        """
        velocity_at = self if velocity is None else velocity
        mixed, mean = tf.cast(noise, tf.float32), tf.cast(mean, tf.float32)
        step = 1.0 / steps
        for number in range(steps):
            times = tf.fill(tf.shape(mean)[:1], number * step)
            velocity = velocity_at(mixed, mean, places, times)
            moved = mixed + step * velocity
            if number < steps - 1:
                velocity = 0.5 * (velocity + velocity_at(moved, mean, places, times + step))
                moved = mixed + step * velocity
            mixed = moved
        return mean + mixed * tf.cast(spread, tf.float32)

    def compute_output_shape(self, mixed_shape, mean_shape=None, places_shape=None, times_shape=None):
        return (*mixed_shape[:4], 1)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "blocks": self.blocks, "seed": self.seed}
