"""Latents that explain a volume better than the encoder's guess: a few steps downhill through the decoder."""

import keras
import numpy as np
import tensorflow as tf

# Of the way to where a quadratic function of that curvature has its minimum; the curvature of a person is not quite
# the mean one.
FIRST_RATE = 0.6
# How far to both sides, in standard deviations of the posterior (the inverse curvature is its variance), slopes are
# compared where it is asked how they change: the linear interpolation of a warped template has no second derivatives,
# but its slopes change all the same, and over small distances by jumps.
REACH = 2.0


@keras.saving.register_keras_serializable(package="mrigen")
class Refinement(keras.layers.Layer):
    """Steps of Newton's method whose curvature is the mean of many people, learned once. Always float32.

    A step that makes a person's latents no better is not taken, and the next is half as long: the outcome is never
    worse than the guess. Nothing is done until `learn`.

    Args:
        steps: how many are tried.

    Call arguments: guess (batch, latent), what the energy is of (batch, ...) each, and the energy, a function of
    latents and these to (batch,) nats, to be lowered.
    Output: latents (batch, latent). Their derivatives are those of steps of this kind from the guess, whose lengths
    leave as little as possible: the steps themselves jump, wherever one is taken back or a voxel of a warped template
    crosses the next.

    References:
        Kim et al. 2018, Semi-amortized variational autoencoders (refined guesses; there by gradient ascent).
        Blondel et al. 2022, Efficient and modular implicit differentiation, equation 3 (where nothing is left).
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
            latents = self._descend(guess, given, energy)

            def derivatives(upstream, variables=None):
                found = self._by_what_is_given(upstream, latents, given, energy)
                return found if variables is None else (found, [None] * len(variables))

            return guess + (latents - guess), derivatives

        return refine(tf.cast(guess, tf.float32), *given)

    def _has_learned(self):
        return tf.reduce_any(tf.convert_to_tensor(self.inverse) != 0.0)

    def _descend(self, start, given, energy):
        inverse, size = tf.convert_to_tensor(self.inverse), tf.shape(start)[0]
        learned = self._has_learned()

        def is_going_on(step, *_):
            return learned & (step <= self.steps)

        def go(step, latents, least, slope, rate):
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
            )

        # The first time round looks at the guess itself.
        state = (0, start, tf.fill([size], np.inf), tf.zeros_like(start), tf.fill([size, 1], FIRST_RATE))
        return tf.while_loop(is_going_on, go, state)[1]

    def _by_what_is_given(self, upstream, latents, given, energy):
        """Returns the derivatives of the outcome, times `upstream`, by the guess and by each of `given`.

        Where the slope by latents stays zero, they move by minus the inverse curvature times how the slope changes;
        what the steps leave of `upstream` is the guess's.
        """
        inverse = tf.convert_to_tensor(self.inverse)

        def slopes(latents):
            with tf.GradientTape() as tape:
                tape.watch([latents, *given])
                found = energy(latents, *given)
            return tape.gradient(found, [latents, *given], unconnected_gradients="zero")

        def changes(way):
            """Returns how the slopes, by latents and by each of `given`, change along `way` times the inverse."""
            length = tf.sqrt(tf.maximum(product(way, way), 0.0))
            reach = REACH * tf.math.divide_no_nan(tf.matmul(way, inverse), length)
            both = zip(slopes(latents + reach), slopes(latents - reach), strict=True)
            return [tf.einsum("b...,b->b...", after - before, length[:, 0] / (2.0 * REACH)) for after, before in both]

        def product(one, other):
            return tf.reduce_sum(one * tf.matmul(other, inverse), axis=-1, keepdims=True)

        def solve(step, way, left):
            bent = changes(left)[0]
            # What is left never grows, and no step is longer than the mean curvature says: a person's own may be none.
            size = tf.clip_by_value(tf.math.divide_no_nan(product(left, bent), product(bent, bent)), 0.0, 1.0)
            return step + 1, way + size * left, left - size * bent

        def of_steps():
            state = (0, tf.zeros_like(upstream), upstream)
            _, way, left = tf.while_loop(lambda step, *_: step < self.steps, solve, state)
            return [left, *(-change for change in changes(way)[1:])]

        return tf.cond(self._has_learned(), of_steps, lambda: [upstream, *map(tf.zeros_like, given)])

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}
