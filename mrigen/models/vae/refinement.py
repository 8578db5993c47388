"""Latents that explain a volume better than the encoder's guess: a few steps downhill through the decoder."""

import keras
import numpy as np
import tensorflow as tf

# Of the way to where a quadratic function of that curvature has its minimum; the curvature of a person is not quite
# the mean one.
FIRST_RATE = 0.6


@keras.saving.register_keras_serializable(package="mrigen")
class Refinement(keras.layers.Layer):
    """Steps of Newton's method whose curvature is the mean of many people, learned once. Always float32.

    A step that makes a person's latents no better is not taken, and the next is half as long: the outcome is never
    worse than the guess. Nothing is done until `learn`.

    Args:
        steps: how many are tried.

    Call arguments: guess (batch, latent), and a function from latents to the energy (batch,) nats, to be lowered.
    Output: latents (batch, latent). Derivatives by what the guess is made of are those of the guess.

    References:
        Kim et al. 2018, Semi-amortized variational autoencoders (refined guesses; there by gradient ascent).
    """

    def __init__(self, steps: int, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.steps = steps

    def build(self, guess_shape):
        size = guess_shape[-1]
        self.inverse = self.add_weight(name="inverse", shape=(size, size), initializer="zeros", trainable=False)

    def learn(self, curvature: np.ndarray) -> None:
        """Sets the curvature, (latent, latent), nats: the mean second derivatives of the energy by the latents."""
        self.inverse.assign(np.linalg.inv(np.asarray(curvature, np.float64)))

    def call(self, guess, energy):
        inverse, size = tf.convert_to_tensor(self.inverse), tf.shape(guess)[0]
        learned = tf.reduce_any(inverse != 0.0)

        def is_going_on(step, *_):
            return learned & (step <= self.steps)

        def go(step, latents, least, slope, rate):
            tried = latents - rate * tf.matmul(slope, inverse)
            with tf.GradientTape() as tape:
                tape.watch(tried)
                found = energy(tried)
            better = found < least  # Never where it is no number.
            chosen = better[:, None]
            return (
                step + 1,
                tf.where(chosen, tried, latents),
                tf.where(better, found, least),
                tf.where(chosen, tape.gradient(found, tried), slope),
                tf.where(chosen, rate, 0.5 * rate),
            )

        start = tf.stop_gradient(tf.cast(guess, tf.float32))
        # The first time round looks at the guess itself.
        state = (0, start, tf.fill([size], np.inf), tf.zeros_like(start), tf.fill([size, 1], FIRST_RATE))
        latents = tf.while_loop(is_going_on, go, state)[1]
        return guess + tf.stop_gradient(latents - start)

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}
