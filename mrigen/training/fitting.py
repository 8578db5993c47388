"""`fit`: trains the model of a recipe and writes a run; `resume` goes on with an unfinished one."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mrigen.analysis.evaluation import choose_counted, evaluate, mean_training_volume, score_validation
from mrigen.data.dataset import Dataset, open_dataset
from mrigen.data.pipeline import inference_dataset, read_volumes, steps_per_epoch, training_dataset
from mrigen.errors import RunError
from mrigen.models import LatentModel, VariationalAutoencoder, build_model
from mrigen.recipe import Recipe, TrainingRecipe
from mrigen.runs import WEIGHTS, Run, open_run
from mrigen.runs.encoding import encode_cache
from mrigen.statistics.collapse import describe_collapse, has_collapsed
from mrigen.system.files import write_json
from mrigen.system.machine import peak_rss_mb
from mrigen.system.progress import progress_bar
from mrigen.system.stopping import StopRequest
from mrigen.training.beginning import begin, go_on, log_file, make_deterministic
from mrigen.training.callbacks import (
    Checkpoint,
    DataWait,
    EpochLog,
    KLWarmup,
    LatentWatch,
    Progress,
    ProgressLine,
    StopAtNaN,
    remove_stale,
    restore,
    save_weights,
    weights_path,
)
from mrigen.training.devices import PEER_ERRORS, Placement, lost, place
from mrigen.training.finishing import finish_inference
from mrigen.training.history import History
from mrigen.training.replicated import ReplicatedLoop, SharedCheckpoint
from mrigen.training.starting import start_from
from mrigen.training.trackers import tracked

logger = logging.getLogger(__name__)

# People whose latents are looked at after every epoch.
WATCHED_PEOPLE = 16
# A kill costs at most this much training, however long an epoch is (and a step, and a validation).
CHECKPOINT_SECONDS = 600.0


def fit(
    recipe: Recipe,
    directory: str | os.PathLike,
    name: str = "recipe",
    force: bool = False,
    stop: StopRequest | None = None,
) -> Run:
    """Trains the model of a recipe and returns its run.

    Args:
        recipe: the validated recipe.
        directory: of the run; must not exist, or be empty.
        name: the recipe's short name, for the record.
        force: whether an older run in `directory` is replaced.
        stop: asks the fit to save and end.

    Raises:
        Interrupted: it was asked to stop.
        CohortError, UsageError: before anything is written.
        TrainingError: the loss is no longer a number; the last good state is kept.
    """
    started = time.monotonic()
    placement = place(recipe.training)
    directory = Path(placement.share(str(directory)))
    with _watching_peers(placement, directory):
        begun = placement.after_first(lambda: begin(recipe, directory, name, force, placement))
        return _train_placed(directory, begun, placement, started, stop or StopRequest())


def _train_placed(
    directory: Path,
    begun: tuple[Dataset, Progress] | None,
    placement: Placement,
    started: float,
    stop: StopRequest,
) -> Run | None:
    """Trains on every worker; `begun` is that of worker 0, whom the others follow."""
    run = Run(directory)
    progress = None if begun is None else begun[1]
    content = placement.share("" if progress is None else json.dumps(dataclasses.asdict(progress)))
    if begun is None and not content:
        return None  # Complete.
    if placement.writes:
        with log_file(directory / "log.txt"):
            run = _train(run, begun[0], begun[1], started, stop, placement)
        placement.total(0.0)
        return run
    logging.getLogger("mrigen").setLevel(logging.WARNING)  # Worker 0 speaks for all.
    make_deterministic(run.recipe.training.seed)
    dataset = open_dataset(run.recipe, run.split)
    _train(run, dataset, Progress(**json.loads(content)), started, stop, placement)
    placement.total(0.0)
    return None


@contextmanager
def _watching_peers(placement: Placement, directory: Path) -> Iterator[None]:
    try:
        yield
    except PEER_ERRORS as error:
        if placement.num_workers == 1:
            raise
        raise lost(directory, error) from None


def resume(directory: str | os.PathLike, recipe: Recipe | None = None, stop: StopRequest | None = None) -> Run:
    """Goes on with the fit of an unfinished run from its last checkpoint, and returns the run.

    On CPU the run becomes, bit for bit, what it would have been without the break. A finished run is returned as it is.

    Args:
        directory: of the run.
        recipe: what the run is thought to be a fit of; its own recipe if None.
        stop: asks the fit to save and end.

    Raises:
        RunError: not a run; the recipe, or the data, are others than those it began with. CohortError: its cohort
            changed. Interrupted: it was asked to stop.
    """
    started = time.monotonic()
    stop = stop or StopRequest()
    run = Run(Path(directory))
    if not run.directory.is_dir():
        raise RunError(f"{directory}: no such folder, expected a run made by mrigen fit. Check --resume.")
    placement = place(run.recipe.training)
    with _watching_peers(placement, run.directory):
        placement.share(str(run.directory))  # As in `fit`: another worker may have come before the folder was there.
        begun = placement.after_first(lambda: go_on(run, recipe, placement))
        if placement.writes and begun is None:
            placement.share("")
            return run
        return _train_placed(run.directory, begun, placement, started, stop)


def _train(
    run: Run, dataset: Dataset, progress: Progress, started: float, stop: StopRequest, placement: Placement
) -> Run:
    recipe, precision = run.recipe, run.facts["precision"]
    training = recipe.training
    for note in dataset.notes:
        logger.info(note)
    rows = dataset.rows("train")
    logger.info(
        "%d training, %d validation, %d held-out images; precision %s: %s",
        len(rows), len(dataset.rows("validation")), len(dataset.rows("heldout")),
        precision, run.facts["precision_reason"],
    )  # fmt: skip
    _report_lost(dataset)
    steps = steps_per_epoch(len(rows), min(training.batch_size, len(rows)))
    with contextlib.nullcontext() if placement.strategy is None else placement.strategy.scope():
        model = _start_model(recipe, dataset, precision)
        model.compile(optimizer=make_optimizer(training, steps, placement.num_replicas), jit_compile=False)
        model.optimizer.build(model.trainable_variables)  # A step that has to make variables is traced twice.
    if placement.num_replicas > 1:
        logger.info("%d devices in each of %d workers", placement.num_devices, placement.num_workers)
    logger.info("%s: %d parameters, %d latent variables", recipe.model.kind, model.count_params(), model.latent_size)
    if isinstance(model, VariationalAutoencoder):
        how = "in closed form" if model.has_closed_kl() else "by the draws (Monte Carlo)"
        logger.info("KL of a %s posterior and a %s prior: %s", recipe.model.posterior, recipe.model.prior, how)
    checkpoint = run.directory / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    if progress.epoch or progress.step:
        restore(model, weights_path(checkpoint, progress.epoch, progress.step))
    elif training.start_from is not None:
        start_from(model, open_run(training.start_from))
        logger.info("Starting with the weights of %s", training.start_from)
    placement.total(0.0)  # Nobody trains, and removes what another still reads.
    if placement.writes:
        remove_stale(checkpoint, progress)
    wait = DataWait()
    fitting = time.monotonic()
    first_step = progress.epoch * steps + progress.step
    if not _is_done(progress, training):
        with progress_bar("Fitting", training.epochs * steps - first_step, "steps") as advance, stop.heard():
            _run_epochs(run, model, dataset, progress, steps, advance, wait, stop, placement)
    if not placement.writes:
        return run
    seconds = time.monotonic() - fitting
    if placement.strategy is not None:  # What follows is for one device.
        model = _start_model(recipe, dataset, precision)
    _load_best(model, dataset, progress, checkpoint)
    _finish(run, model, progress)
    run.save_latents(latents := encode_cache(model, dataset.cache))
    figures = evaluate(model, dataset, latents, training.seed)
    seen = (progress.epoch * steps - first_step) * min(training.batch_size, len(rows))
    figures |= {"devices": placement.num_devices, "workers": placement.num_workers}
    figures |= {"precision": precision, "epochs": progress.epoch, "best_epoch": progress.best_epoch + 1}
    figures["performance"] = {
        "volumes_per_second": round(seen / seconds, 3) if seconds > 0 else None,
        "data_wait_share": None if wait.share is None else round(wait.share, 4),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(run.directory / "metrics.json", figures)
    shutil.rmtree(checkpoint)
    _warn_of_collapse(figures)
    return run


def _run_epochs(
    run: Run,
    model: LatentModel,
    dataset: Dataset,
    progress: Progress,
    steps: int,
    advance,
    wait: DataWait,
    stop: StopRequest,
    placement: Placement,
) -> None:
    recipe = run.recipe
    training = recipe.training
    validation = None
    if len(dataset.rows("validation")):
        validation = inference_dataset(dataset.cache, dataset.rows("validation"), training.batch_size)
        validation = validation.map(_inputs_of(dataset))
    loop = None if placement.strategy is None else ReplicatedLoop(model, placement, training.clip_norm, stop)
    settings = (
        run.directory / "checkpoint",
        progress,
        training.early_stopping_epochs,
        "elbo_nats" if recipe.model.objective in ("elbo", "iw") and not recipe.model.invariant_to else "loss",
        training.epochs,
        steps,
        CHECKPOINT_SECONDS,
    )
    checkpoint = Checkpoint(*settings, stop=stop) if loop is None else SharedCheckpoint(loop, *settings)
    callbacks: Sequence[keras.callbacks.Callback] = [
        StopAtNaN(),
        History(run.directory / "history.csv", progress),
        checkpoint,
        keras.callbacks.TensorBoard(str(run.directory / "tensorboard"), write_graph=False),
        ProgressLine(advance),
        wait,
        EpochLog(logger),
    ]
    if isinstance(model, VariationalAutoencoder):
        watched = dataset.rows("validation") if len(dataset.rows("validation")) > 1 else dataset.rows("train")
        watched = watched[:WATCHED_PEOPLE]
        volumes = read_volumes(dataset.cache, watched)[..., None]
        patience = training.kl_warmup_epochs + max(5, -(-training.epochs // 5))
        # First of all, because those after it write down what it finds.
        watch = LatentWatch(volumes, dataset.conditions(watched), patience, training.on_collapse, logger, progress)
        period = -(-training.epochs // training.kl_cycles)
        callbacks = [KLWarmup(training.kl_warmup_epochs, period), watch, *callbacks]
    if not placement.writes:
        callbacks = [each for each in callbacks if isinstance(each, (KLWarmup, StopAtNaN, SharedCheckpoint))]
    places = None
    if loop is not None:
        size = min(training.batch_size, len(dataset.rows("train"))) // placement.num_replicas
        first = placement.worker * placement.num_devices
        places = (first * size, (first + placement.num_devices) * size, size)

    def run_until(epochs: int) -> None:
        batches = training_dataset(
            dataset.cache,
            dataset.rows("train"),
            training.batch_size,
            training.seed,
            training.epochs + 1,  # Keras looks beyond the last epoch, and warns where it sees nothing.
            progress.epoch,
            training.augment,
            recipe.preprocess.zooms,
            dataset.conditions(np.arange(len(dataset.cache.table))),
            progress.step,
            places,
        )
        if loop is not None:
            loop.fit(wait.watch(batches), progress.epoch, epochs, steps - progress.step, validation, callbacks)
            return
        model.fit(
            wait.watch(batches),
            validation_data=validation,
            initial_epoch=progress.epoch,
            epochs=epochs,
            steps_per_epoch=steps - progress.step,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    with tracked(training.trackers if placement.writes else (), run.directory, run.facts) as trackers:
        callbacks = [*callbacks, *trackers]
        if progress.step:  # The rest of an epoch that broke off: all epochs of one fit of Keras are equally long.
            run_until(progress.epoch + 1)
        if not _is_done(progress, training):
            run_until(training.epochs)


def _inputs_of(dataset: Dataset):
    """Returns the function from rows and volumes to the input of a dataset's model."""
    conditions = dataset.conditions(np.arange(len(dataset.cache.table)))
    if conditions is None:
        return lambda rows, volumes: volumes
    return lambda rows, volumes: {"volumes": volumes, "condition": tf.gather(conditions, rows)}


def _start_model(recipe: Recipe, dataset: Dataset, precision: str) -> LatentModel:
    """Returns the model of a recipe, with what the training people are like put in."""
    shape, seed = dataset.cache.volume_shape, recipe.training.seed
    model = build_model(recipe.model, shape, precision, seed, dataset.covariates)
    mean = mean_training_volume(dataset)
    model.start_at_mean(mean)
    if isinstance(model, VariationalAutoencoder):
        model.num_people = len(dataset.rows("train"))
        if recipe.model.likelihood_mask is not None:
            mask = choose_counted(dataset, mean, recipe.model.likelihood_mask, recipe.preprocess.zooms)
            model.likelihood.limit_to(mask)
            logger.info("The likelihood counts %d of %d voxels", mask.sum(), mask.size)
    return model


def _load_best(model: LatentModel, dataset: Dataset, progress: Progress, checkpoint: Path) -> None:
    """Gives a model the weights of the best epoch, and what inference has beside weights.

    Epochs were compared by what the encoder says. Where that is refined afterwards, a decoder that went on learning
    while the encoder began to learn its people by heart may be better: the last epoch is compared as well.
    """
    epochs = {progress.best_epoch + 1}
    refines = isinstance(model, VariationalAutoencoder) and model.refinement is not None
    if refines and len(dataset.rows("validation")):
        epochs.add(progress.epoch)
    if refines:
        logger.info("Refining inference, by the decoder's derivatives at some training people")
    best, weights = -math.inf, None
    for epoch in sorted(epochs):
        model.load_weights(weights_path(checkpoint, epoch))
        if isinstance(model, VariationalAutoencoder):
            finish_inference(model, dataset)
        if len(epochs) == 1:
            return
        elbo = score_validation(model, dataset)["elbo_nats"]
        logger.info("Inference refined by %d steps: epoch %d, val_elbo_nats %.4g", model.refinement.steps, epoch, elbo)
        if elbo > best or weights is None:
            best, weights, progress.best_epoch = elbo, model.get_weights(), epoch - 1
    model.set_weights(weights)


def _finish(run: Run, model: LatentModel, progress: Progress) -> None:
    """Writes the weights that every later command loads, without the optimizer's."""
    model.optimizer = None
    save_weights(model, run.directory / WEIGHTS)
    logger.info("Best epoch %d of %d", progress.best_epoch + 1, progress.epoch)


def make_optimizer(training: TrainingRecipe, steps: int, num_replicas: int = 1) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a recipe; `steps` are those of an epoch, `num_replicas` share a gradient."""
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps * training.epochs, alpha=0.01)
    clip_norm = None if training.clip_norm is None else training.clip_norm / num_replicas  # See ReplicatedLoop.
    return keras.optimizers.Adam(rate, global_clipnorm=clip_norm)


def _is_done(progress: Progress, training: TrainingRecipe) -> bool:
    return progress.done or progress.epoch >= training.epochs


def _report_lost(dataset: Dataset) -> None:
    lost = dataset.cache.table["lost_fraction"]
    cut = int((lost > 0).sum())
    message = "The grid covers every brain" if cut == 0 else f"The grid cuts {cut} of {len(lost)} heads"
    logger.info("%s (largest loss %.2f %% of the brain or upper head)", message, 100 * lost.max())


def _warn_of_collapse(figures: dict) -> None:
    if figures["kl_nats"] is not None and has_collapsed(figures["active_units"], figures["latent_dim"]):
        logger.warning(describe_collapse(figures["active_units"], figures["latent_dim"]))
