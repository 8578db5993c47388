"""Densities over latents that are trained: a flow, and a second VAE."""

import abc
import os
import zipfile
from collections.abc import Callable
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from mrigen.distributions import FlowPrior, diagonal_gaussian
from mrigen.errors import RunError
from mrigen.generation.densities.fitted import WhitenedDensity, Whitening
from mrigen.system.files import atomic_path

NUM_STEPS = 1500
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
# Steps after which the validation people are looked at, and how many such looks without a better one end training.
STEPS_BETWEEN_LOOKS = 50
PATIENCE = 10
# Draws from a second posterior in a log-density.
NUM_DRAWS = 64


class TrainedDensity(WhitenedDensity):
    """A density over white variables that is trained. Subclasses give `start`, `variables` and `loss`."""

    @classmethod
    @abc.abstractmethod
    def start(cls, whitening: Whitening, seed: int) -> Self:
        """Returns the density before training."""

    @property
    @abc.abstractmethod
    def variables(self) -> list:
        """What is trained."""

    @abc.abstractmethod
    def loss(self, white: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns what training makes small, a scalar in nats, of `white` (n, k) under noise of two integers."""

    @classmethod
    def fit(cls, loc, scale, draws, validation, seed: int = 0) -> Self:
        """Returns the density that is best for `validation` on the way; see `MixtureDensity.fit`."""
        density = cls.start(Whitening.fit(loc, scale), seed)
        white = (density.whitening.to_white(values) for values in (draws, validation))
        train(density.variables, density.loss, *white, seed)
        return density

    def write(self, path: str | os.PathLike) -> None:
        """Writes what `read` reads, an NPZ, whole or not at all."""
        arrays = {f"variable_{number:03d}": value for number, value in enumerate(_values(self.variables))}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, loc=self.whitening.loc, factor=self.whitening.factor, **arrays)

    @classmethod
    def read(cls, path: str | os.PathLike, seed: int = 0) -> Self:
        """Returns the density that was written, of the same `seed`.

        Raises:
            RunError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                density = cls.start(Whitening(arrays["loc"], arrays["factor"]), seed)
                for number, variable in enumerate(density.variables):
                    variable.assign(arrays[f"variable_{number:03d}"])
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"{path}: cannot be read ({reason}), expected a fitted density. Remove it.") from None
        return density


class FlowDensity(TrainedDensity):
    """A flow (RealNVP) over the whitened latents; before training it is the Gaussian.

    Args:
        whitening: of the latents.
        flow: over white variables, built.
    """

    name = "flow"

    def __init__(self, whitening: Whitening, flow: FlowPrior):
        super().__init__(whitening)
        self.flow = flow
        self._draw = tf.function(lambda seed, temperature: flow.draw(1, seed, temperature=temperature), autograph=False)

    @classmethod
    def start(cls, whitening, seed):
        flow = FlowPrior(whitening.factor.shape[1], seed=seed)
        flow.build((None, flow.latent_size))
        return cls(whitening, flow)

    @property
    def variables(self):
        return self.flow.trainable_variables

    def loss(self, white, seed):
        return -tf.reduce_mean(self.flow(white))

    def draw_white(self, generator, temperature):
        seed = generator.integers(2**31, size=2, dtype=np.int32)
        drawn = self._draw(tf.constant(seed), tf.constant(temperature, tf.float32))
        return drawn[0].numpy().astype(np.float64)

    def white_log_density(self, white):
        return self.flow(tf.constant(white, tf.float32)).numpy().astype(np.float64)


class TwoStageDensity(TrainedDensity):
    """A second, small VAE over the whitened latents, whose own latents do follow a standard normal.

    Args:
        whitening: of the latents.
        encoder, decoder: networks from white variables (n, k) to locations and raw scales of as many second latents
            (n, 2k), and back to white variables (n, k).
        log_sigma: of the decoder's noise, (k,).

    References:
        Dai and Wipf 2019, Diagnosing and enhancing VAE models, section 4.
    """

    name = "two-stage"

    def __init__(self, whitening: Whitening, encoder: keras.Sequential, decoder: keras.Sequential, log_sigma):
        super().__init__(whitening)
        self.encoder = encoder
        self.decoder = decoder
        self.log_sigma = log_sigma

    @classmethod
    def start(cls, whitening, seed):
        size = whitening.factor.shape[1]
        width = 4 * min(size, 128)
        encoder, decoder = _network(size, width, 2 * size, seed), _network(size, width, size, seed + 2)
        # White variables have variance 1: a decoder as unsure as that would pay for no second latent from the start.
        return cls(whitening, encoder, decoder, tf.Variable(tf.fill([size], -1.0)))

    @property
    def variables(self):
        return [*self.encoder.trainable_variables, *self.decoder.trainable_variables, self.log_sigma]

    def loss(self, white, seed):
        posterior, z = self.second_posterior(white, seed)
        return -tf.reduce_mean(self.log_joint(white, z) - posterior.log_prob(z))

    def second_posterior(self, white, seed):
        """Returns the posteriors of second latents of `white` (n, k), and a draw of each (n, k)."""
        loc, raw_scale = tf.split(self.encoder(white), 2, axis=-1)
        posterior = diagonal_gaussian(loc, tf.exp(tf.math.asinh(raw_scale)))
        return posterior, posterior.sample(seed=seed)

    def log_joint(self, white, z):
        """Returns log p(white given z) + log p(z), (n,) nats."""
        noise = diagonal_gaussian(self.decoder(z), tf.exp(tf.convert_to_tensor(self.log_sigma)) * tf.ones_like(z))
        return noise.log_prob(white) + diagonal_gaussian(tf.zeros_like(z), tf.ones_like(z)).log_prob(z)

    def draw_white(self, generator, temperature):
        z, noise = temperature * generator.standard_normal((2, 1, self.log_sigma.shape[0]))
        loc = self.decoder(tf.constant(z, tf.float32)).numpy()
        return (loc + np.exp(self.log_sigma.numpy()) * noise)[0].astype(np.float64)

    def white_log_density(self, white):
        white = tf.constant(white, tf.float32)
        weights = []
        for number in range(NUM_DRAWS):
            posterior, z = self.second_posterior(white, tf.constant([number, 1]))
            weights.append(self.log_joint(white, z) - posterior.log_prob(z))
        return (tf.reduce_logsumexp(weights, axis=0) - np.log(NUM_DRAWS)).numpy().astype(np.float64)


def train(variables: list, loss: Callable, values: np.ndarray, validation: np.ndarray, seed: int) -> None:
    """Minimises a loss, and leaves the variables where the loss of `validation` was smallest.

    Args:
        variables: what is changed.
        loss: from values (n, k) and a seed (two integers) to a scalar.
        values: to train on, (people, k). validation: others, (n, k); without any, training goes on to the end.
        seed: of batches and noise.
    """
    values, validation = (np.asarray(part, np.float32) for part in (values, validation))
    optimizer = keras.optimizers.Adam(LEARNING_RATE)

    @tf.function(autograph=False)
    def step(batch, noise_seed):
        with tf.GradientTape() as tape:
            value = loss(batch, noise_seed)
        optimizer.apply(tape.gradient(value, variables), variables)

    @tf.function(autograph=False)
    def look():
        return loss(tf.constant(validation), tf.constant([0, 2]))

    generator = np.random.default_rng(seed)
    best, kept, looks = (float(look()) if len(validation) else np.inf), _values(variables), 0
    for number in range(1, NUM_STEPS + 1):
        batch = values[generator.choice(len(values), min(BATCH_SIZE, len(values)), replace=False)]
        step(tf.constant(batch), tf.constant([seed, number]))
        if not len(validation) or number % STEPS_BETWEEN_LOOKS:
            continue
        if (value := float(look())) < best:
            best, kept, looks = value, _values(variables), 0
        elif (looks := looks + 1) == PATIENCE:
            break
    if len(validation):
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def _values(variables: list) -> list[np.ndarray]:
    return [np.array(variable) for variable in variables]


def _network(num_inputs: int, width: int, num_outputs: int, seed: int) -> keras.Sequential:
    network = keras.Sequential(
        [
            keras.layers.Dense(
                width, "tanh", kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32"
            ),
            keras.layers.Dense(
                num_outputs, kernel_initializer=keras.initializers.GlorotUniform(seed + 1), dtype="float32"
            ),
        ]
    )
    network.build((None, num_inputs))
    return network
