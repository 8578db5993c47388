"""mrigen's models, and the same VAE from plain Keras layers."""

import math

import keras
import tensorflow as tf

from benchmarks.trainers import Task, timed_steps


def mrigen(kind, deterministic=True, model=None, **task):
    """A model of mrigen, trained as `mrigen fit` does it (ops deterministic, XLA off), without the mean image.

    Args:
        kind: "vae" or "autoencoder".
        deterministic: off shows what determinism costs.
        model: further keys of a recipe's `model` block.
        task: the fields of `Task`.
    """
    from mrigen.models import build_model, model_recipe
    from mrigen.training.precision import choose_precision

    task = Task(**task)
    keras.utils.set_random_seed(0)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keys = {"latent_dim": task.latent_dim, "blocks": len(task.channels), "channels": list(task.channels)}
    recipe = model_recipe(kind=kind, mean_image=False, **(keys | (model or {})))
    facts, run_round = _trained(build_model(recipe, task.volume_shape, task.precision), task)
    return {**facts, "is_automatic": choose_precision("auto")[0] == task.precision}, run_round


def plain(**task):
    """The VAE of plain Keras layers: Conv3D, BatchNormalization, MaxPooling3D, Conv3DTranspose."""
    task = Task(**task)
    keras.config.set_dtype_policy(task.precision)
    return _trained(PlainVAE(task.volume_shape, task.channels, task.latent_dim), task)


def convolutions(**task):
    """The convolutions of `plain` alone, forward and backward, on random features: what no layer around them can save.

    The first convolution is not differentiated by its input, as in training.
    """
    task = Task(**task)
    keras.config.set_dtype_policy(task.precision)
    network = PlainVAE(task.volume_shape, task.channels, task.latent_dim)
    dtype = "float32" if task.precision == "float32" else "bfloat16"
    layers = [
        layer
        for part in (network.encoder, network.decoder)
        for layer in part.layers
        if isinstance(layer, (keras.layers.Conv3D, keras.layers.Conv3DTranspose))
    ]
    features = [tf.random.normal((task.batch_size, *layer.input.shape[1:]), dtype=dtype) for layer in layers]

    @tf.function
    def step():
        gradients = []
        for layer, inputs in zip(layers, features, strict=True):
            outputs = layer(inputs)
            variables = [layer.kernel.value] + ([inputs] if inputs.shape[-1] > 1 else [])
            gradients += tf.gradients(outputs, variables, tf.stop_gradient(outputs))
        return tf.add_n([tf.cast(tf.reduce_mean(gradient), tf.float32) for gradient in gradients])

    parameters = sum(layer.count_params() for layer in layers)
    return {"parameters": parameters}, timed_steps(task, lambda: step().numpy(), _gpu_peak_mb)


class PlainVAE(keras.Model):
    """The paper's network as a Keras user would write it; loss in nats, decoder sigma 1."""

    def __init__(self, volume_shape, channels, latent_dim):
        super().__init__()
        layers = keras.layers
        volumes = keras.Input((*volume_shape, 1))
        features = volumes
        for width in channels:
            features = layers.MaxPooling3D(2)(_convolved_twice(features, width))
        grid = features.shape[1:]
        features = layers.Flatten()(features)
        heads = [layers.Dense(latent_dim, dtype="float32")(features) for _ in range(2)]
        self.encoder = keras.Model(volumes, heads)
        z = keras.Input((latent_dim,))
        features = layers.Reshape(grid)(layers.Dense(math.prod(grid), activation="relu")(z))
        for width in reversed(channels):
            features = _convolved_twice(layers.Conv3DTranspose(width, 2, strides=2)(features), width)
        self.decoder = keras.Model(z, layers.Conv3D(1, 3, padding="same", dtype="float32")(features))
        self.noise = keras.random.SeedGenerator(0)

    def call(self, volumes):
        loc, log_variance = self.encoder(volumes)
        z = loc + keras.ops.exp(0.5 * log_variance) * keras.random.normal(keras.ops.shape(loc), seed=self.noise)
        return self.decoder(z), loc, log_variance

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        ops, (reconstruction, loc, log_variance) = keras.ops, y_pred
        nll = 0.5 * ops.sum(ops.square(reconstruction - x), axis=(1, 2, 3, 4))
        kl = 0.5 * ops.sum(ops.exp(log_variance) + ops.square(loc) - 1.0 - log_variance, axis=1)
        return ops.mean(nll + kl)


def _convolved_twice(features, width):
    for _ in range(2):
        features = keras.layers.Conv3D(width, 3, padding="same", activation="relu")(features)
        features = keras.layers.BatchNormalization()(features)
    return features


def _trained(model, task):
    model.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=False)
    volumes = task.random_batch()
    # The loss comes back as a number, so the step has ended, on a GPU too.
    run_round = timed_steps(task, lambda: model.train_on_batch(volumes), _gpu_peak_mb)
    return {"parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights)}, run_round


def _gpu_peak_mb() -> float | None:
    if not tf.config.list_physical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
