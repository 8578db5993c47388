"""What simpler models make of the same people, with as many numbers a person as the model has latents."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.spatial.transform import Rotation

from mrigen.data.augment import Augmenter
from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import choose_rows, read_volumes, training_dataset
from mrigen.recipe import AugmentRecipe, TrainingRecipe
from mrigen.statistics.appearance import fit_appearance
from mrigen.statistics.pca import PCAModel, fit_pca_in_blocks

# Volumes in memory at a time, and of whom at most PCA learns: beyond this it takes a random part of the people.
PCA_BYTES = 4 * 2**30
# PCA sees each person changed as often as the model did, as long as that makes no more images than these, nor more
# voxels: as many heads of 48x56x48 voxels.
NUM_IMAGES = 2048
NUM_VALUES = NUM_IMAGES * 48 * 56 * 48
# Images that PCA takes in at a time, and components beyond the number of people that it gets at most.
BLOCK_IMAGES, MOST_COMPONENTS = 512, 256
# People by whom the active appearance model is taught, calibrated and scored, at most: each is registered.
MOST_TAUGHT, MOST_CALIBRATING, MOST_SCORED = 256, 32, 128
# How often each of them is taught moved.
NUM_MOVES = 8


def pca_figures(
    dataset: Dataset,
    latent_size: int,
    inside: np.ndarray,
    training: TrainingRecipe | None = None,
    zooms=(1.0, 1.0, 1.0),
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the figures of probabilistic PCA of the training people, as `evaluate` names them.

    Args:
        dataset: the people.
        latent_size: components wanted.
        inside: (voxels,) bool, those that count.
        training: of the model: PCA is taught by the people as they are and as they were changed in the first epochs.
        zooms: voxel size in mm, for the changes.
        seed: of the part of the people that it sees.
    """
    train = choose_rows(dataset.rows("train"), dataset.cache.volume_shape, PCA_BYTES, seed)
    figures: dict[str, Any] = dict.fromkeys(("mse", "loglik_nats", "loglik_calibrated_nats"))
    num_copies = _num_copies(len(train), training, most_images(dataset.cache.volume_shape))
    num_plain = _num_components(latent_size, len(train), 0)
    figures |= {"num_components": num_plain, "num_subjects": len(train), "num_copies": num_copies}
    if len(train) < 2 or not len(dataset.rows("heldout")):
        return figures
    plain = fit_pca_in_blocks(_people(dataset, train, inside), num_plain)
    if not num_copies:
        return figures | _score(dataset, plain, inside, seed)

    def images() -> Iterator[np.ndarray]:
        yield from _people(dataset, train, inside)
        changed = training_dataset(
            dataset.cache, train, 1, training.seed, num_copies, augment=training.augment, zooms=zooms
        )
        for block in changed.unbatch().batch(_block_size(dataset)).as_numpy_iterator():
            yield _flat(block, inside)

    number = _num_components(latent_size, len(train), num_copies)
    figures["num_components"] = number
    figures |= _score(dataset, fit_pca_in_blocks(images(), number), inside, seed)
    return figures | {"unchanged": {"num_components": num_plain} | _score(dataset, plain, inside, seed)}


def teach_pca(
    volumes: np.ndarray,
    num_components: int,
    training: TrainingRecipe | None = None,
    zooms=(1.0, 1.0, 1.0),
    num_images: int | None = None,
) -> tuple[PCAModel, int]:
    """Returns PCA of people as they are and, where a model was taught so, as they were changed, and how often it saw
    each of them changed.

    Args:
        volumes: (people, x, y, z) float32.
        num_components: wanted.
        training: of the model, or None.
        zooms: voxel size in mm, for the changes.
        num_images: at most, but for once changed; None: `most_images`.
    """
    num_images = most_images(volumes.shape[1:]) if num_images is None else num_images
    num_copies = _num_copies(len(volumes), training, num_images)
    size = int(np.clip(PCA_BYTES // (16 * volumes[0].size), 2, BLOCK_IMAGES))
    change = None if not num_copies else tf.function(Augmenter(training.augment, volumes.shape[1:], zooms))

    def images() -> Iterator[np.ndarray]:
        for start in range(0, len(volumes), size):
            yield volumes[start : start + size].reshape(-1, volumes[0].size)
        numbers = [(copy, person) for copy in range(num_copies) for person in range(len(volumes))]
        for start in range(0, len(numbers), size):
            block = np.empty((len(numbers[start : start + size]), volumes[0].size), np.float32)
            for row, (copy, person) in zip(block, numbers[start : start + size], strict=True):
                seed = tf.random.fold_in(tf.constant([training.seed, copy], tf.int32), person)
                row[:] = change(tf.constant(volumes[person]), seed).numpy().ravel()
            yield block

    return fit_pca_in_blocks(images(), _num_components(num_components, len(volumes), num_copies)), num_copies


def most_images(volume_shape: Sequence[int]) -> int:
    """Returns how many images PCA is taught by at most: fewer where they are large."""
    return max(2, min(NUM_IMAGES, NUM_VALUES // int(np.prod(volume_shape))))


def _num_copies(num_people: int, training: TrainingRecipe | None, num_images: int) -> int:
    if training is None or training.augment is None:
        return 0
    return min(training.epochs, max(1, num_images // max(num_people, 1)))


def _num_components(wanted: int, num_people: int, num_copies: int) -> int:
    """Returns how many components PCA gets: not more than there are images, nor many more than people."""
    if not num_copies:
        return max(1, min(wanted, num_people - 1))
    return min(wanted, num_people * (num_copies + 1) - 1, max(num_people - 1, MOST_COMPONENTS))


def appearance_figures(
    dataset: Dataset,
    latent_size: int,
    inside: np.ndarray,
    training: TrainingRecipe | None = None,
    zooms=(1.0, 1.0, 1.0),
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the figures of an active appearance model of the training people, as `evaluate` names them.

    Arguments are those of `pca_figures`; the people are taught as they are, and moved as far as in training.
    """
    shape = dataset.cache.volume_shape
    figures: dict[str, Any] = dict.fromkeys(("mse", "elbo_nats", "num_shapes", "num_textures"))
    # Fields, derivatives and images laid onto each other are all held in memory.
    limit = PCA_BYTES // (4 * int(np.prod(shape)))
    train, validation, heldout = (
        choose_rows(dataset.rows(name), (1, 1, 1), 4 * most, seed)
        for name, most in (
            ("train", min(MOST_TAUGHT, limit)),
            ("validation", MOST_CALIBRATING),
            ("heldout", min(MOST_SCORED, limit)),
        )
    )
    figures |= {"num_subjects": len(train), "num_scored": len(heldout)}
    if len(train) < 3 or not len(validation) or not len(heldout) or not 2 <= latent_size <= limit // 6:
        return figures
    augment = None if training is None else training.augment
    moves = None if augment is None else _moves(augment, NUM_MOVES * len(train), zooms, seed)
    model = fit_appearance(read_volumes(dataset.cache, train), latent_size, zooms, moves)
    model = model.calibrated(read_volumes(dataset.cache, validation), inside, seed)
    found = model.infer(read_volumes(dataset.cache, heldout), inside, seed=seed)
    return figures | {
        "mse": float(found["squared_error"].mean()),
        "elbo_nats": float(found["elbo_nats"].mean()),
        "num_shapes": len(model.shapes.components),
        "num_textures": len(model.textures.components),
    }


def _moves(augment: AugmentRecipe, number: int, zooms, seed: int) -> np.ndarray:
    """Returns random moves of a head by the settings of the augmentation; see `fit_appearance`."""
    generator, zooms = np.random.default_rng(seed), np.asarray(zooms, float)
    turns = Rotation.from_euler("xyz", generator.uniform(-1, 1, (number, 3)) * augment.rotation, degrees=True)
    sizes = np.exp(generator.uniform(-1, 1, number) * np.log1p(augment.scaling))
    matrices = turns.as_matrix() * sizes[:, None, None] * zooms / zooms[:, None] - np.eye(3)
    shifts = generator.uniform(-1, 1, (number, 3, 1)) * augment.shift / zooms[:, None]
    return np.concatenate([matrices, shifts], axis=2)


def _score(dataset: Dataset, pca: PCAModel, inside: np.ndarray, seed: int) -> dict[str, float | None]:
    """Returns mse and log-likelihoods (nats) of held-out people."""
    figures: dict[str, float | None] = dict.fromkeys(("mse", "loglik_nats", "loglik_calibrated_nats"))
    validation, heldout, calibrated = dataset.rows("validation"), dataset.rows("heldout"), None
    if len(validation):
        validation = choose_rows(validation, dataset.cache.volume_shape, PCA_BYTES, seed)
        calibrated = pca.calibrated(_flat(read_volumes(dataset.cache, validation), inside))
    for people in _people(dataset, heldout, inside):
        found = {"mse": float(((people - pca.reconstruct(people)) ** 2).mean())}
        # With as many directions as the training people span, nothing is left to estimate the noise from.
        if pca.noise_variance > 0:
            found["loglik_nats"] = float(pca.log_likelihood(people).mean())
        if calibrated is not None:
            found["loglik_calibrated_nats"] = float(calibrated.log_likelihood(people).mean())
        for name, value in found.items():
            figures[name] = len(people) / len(heldout) * value + (figures[name] or 0.0)
    return figures


def _people(dataset: Dataset, rows: np.ndarray, inside: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the volumes of `rows`, a part of them at a time: (people, voxels that count) float32."""
    size = _block_size(dataset)
    for start in range(0, len(rows), size):
        yield _flat(read_volumes(dataset.cache, rows[start : start + size]), inside)


def _block_size(dataset: Dataset) -> int:
    """Returns how many volumes are worked on at a time: a quarter of `PCA_BYTES`, which working copies fill."""
    return int(np.clip(PCA_BYTES // (16 * int(np.prod(dataset.cache.volume_shape))), 2, BLOCK_IMAGES))


def _flat(volumes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    volumes = volumes.reshape(len(volumes), -1)
    return volumes if inside.all() else volumes[:, inside]
