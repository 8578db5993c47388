"""Compares the gradients of one step on two logical devices with those on one; a process of its own, as TensorFlow
divides its device before anything else. Prints the norm of the difference over the norm, a line for each model."""

import keras
import numpy as np
import tensorflow as tf

from mrigen.models import MorphingAutoencoder, VariationalAutoencoder
from mrigen.system.stopping import StopRequest
from mrigen.training.devices import Placement
from mrigen.training.replicated import ReplicatedLoop

SHAPE = (8, 10, 8)
CLIP_NORM = 50.0
MODELS = {
    "clipped": (VariationalAutoencoder, {}),
    "told and untold": (VariationalAutoencoder, {"condition_size": 2, "invariant": (0,)}),
    "low rank, vamp": (VariationalAutoencoder, {"posterior": "low_rank", "prior": "vamp", "prior_components": 3}),
    "several draws": (VariationalAutoencoder, {"objective": "iw", "num_draws": 2}),
    "morph": (MorphingAutoencoder, {"field_channels": 4}),
}


def make(kind, options):
    model = kind(SHAPE, latent_dim=4, channels=(4, 8), seed=1, **options)
    model.build((None, *SHAPE, 1))
    model.num_people = 4
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(np.asarray(variable) + 0.05 * generator.standard_normal(variable.shape).astype(np.float32))
    return model


def values(model):
    return [variable.value.values[0].numpy() for variable in model.trainable_variables]


def norm(parts):
    return np.sqrt(sum(np.square(part, dtype=float).sum() for part in parts))


def difference(strategy, kind, options, clip_norm):
    generator = np.random.default_rng(0)
    volumes = generator.random((4, *SHAPE, 1), np.float32)
    condition = np.array([[1.0, 0.5], [-1.0, 0.2], [1.0, -0.3], [-1.0, 0.7]], np.float32)

    def inputs(rows):
        if "condition_size" not in options:
            return tf.constant(volumes[rows])
        return {"volumes": tf.constant(volumes[rows]), "condition": tf.constant(condition[rows])}

    one, everyone = make(kind, options), inputs(slice(None))

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            loss = one.compute_loss(x=everyone, y_pred=one(everyone, training=True), training=True)
        return tape.gradient(loss, [variable.value for variable in one.trainable_variables])

    # In a graph, as training is: of equal values in a window the derivative of max pooling takes all outside, but
    # on some CPUs (oneDNN) one within.
    expected = gradients()
    if clip_norm is not None:
        expected, _ = tf.clip_by_global_norm(expected, clip_norm)
    with strategy.scope():
        two = make(kind, options)
        clips = None if clip_norm is None else clip_norm / 2
        two.compile(optimizer=keras.optimizers.SGD(1.0, global_clipnorm=clips))
        two.optimizer.build(two.trainable_variables)
    before = values(two)
    loop = ReplicatedLoop(two, Placement(2, 1, 0, strategy), clip_norm, StopRequest())
    loop._run(loop._train, [inputs(slice(0, 2)), inputs(slice(2, 4))], 0.0)
    found = [old - new for old, new in zip(before, values(two), strict=True)]
    expected = [gradient.numpy() for gradient in expected]
    return norm([a - b for a, b in zip(found, expected, strict=True)]) / norm(expected)


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name, (kind, options) in MODELS.items():
        clip_norm = CLIP_NORM if name == "clipped" else None
        print(f"{name}\t{difference(strategy, kind, options, clip_norm):.2e}", flush=True)


if __name__ == "__main__":
    main()
