"""A small convolutional network that is fitted to the target itself: what supervision makes of the same people."""

import keras
import numpy as np
import tensorflow as tf

from mrigen.data.augment import Augmenter
from mrigen.layers import EncoderBlock, PatchEmbedding
from mrigen.probing import predictors
from mrigen.probing.predictors import FoldScores, stratified_group_folds
from mrigen.probing.targets import Target
from mrigen.recipe import AugmentRecipe

CHANNELS = (16, 32, 64)
EPOCHS = 40
PATIENCE = 10
BATCH_SIZE = 8
LEARNING_RATE = 1e-3
DROPOUT = 0.3
# Patches along the longest side: images of 4 mm are divided into patches of four voxels, so a fold takes a minute.
MOST_PATCHES = 16


def build_network(volume_shape, num_outputs: int, seed: int, channels=CHANNELS) -> keras.Sequential:
    """Returns the unfitted network: the encoder's blocks, the mean over space, a linear layer.

    Args:
        volume_shape: (x, y, z) in voxels.
        num_outputs: numbers it predicts of a person.
        seed: of weights and dropout.
        channels: of the blocks.

    Input shape: (batch, x, y, z, 1), intensities in [0, 1].
    Output shape: (batch, num_outputs) float32.
    """
    patch = 1
    while max(volume_shape) > MOST_PATCHES * patch:
        patch *= 2
    layers: list[keras.layers.Layer] = [keras.Input((*volume_shape, 1))]
    if patch > 1:
        layers.append(PatchEmbedding(channels[0], patch, seed))
    layers += [EncoderBlock(width, seed=seed + 10 * (index + 1)) for index, width in enumerate(channels)]
    layers += [
        keras.layers.GlobalAveragePooling3D(),
        keras.layers.Dropout(DROPOUT, seed=seed + 1),
        keras.layers.Dense(num_outputs, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 2)),
    ]
    return keras.Sequential(layers)


class CNNPredictor:
    """A network fitted anew to the training people of each fold; see `build_network`.

    A fifth of the training people (whole families) say when to stop; nobody who is tested is looked at. Classes weigh
    the same. Scores are log-odds, log-probabilities of three or more classes, or predictions of numbers. It is run in
    one repeat of a cross-validation, because it takes minutes, and the same fold is fitted once.

    Args:
        volumes: (n, D) float32, flattened, in [0, 1].
        volume_shape: (x, y, z) in voxels.
        zooms: voxel size in mm.
        target: what is predicted.
    """

    num_repeats = 1

    def __init__(self, volumes: np.ndarray, volume_shape, zooms, target: Target):
        self._volumes, self._shape, self._target = volumes, tuple(volume_shape), target
        self._augment = Augmenter(AugmentRecipe(), self._shape, zooms)
        self._fits: dict[tuple, FoldScores] = {}

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        key = (targets[train].tobytes(), train.tobytes(), test.tobytes(), seed)
        if key not in self._fits:
            self._fits[key] = self._fit_score(targets, groups, train, test, seed)
        return self._fits[key]

    def _fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        strata = self._target.strata(targets[train])
        folds = stratified_group_folds(strata, groups[train], predictors.NUM_INNER_FOLDS, seed)
        fitted, validation = (train[folds[0][0]], train[folds[0][1]]) if folds else (train, train[:0])
        seed %= 2**31 - 100  # TensorFlow's seeds are signed
        expected, weight, middle, spread = self._encode_targets(targets, train)
        network = build_network(self._shape, expected.shape[1], seed)
        epochs = self._fit(network, expected, weight, fitted, validation, seed)
        outputs = self._outputs(network, test).astype(np.float64)
        setting = f"epochs={epochs}"
        if self._target.task == "regression":
            predicted = middle + spread * outputs[:, 0]
            return FoldScores(predicted, predicted, setting)
        if self._target.task == "binary":
            return FoldScores(outputs[:, 0], (outputs[:, 0] > 0.0).astype(int), setting)
        scores = outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)
        return FoldScores(scores, scores.argmax(axis=1), setting)

    def _encode_targets(self, targets, train) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Returns what the network should return (n, outputs), the weights (n,), and mean and deviation of numbers.

        What stands there for people other than `train` is not used.
        """
        if self._target.task == "regression":
            middle, spread = float(targets[train].mean()), float(targets[train].std()) or 1.0
            return (
                ((targets - middle) / spread)[:, None].astype(np.float32),
                np.ones(len(targets), np.float32),
                middle,
                spread,
            )
        num_classes = len(self._target.classes)
        counts = np.maximum(1, np.bincount(targets[train], minlength=num_classes))
        weight = (len(train) / (num_classes * counts))[targets].astype(np.float32)
        if num_classes == 2:
            return targets[:, None].astype(np.float32), weight, 0.0, 1.0
        return np.eye(num_classes, dtype=np.float32)[targets], weight, 0.0, 1.0

    def _loss(self, expected, outputs):
        """Returns the loss of each person (batch,)."""
        if self._target.task == "regression":
            return tf.square(outputs - expected)[:, 0]
        if self._target.task == "binary":
            return tf.nn.sigmoid_cross_entropy_with_logits(expected, outputs)[:, 0]
        return tf.nn.softmax_cross_entropy_with_logits(expected, outputs)

    def _fit(self, network, expected, weight, fitted, validation, seed) -> int:
        """Fits `network` and returns after how many epochs it was best for the validation people."""
        optimizer = keras.optimizers.Adam(LEARNING_RATE)
        optimizer.build(network.trainable_variables)

        @tf.function(autograph=False)
        def step(volumes, expected, weight, seeds):
            changed = tf.map_fn(
                lambda pair: self._augment(pair[0], pair[1]), (volumes, seeds), fn_output_signature=tf.float32
            )
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(weight * self._loss(expected, network(changed[..., None], training=True)))
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)

        generator = np.random.default_rng(seed)
        best, best_epoch, weights = np.inf, EPOCHS, None
        size = min(BATCH_SIZE, len(fitted))
        for epoch in range(EPOCHS):
            order = generator.permutation(fitted)
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                seeds = np.stack([np.full(size, seed), epoch * len(expected) + rows], axis=1).astype(np.int32)
                step(*map(tf.constant, (self._of(rows), expected[rows], weight[rows], seeds)))
            if not len(validation):
                continue
            losses = self._loss(tf.constant(expected[validation]), tf.constant(self._outputs(network, validation)))
            loss = float(np.mean(weight[validation] * losses.numpy()))
            if loss < best:
                best, best_epoch, weights = loss, epoch + 1, network.get_weights()
            elif epoch + 1 - best_epoch >= PATIENCE:
                break
        if weights is not None:
            network.set_weights(weights)
        return best_epoch

    def _of(self, rows) -> np.ndarray:
        return self._volumes[rows].reshape(len(rows), *self._shape)

    def _outputs(self, network, rows) -> np.ndarray:
        """Returns the outputs for `rows`, (rows, outputs) float32."""
        parts = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
        return np.concatenate([network(self._of(part)[..., None], training=False).numpy() for part in parts])
