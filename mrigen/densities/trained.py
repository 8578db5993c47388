"""Densities over latents that are trained: a flow, and a second VAE."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from mrigen.densities.fitted import WhitenedDensity, Whitening
from mrigen.distributions import FlowPrior, diagonal_gaussian

NUM_STEPS = 1500
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
# Steps after which the validation people are looked at, and how many such looks without a better one end training.
STEPS_BETWEEN_LOOKS = 50
PATIENCE = 10
# Draws from a second posterior in a log-density.
NUM_DRAWS = 64


class FlowDensity(WhitenedDensity):
    """A flow (RealNVP) over the whitened latents; before training it is the Gaussian.

    Args:
        whitening: of the latents.
        flow: over white variables, built.
    """

    name = "flow"

    def __init__(self, whitening: Whitening, flow: FlowPrior):
        super().__init__(whitening)
        self.flow = flow

    @classmethod
    def fit(cls, loc, scale, draws, validation, seed: int = 0) -> "FlowDensity":
        """Returns the flow that makes `validation` likeliest on the way; see `MixtureDensity.fit`."""
        whitening = Whitening.fit(loc, scale)
        flow = FlowPrior(whitening.factor.shape[1], seed=seed)
        flow.build((None, flow.latent_size))
        train(
            flow.trainable_variables,
            lambda white, noise_seed: -tf.reduce_mean(flow(white)),
            whitening.to_white(draws),
            whitening.to_white(validation),
            seed,
        )
        return cls(whitening, flow)

    def draw_white(self, generator, temperature):
        seed = generator.integers(2**31, size=2, dtype=np.int32)
        return self.flow.draw(1, seed, temperature=temperature)[0].numpy().astype(np.float64)

    def white_log_density(self, white):
        return self.flow(tf.constant(white, tf.float32)).numpy().astype(np.float64)


class TwoStageDensity(WhitenedDensity):
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
    def fit(cls, loc, scale, draws, validation, seed: int = 0) -> "TwoStageDensity":
        """Returns the second VAE at its best for `validation` on the way; see `MixtureDensity.fit`."""
        whitening = Whitening.fit(loc, scale)
        size = whitening.factor.shape[1]
        width = 4 * min(size, 128)
        encoder, decoder = _network(size, width, 2 * size, seed), _network(size, width, size, seed + 2)
        # White variables have variance 1: a decoder as unsure as that would pay for no second latent from the start.
        log_sigma = tf.Variable(tf.fill([size], -1.0))
        density = cls(whitening, encoder, decoder, log_sigma)

        def loss(white, noise_seed):
            posterior, z = density.second_posterior(white, noise_seed)
            log_weight = density.log_joint(white, z) - posterior.log_prob(z)
            return -tf.reduce_mean(log_weight)

        variables = [*encoder.trainable_variables, *decoder.trainable_variables, log_sigma]
        train(variables, loss, whitening.to_white(draws), whitening.to_white(validation), seed)
        return density

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
