"""What a fit will take, before it starts: people, cache, parameters, memory and time."""

import contextlib
import dataclasses
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mrigen.analysis.diagnosis import SPECTRUM_BYTES, forecast_of
from mrigen.analysis.evaluation import choose_counted
from mrigen.data.cohort import index_cohort
from mrigen.data.dataset import Dataset, open_dataset
from mrigen.data.pipeline import choose_rows, read_volumes, shuffle_buffer, steps_per_epoch
from mrigen.models import build_model
from mrigen.models.base import LatentModel
from mrigen.models.batches import BATCH_SIZE
from mrigen.quality import admit, check_images
from mrigen.recipe import Recipe
from mrigen.runs import open_run
from mrigen.runs.encoding import encode_volumes
from mrigen.statistics.collapse import Forecast, advise, has_collapsed
from mrigen.system.files import default_cache_directory
from mrigen.system.machine import available_memory, peak_rss_mb
from mrigen.training.devices import find_devices
from mrigen.training.epochs import make_optimizer
from mrigen.training.precision import choose_precision
from mrigen.training.refusals import check_batch, check_precision, look_at_people, refuse_fit
from mrigen.training.warm_start import start_from

# Training steps that are timed, after one that also traces the graph.
TIMED_STEPS = 3
# People whose images are read to forecast a collapse.
SPECTRUM_PEOPLE = 200
# Operations that hand on what they were given, or whose output nobody keeps for the way back.
_NOT_KEPT = {"BiasAdd", "Const", "Conv3D", "ExpandDims", "Identity", "NoOp", "ReadVariableOp", "Reshape", "Squeeze"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a fit of a recipe takes on this machine; None where it could not be known.

    Attributes:
        cohort: lines `name: what is there` about who is in the cohort.
        notes: what else is to be known of its tables and images.
        num_images: images of train, validation and heldout together; num_train: of those, for training.
        volume_shape: the model's grid, voxels. patch: voxels along each side of the patches of the first block.
        num_parameters: weights of the model, moving statistics included.
        latent_size: length of the latent vector.
        precision, precision_reason: the Keras policy and why.
        batch_size: subjects a step. steps: training steps an epoch.
        cache_bytes: what the cache takes on disk; cache_directory: where.
        activation_bytes: estimate of what one step keeps for the way back.
        step_seconds: measured, median of a few steps on random volumes.
        epoch_seconds: of training steps alone, without validation.
        fit_seconds: of all epochs (early stopping may end it before).
        encode_seconds: measured, of one image's latents, refined where the recipe says so; a fit ends with those of
            all images.
        peak_bytes: measured peak memory of the process (on a GPU, of the device), with the shuffle buffer of a fit.
        available_bytes: what the machine had left when the plan was made.
        forecast: how many latent variables of a VAE can stay active.
        warnings: what will not work, in words.
    """

    cohort: tuple[str, ...]
    notes: tuple[str, ...]
    num_images: int | None
    num_train: int | None
    volume_shape: tuple[int, int, int]
    patch: int
    num_parameters: int
    latent_size: int
    precision: str
    precision_reason: str
    batch_size: int
    steps: int | None
    cache_bytes: int | None
    cache_directory: str
    activation_bytes: int
    step_seconds: float | None
    epoch_seconds: float | None
    fit_seconds: float | None
    encode_seconds: float | None
    peak_bytes: int | None
    available_bytes: int | None
    forecast: Forecast | None
    warnings: tuple[str, ...]


def plan_fit(recipe: Recipe) -> Plan:
    """Returns what a fit of `recipe` will take, by the cohort's tables, some of its images and a few steps.

    The steps are on random volumes; where the estimate says that the memory does not suffice, none is tried. Everyone's
    images are read, checked and kept for the fit. For a VAE, a collapse is forecast from those of some training people.

    Raises:
        MrigenError: what a fit would refuse, of the recipe, the cohort's tables and names, or the images; all faults of
            tables and names together, else of images.
    """
    refuse_fit(recipe, needs_people=False)
    training = recipe.training
    cluster, num_devices = find_devices(training)
    num_replicas = num_devices * (1 if cluster is None else len(cluster["cluster"]["worker"]))
    precision, reason = choose_precision(training.precision)
    check_precision(precision, num_replicas)
    cohort, notes, dataset = _open(recipe)
    num_images, num_train = _count_images(recipe, dataset)
    shape = recipe.preprocess.volume_shape
    batch_size = training.batch_size if num_train is None else max(1, min(training.batch_size, num_train))
    check_batch(training.batch_size, num_train or training.batch_size, num_replicas)
    _check_weights(recipe, precision, dataset)
    model = build_model(recipe.model, shape, precision, training.seed)
    activations = activation_bytes(model, batch_size)
    available = _available_bytes()
    warnings = []
    seconds = encode_seconds = peak = None
    steps = None if num_train is None else steps_per_epoch(num_train, batch_size)
    # On the way back, the gradients of the largest layers come on top; half as much again covers them.
    needed = int(1.5 * activations) + 16 * model.count_params()
    if available is not None and needed > available:
        warnings.append(
            f"memory: a step needs about {_gigabytes(needed)}, and {_gigabytes(available)} are available; no step was "
            "tried. Lower training.batch_size, raise model.patch or preprocess.zooms, or use fewer model.channels."
        )
    else:
        try:
            seconds, encode_seconds, peak = _measure(model, recipe, batch_size, steps or 1)
            peak += shuffle_buffer(num_train or 0, shape) * math.prod(shape)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            warnings.append(
                f"memory: a step does not fit ({' '.join(str(error).split())[:120]}). Lower training.batch_size, raise "
                "model.patch or preprocess.zooms, or use fewer model.channels."
            )
        if available is not None and peak is not None and peak > available:
            warnings.append(
                f"memory: a fit needs about {_gigabytes(peak)}, and {_gigabytes(available)} are available. "
                "Lower training.batch_size, or raise model.patch or preprocess.zooms."
            )
    forecast = None
    if recipe.model.forecast_settings is not None and num_train is not None and num_train > 2:
        forecast = forecast_collapse(recipe, model.latent_size, dataset)
        if has_collapsed(forecast.num_directions, forecast.latent_size, forecast.num_people):
            warnings.append(f"collapse: {forecast.in_words()}. {advise(recipe, forecast=forecast)}")
    epoch_seconds = None if steps is None or seconds is None else steps * seconds
    return Plan(
        cohort=cohort,
        notes=notes,
        num_images=num_images,
        num_train=num_train,
        volume_shape=tuple(shape),
        patch=model.patch,
        num_parameters=model.count_params(),
        latent_size=model.latent_size,
        precision=precision,
        precision_reason=reason,
        batch_size=batch_size,
        steps=steps,
        cache_bytes=None if num_images is None else num_images * math.prod(shape),
        cache_directory=str(default_cache_directory()),
        activation_bytes=activations,
        step_seconds=seconds,
        epoch_seconds=epoch_seconds,
        fit_seconds=None if epoch_seconds is None else training.epochs * epoch_seconds,
        encode_seconds=encode_seconds,
        peak_bytes=peak,
        available_bytes=available,
        forecast=forecast,
        warnings=tuple(warnings),
    )


def forecast_collapse(recipe: Recipe, latent_size: int, dataset: Dataset | None = None) -> Forecast:
    """Returns how many latent variables of a recipe's VAE can stay active, from the spectrum of some training people.

    Args:
        recipe: of the VAE.
        latent_size: length of the latent vector.
        dataset: of the recipe; without it that of the synthetic cohort, made for this alone and no larger than need be.

    Raises:
        CohortError: the cohort or an image that is read has faults.
    """
    if dataset is not None:
        return _forecast(recipe, latent_size, dataset)
    data = recipe.data.model_copy(update={"num_subjects": min(recipe.data.num_subjects, SPECTRUM_PEOPLE)})
    with tempfile.TemporaryDirectory() as folder, _without_log("mrigen.data"):
        smaller = recipe.model_copy(update={"data": data})
        return _forecast(recipe, latent_size, open_dataset(smaller, directory=Path(folder)))


def _forecast(recipe: Recipe, latent_size: int, dataset: Dataset) -> Forecast:
    shape, counted = recipe.preprocess.volume_shape, None
    rows = choose_rows(dataset.rows("train"), shape, min(SPECTRUM_BYTES, 4 * math.prod(shape) * SPECTRUM_PEOPLE))
    volumes = read_volumes(dataset.cache, rows)
    if recipe.model.counted_voxels is not None:
        counted = choose_counted(dataset, volumes.mean(axis=0), recipe.model.counted_voxels, recipe.preprocess.zooms)
    return forecast_of(recipe.model, volumes, latent_size, counted, dataset.conditions(rows))[0]


@contextlib.contextmanager
def _without_log(name: str) -> Iterator[None]:
    """Holds back what is logged below a warning: where a passing folder is filled is nobody's business."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def activation_bytes(model: LatentModel, batch_size: int) -> int:
    """Returns about how many bytes the forward pass of one training step leaves for the backward pass."""
    volumes = tf.TensorSpec((batch_size, *model.volume_shape, 1), tf.float32)
    forward = tf.function(lambda volumes: model(volumes, training=True), autograph=False)
    graph = forward.get_concrete_function(volumes).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type not in _NOT_KEPT:
            for output in operation.outputs:
                if output.shape.is_fully_defined() and output.dtype.size:
                    total += output.shape.num_elements() * output.dtype.size
    return total


def _open(recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], Dataset | None]:
    """Returns who is in the cohort, what else is to be known of it, and the dataset; None of the synthetic cohort, and
    where no cohort is named. Everyone's images are read, checked and kept for the fit; what is strange about them is
    logged.

    Raises:
        CohortError: tables, names or images have faults.
    """
    data = recipe.data
    if data.source == "phantom" or (data.root is None and not data.cohorts):
        return (), (), None
    cohort = index_cohort(data)
    quality = check_images(cohort, recipe.preprocess, data.apply_mask, refuse_copies=data.copies == "refuse")
    admit(quality)
    return tuple(cohort.summary()), (*cohort.notes, *quality.header_notes, quality.findings[0]), open_dataset(recipe)


def _check_weights(recipe: Recipe, precision: str, dataset: Dataset | None) -> None:
    """Refuses a run to start from whose weights are not for the model of the recipe; not looked at where a model is
    told of people and no cohort is named."""
    if recipe.training.start_from is None:
        return
    if recipe.model.covariates and dataset is None:
        if recipe.data.source != "phantom":
            return
        dataset = open_dataset(recipe)
    covariates = None if dataset is None else dataset.covariates
    shape, seed = recipe.preprocess.volume_shape, recipe.training.seed
    start_from(build_model(recipe.model, shape, precision, seed, covariates), open_run(recipe.training.start_from))


def _count_images(recipe: Recipe, dataset: Dataset | None) -> tuple[int | None, int | None]:
    """Returns the images of the cohort and of its training people; None where no cohort is named."""
    data = recipe.data
    if dataset is not None:
        return len(dataset.cache.table), len(dataset.rows("train"))
    if data.source == "phantom":
        people = look_at_people(data)
        return len(people.table), people.num_train
    return None, None


def _measure(model: LatentModel, recipe: Recipe, batch_size: int, steps: int) -> tuple[float, float, int]:
    """Returns the median seconds of a training step, those of one image's latents, and the peak memory in bytes."""
    model.compile(optimizer=make_optimizer(recipe.training, steps), jit_compile=False)
    volumes = np.random.default_rng(0).random((batch_size, *model.volume_shape, 1), dtype=np.float32)
    batches = tf.data.Dataset.from_tensors(volumes).repeat()
    timer = _StepTimer()
    model.fit(batches, adapt=False, steps_per_epoch=TIMED_STEPS + 1, callbacks=[timer], shuffle=False, verbose=0)
    return statistics.median(timer.seconds[1:]), _measure_encoding(model), _peak_bytes()


def _measure_encoding(model: LatentModel) -> float:
    if model.refinement is not None:  # Nothing is refined before a curvature is known.
        model.refinement.learn(np.eye(model.latent_size))
    volumes = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, *model.volume_shape), np.uint8)
    encode_volumes(model, volumes)  # Traces the graph.
    began = time.perf_counter()
    encode_volumes(model, volumes)
    return (time.perf_counter() - began) / BATCH_SIZE


class _StepTimer(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        _ = float(logs["loss"])  # Waits for the device.
        self.seconds.append(time.perf_counter() - self._began)


def _peak_bytes() -> int:
    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    return int(peak_rss_mb() * 2**20)


def _available_bytes() -> int | None:
    if tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return details.get("memory_limit")
    return available_memory()


def _gigabytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
