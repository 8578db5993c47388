"""Latents that explain a volume better than the encoder's guess: a few steps downhill through the decoder."""

import keras
import numpy as np
import tensorflow as tf

# Of the way to where a quadratic function of that curvature has its minimum; the curvature of a person is not quite
# the mean one.
FIRST_RATE = 0.6
# How far to both sides, in latents, slopes are compared where it is asked how they change: the linear interpolation of
# a warped template has no second derivatives, but its slopes change all the same.
REACH = 0.05


@keras.saving.register_keras_serializable(package="mrigen")
class Refinement(keras.layers.Layer):
    """Steps of Newton's method whose curvature is the mean of many people, learned once. Always float32.

    A step that makes a person's latents no better is not taken, and the next is half as long: the outcome is never
    worse than the guess. Nothing is done until `learn`.

    Args:
        steps: how many are tried.

    Call arguments: guess (batch, latent), what the energy is of (batch, ...) each, and the energy, a function of
    latents and these to (batch,) nats, to be lowered.
    Output: latents (batch, latent). Their derivatives, by the guess and by what the energy is of, are those of the
    steps that were taken; the curvature along a step is found by slopes `REACH` to both sides of it.

    References:
        Kim et al. 2018, Semi-amortized variational autoencoders (refined guesses; there by gradient ascent, and
        derivatives through its steps by differences of slopes likewise).
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

    def call(self, guess, *given, energy):
        @tf.custom_gradient
        def refine(guess, *given):
            outcome, places, rates, count = self._descend(guess, given, energy)

            def derivatives(upstream, variables=None):
                by_guess, *by_given = self._climb_back(upstream, given, energy, places, rates, count)
                found = (by_guess, *by_given)
                return found if variables is None else (found, [None] * len(variables))

            return outcome, derivatives

        return refine(tf.cast(guess, tf.float32), *given)

    def _descend(self, guess, given, energy):
        """Returns the outcome, and of each step, of which there are `count`: where it began, (steps + 1, batch,
        latent), and which part of the whole way was gone, (steps + 1, batch, 1), 0 where none was."""
        inverse, size = tf.convert_to_tensor(self.inverse), tf.shape(guess)[0]
        learned = tf.reduce_any(inverse != 0.0)

        def is_going_on(step, *_):
            return learned & (step <= self.steps)

        def go(step, latents, least, slope, rate, places, rates):
            tried = latents - rate * tf.matmul(slope, inverse)
            with tf.GradientTape() as tape:
                tape.watch(tried)
                found = energy(tried, *given)
            better = found < least  # Never where it is no number.
            chosen = better[:, None]
            return (
                step + 1,
                tf.where(chosen, tried, latents),
                tf.where(better, found, least),
                tf.where(chosen, tape.gradient(found, tried), slope),
                tf.where(chosen, rate, 0.5 * rate),
                tf.tensor_scatter_nd_update(places, [[step]], latents[None]),
                tf.tensor_scatter_nd_update(rates, [[step]], tf.where(chosen, rate, 0.0)[None]),
            )

        rate = tf.fill([size, 1], FIRST_RATE)
        history = [tf.zeros([self.steps + 1, *tf.unstack(tf.shape(like))]) for like in (guess, rate)]
        # The first time round looks at the guess itself.
        state = (0, guess, tf.fill([size], np.inf), tf.zeros_like(guess), rate, *history)
        count, latents, *_, places, rates = tf.while_loop(is_going_on, go, state)
        return guess + (latents - guess), places, rates, count

    def _climb_back(self, upstream, given, energy, places, rates, count):
        """Returns the derivatives of the outcome, times `upstream`, by the guess and each of `given`."""
        inverse = tf.convert_to_tensor(self.inverse)

        def slopes(latents):
            with tf.GradientTape() as tape:
                tape.watch([latents, *given])
                found = energy(latents, *given)
            return tape.gradient(found, [latents, *given], unconnected_gradients="zero")

        def go_back(step, *derivatives):
            way = rates[step] * tf.matmul(derivatives[0], inverse, transpose_b=True)
            length = tf.norm(way, axis=-1, keepdims=True)
            reach = REACH * tf.math.divide_no_nan(way, length)
            changes = zip(slopes(places[step] + reach), slopes(places[step] - reach), strict=True)
            changes = [tf.einsum("b...,b->b...", after - before, length[:, 0]) for after, before in changes]
            return step - 1, *(one - change / (2.0 * REACH) for one, change in zip(derivatives, changes, strict=True))

        state = (count - 1, upstream, *map(tf.zeros_like, given))
        # The first entry is of the guess itself, to which no step led.
        return tf.while_loop(lambda step, *_: step > 0, go_back, state)[1:]

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}
