"""Single layers, forward and backward: what normalisation, activation, up-sampling and halving cost."""

import statistics
import time

import keras
import tensorflow as tf

from mrigen.layers import FusedBatchNormalization

VOLUME_SHAPE, CHANNELS, BATCH_SIZE = (48, 64, 48), 32, 4


class DepthToSpace(keras.layers.Layer):
    """Doubling by a convolution to eight times the channels, each of which becomes one voxel of eight."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.convolution = keras.layers.Conv3D(8 * channels, 1)

    def build(self, input_shape):
        self.convolution.build(input_shape)

    def call(self, inputs):
        _, x, y, z, _ = inputs.shape
        parts = tf.reshape(self.convolution(inputs), [-1, x, y, z, 2, 2, 2, self.channels])
        return tf.reshape(tf.transpose(parts, [0, 1, 4, 2, 5, 3, 6, 7]), [-1, 2 * x, 2 * y, 2 * z, self.channels])


def candidates() -> dict[str, dict]:
    """Returns what is compared: purpose -> {name: a new layer}; the first of each is mrigen's choice."""
    layers = keras.layers
    return {
        "normalisation": {
            "batch normalisation, fused (mrigen)": FusedBatchNormalization(),
            "batch normalisation, Keras": layers.BatchNormalization(),
            "group normalisation, 8 groups, Keras": layers.GroupNormalization(8),
            "layer normalisation, Keras": layers.LayerNormalization(),
        },
        "activation": {
            "ReLU (mrigen)": layers.ReLU(),
            "leaky ReLU": layers.LeakyReLU(),
            "ELU": layers.ELU(),
            "SiLU": layers.Activation("silu"),
            "GELU": layers.Activation("gelu"),
        },
        "doubling": {
            "transposed convolution of stride 2 (mrigen)": layers.Conv3DTranspose(CHANNELS, 2, strides=2),
            "depth to space": DepthToSpace(CHANNELS),
            "repetition and convolution": keras.Sequential(
                [layers.UpSampling3D(2), layers.Conv3D(CHANNELS, 3, padding="same")]
            ),
        },
        "halving": {
            "maximum pooling (mrigen)": layers.MaxPooling3D(2),
            "average pooling": layers.AveragePooling3D(2),
            "convolution of stride 2": layers.Conv3D(CHANNELS, 2, strides=2),
        },
        "for comparison": {"convolution 3x3x3": layers.Conv3D(CHANNELS, 3, padding="same")},
    }


def layers(precision, volume_shape=VOLUME_SHAPE, num_steps=5):
    """Every candidate in turn; a round's figures are the median seconds of each, by name.

    Args:
        precision: "float32" or "mixed_bfloat16".
        volume_shape: (x, y, z) of the features; those that are doubled start from half of it.
        num_steps: timed runs of each a round.
    """
    keras.config.set_dtype_policy(precision)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    steps = {}
    for purpose, layers_of_name in candidates().items():
        sides = [side // 2 for side in volume_shape] if purpose == "doubling" else volume_shape
        for name, layer in layers_of_name.items():
            steps[name] = _step(layer, (BATCH_SIZE, *sides, CHANNELS), precision)
            steps[name]()

    def run_round():
        seconds = {name: [] for name in steps}
        for _ in range(num_steps):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - started)
        return {name: statistics.median(values) for name, values in seconds.items()}

    return {}, run_round


def _step(layer, shape, precision):
    """Returns a function that runs `layer` forward and backward."""
    dtype = tf.float32 if precision == "float32" else tf.bfloat16
    inputs = tf.cast(tf.random.stateless_normal(shape, [0, 0]), dtype)
    layer.build(shape)
    options = {"training": True} if "training" in layer._call_signature.parameters else {}

    @tf.function
    def run():
        outputs = layer(inputs, **options)
        variables = [inputs, *(weight.value for weight in layer.trainable_weights)]
        gradients = tf.gradients(outputs, variables, inputs if outputs.shape == inputs.shape else outputs)
        return [tf.reshape(gradient, [-1])[0] for gradient in gradients]

    return lambda: [part.numpy() for part in run()]
