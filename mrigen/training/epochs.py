"""The epochs of a fit: batches, callbacks, and Keras's loop or that of several devices."""

import functools
import logging
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import inference_dataset, read_volumes, training_dataset
from mrigen.models.batches import BATCH_SIZE
from mrigen.recipe import TrainingRecipe
from mrigen.runs.holding import check_held
from mrigen.statistics.collapse import advise_on_settings
from mrigen.system.progress import progress_bar
from mrigen.training.callbacks import Checkpoint, EpochLog, KLWarmup, LatentWatch, ProgressLine, StopAtNaN
from mrigen.training.history import History
from mrigen.training.replicated import ReplicatedLoop, SharedCheckpoint
from mrigen.training.state import FitState
from mrigen.training.trackers import tracked

logger = logging.getLogger(__name__)

# People whose latents are looked at after every epoch.
WATCHED_PEOPLE = 16
# A kill costs at most this much training, however long an epoch is (and a step, and a validation).
CHECKPOINT_SECONDS = 600.0


def run_epochs(fit: FitState) -> None:
    """Trains until the recipe's epochs are over, or the fit ends by itself or is asked to stop."""
    left = fit.settings.epochs * fit.steps - fit.steps_done
    with progress_bar("Fitting", left, "steps") as advance, fit.stop.heard():
        loop = None
        if fit.placement.strategy is not None:
            loop = ReplicatedLoop(fit.model, fit.placement, fit.settings.clip_norm, fit.stop)
        callbacks = _callbacks(fit, loop, advance)
        trackers = fit.settings.trackers if fit.placement.is_chief else ()
        with tracked(trackers, fit.run.directory, fit.run.facts) as tracker_callbacks:
            callbacks = [*callbacks, *tracker_callbacks]
            if fit.progress.step:  # The rest of an epoch that broke off: all epochs of one fit are equally long.
                _train_until(fit, fit.progress.epoch + 1, loop, callbacks)
            if not fit.is_done:
                _train_until(fit, fit.settings.epochs, loop, callbacks)


def people_batches(dataset: Dataset, split: str, batch_size: int = BATCH_SIZE) -> tf.data.Dataset | None:
    """Returns the people of a split as batches of what the dataset's model takes, each once; None without any."""
    rows = dataset.rows(split)
    if not len(rows):
        return None
    batches = inference_dataset(dataset.cache, rows, batch_size)
    conditions = dataset.conditions(np.arange(len(dataset.cache.table)))
    if conditions is None:
        return batches.map(lambda rows, volumes: volumes)
    return batches.map(lambda rows, volumes: {"volumes": volumes, "condition": tf.gather(conditions, rows)})


def make_optimizer(training: TrainingRecipe, steps: int, num_replicas: int = 1) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a recipe; `steps` are those of an epoch, `num_replicas` share a gradient."""
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps * training.epochs, alpha=0.01)
    clip_norm = None if training.clip_norm is None else training.clip_norm / num_replicas  # See ReplicatedLoop.
    return keras.optimizers.Adam(rate, global_clipnorm=clip_norm)


def _callbacks(fit: FitState, loop: ReplicatedLoop | None, advance) -> Sequence[keras.callbacks.Callback]:
    """Returns the callbacks of this worker, in the order in which they are called."""
    settings, directory = fit.settings, fit.run.directory
    options = {
        "directory": fit.checkpoint,
        "progress": fit.progress,
        "patience": settings.early_stopping_epochs,
        "watched": fit.recipe.model.watched_figure,
        "epochs": settings.epochs,
        "steps": fit.steps,
        "seconds": CHECKPOINT_SECONDS,
    }
    if fit.claim is not None:
        options["check"] = functools.partial(check_held, fit.claim)
    checkpoint = Checkpoint(**options, stop=fit.stop) if loop is None else SharedCheckpoint(loop, **options)
    before = []  # First of all, because those after it write down what it finds.
    if fit.model.kl_weight is not None:
        before.append(KLWarmup(settings.kl_warmup_epochs, period=-(-settings.epochs // settings.kl_cycles)))
    if not fit.placement.is_chief:
        return [*before, StopAtNaN(), checkpoint]
    if fit.model.likelihood is not None:
        before.append(_latent_watch(fit))
    return [
        *before,
        StopAtNaN(),
        History(directory / "history.csv", fit.progress),
        checkpoint,
        keras.callbacks.TensorBoard(str(directory / "tensorboard"), write_graph=False),
        ProgressLine(advance),
        fit.wait,
        EpochLog(logger),
    ]


def _latent_watch(fit: FitState) -> LatentWatch:
    dataset, settings = fit.dataset, fit.settings
    watched = dataset.rows("validation") if len(dataset.rows("validation")) > 1 else dataset.rows("train")
    watched = watched[:WATCHED_PEOPLE]
    return LatentWatch(
        read_volumes(dataset.cache, watched)[..., None],
        dataset.conditions(watched),
        patience=settings.kl_warmup_epochs + max(5, -(-settings.epochs // 5)),
        on_collapse=settings.on_collapse,
        logger=logger,
        progress=fit.progress,
        advice=advise_on_settings(fit.recipe.model),
    )


def _train_until(fit: FitState, epochs: int, loop: ReplicatedLoop | None, callbacks) -> None:
    """Trains from where the fit stands to the end of so many epochs, equally long but for what is done of the first."""
    dataset, settings, progress = fit.dataset, fit.settings, fit.progress
    batches = training_dataset(
        dataset.cache,
        dataset.rows("train"),
        settings.batch_size,
        settings.seed,
        settings.epochs + 1,  # Keras looks beyond the last epoch, and warns where it sees nothing.
        first_epoch=progress.epoch,
        augment=settings.augment,
        zooms=fit.recipe.preprocess.zooms,
        conditions=dataset.conditions(np.arange(len(dataset.cache.table))),
        first_step=progress.step,
        positions=None if loop is None else fit.placement.positions(fit.batch_size),
    )
    validation, steps = people_batches(dataset, "validation", settings.batch_size), fit.steps - progress.step
    if loop is not None:
        loop.fit(fit.wait.watch(batches), progress.epoch, epochs, steps, validation, callbacks)
        return
    fit.model.fit(
        fit.wait.watch(batches),
        adapt=False,
        validation_data=validation,
        initial_epoch=progress.epoch,
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
