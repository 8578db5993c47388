"""`fit`: trains the model of a recipe and writes a run; `resume` goes on with an unfinished one."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mrigen.collapse import describe_collapse, has_collapsed
from mrigen.data.dataset import Dataset, open_dataset
from mrigen.data.pipeline import inference_dataset, read_volumes, steps_per_epoch, training_dataset
from mrigen.encoding import BATCH_SIZE, encode_cache, pad_batch
from mrigen.errors import RunError, UsageError
from mrigen.evaluation import choose_counted, evaluate, mean_training_volume
from mrigen.files import write_json, write_table
from mrigen.machine import peak_rss_mb
from mrigen.models import LatentModel, VariationalAutoencoder, build_model, split_inputs
from mrigen.progress import progress_bar
from mrigen.recipe import Recipe, TrainingRecipe, dump_recipe
from mrigen.runs import WEIGHTS, Run, write_facts
from mrigen.training.callbacks import (
    Checkpoint,
    DataWait,
    EpochLog,
    History,
    KLWarmup,
    LatentWatch,
    Progress,
    ProgressLine,
    StopAtNaN,
    last_weights,
    load_progress,
    save_weights,
)
from mrigen.training.precision import choose_precision

logger = logging.getLogger(__name__)

# People whose latents are looked at after every epoch.
WATCHED_PEOPLE = 16


def fit(recipe: Recipe, directory: str | os.PathLike, name: str = "recipe", force: bool = False) -> Run:
    """Trains the model of a recipe and returns its run.

    Args:
        recipe: the validated recipe.
        directory: of the run; must not exist, or be empty.
        name: the recipe's short name, for the record.
        force: whether an older run in `directory` is replaced.

    Raises:
        CohortError, UsageError: before anything is written.
        TrainingError: the loss is no longer a number; the last good state is kept.
    """
    directory = Path(directory)
    _check_target(directory, force)
    _make_deterministic(recipe.training.seed)
    started = time.monotonic()
    dataset = open_dataset(recipe)
    if len(dataset.rows("train")) < 2:
        raise UsageError(
            f"data: got {len(dataset.rows('train'))} training images, expected at least 2. "
            "Add people, or raise data.split.train."
        )
    precision, reason = choose_precision(recipe.training.precision)
    if force and directory.exists():
        shutil.rmtree(directory)
    run = Run(directory)
    directory.mkdir(parents=True, exist_ok=True)
    dump_recipe(recipe, directory / "recipe.yaml")
    write_facts(
        run,
        {"recipe": name, "precision": precision, "precision_reason": reason, "data_fingerprint": dataset.cache.key},
    )
    write_table(directory / "split.tsv", dataset.split)
    write_table(directory / "subjects.tsv", dataset.cache.table)
    write_json(directory / "grid.json", _describe_grid(recipe, dataset))
    with _log_file(directory / "log.txt"):
        return _train(run, dataset, Progress(), started)


def resume(directory: str | os.PathLike) -> Run:
    """Goes on with the fit of an unfinished run from its last finished epoch, and returns the run.

    A finished run is returned as it is.

    Raises:
        RunError: not a run. CohortError: its cohort changed.
    """
    started = time.monotonic()
    run = Run(Path(directory))
    if not run.directory.is_dir():
        raise RunError(f"{directory}: no such folder, expected a run made by mrigen fit. Check --resume.")
    recipe, facts = run.recipe, run.facts
    if run.is_complete:
        logger.info("%s is complete; nothing to do", directory)
        return run
    _make_deterministic(recipe.training.seed)
    dataset = open_dataset(recipe, run.split)
    if dataset.cache.key != facts["data_fingerprint"]:
        raise RunError(
            f"{directory}: got images that differ from those of the run (fingerprint {dataset.cache.key}, expected "
            f"{facts['data_fingerprint']}). Restore the data, or fit again."
        )
    for leftover in run.directory.rglob(".tmp-*"):  # Of a process that was killed while writing.
        leftover.unlink()
    progress = load_progress(run.directory / "checkpoint")
    with _log_file(run.directory / "log.txt"):
        logger.info("Resuming %s after epoch %d", directory, progress.epoch)
        return _train(run, dataset, progress, started)


def _train(run: Run, dataset: Dataset, progress: Progress, started: float) -> Run:
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
    model = _start_model(recipe, dataset, precision)
    steps = steps_per_epoch(len(rows), min(training.batch_size, len(rows)))
    model.compile(optimizer=make_optimizer(training, steps), jit_compile=False)
    logger.info("%s: %d parameters, %d latent variables", recipe.model.kind, model.count_params(), model.latent_size)
    if isinstance(model, VariationalAutoencoder):
        how = "in closed form" if model.has_closed_kl else "by the draws (Monte Carlo)"
        logger.info("KL of a %s posterior and a %s prior: %s", recipe.model.posterior, recipe.model.prior, how)
    checkpoint = run.directory / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    if progress.epoch:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(last_weights(checkpoint, progress))
    wait = DataWait()
    fitting = time.monotonic()
    first_epoch = progress.epoch
    if not _is_done(progress, training):
        with progress_bar("Fitting", (training.epochs - progress.epoch) * steps, "steps") as advance:
            _run_epochs(run, model, dataset, progress, steps, advance, wait)
    seconds = time.monotonic() - fitting
    model.load_weights(checkpoint / "best.weights.h5")
    if isinstance(model, VariationalAutoencoder):
        _calibrate(model, dataset)
    _finish(run, model, progress)
    run.save_latents(latents := encode_cache(model, dataset.cache))
    figures = evaluate(model, dataset, latents, training.seed)
    seen = (progress.epoch - first_epoch) * steps * min(training.batch_size, len(rows))
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
    run: Run, model: LatentModel, dataset: Dataset, progress: Progress, steps: int, advance, wait: DataWait
) -> None:
    recipe = run.recipe
    training = recipe.training
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
    )
    validation = None
    if len(dataset.rows("validation")):
        validation = inference_dataset(dataset.cache, dataset.rows("validation"), training.batch_size)
        validation = validation.map(inputs_of(dataset))
    callbacks: Sequence[keras.callbacks.Callback] = [
        StopAtNaN(),
        History(run.directory / "history.csv", progress.epoch),
        Checkpoint(
            run.directory / "checkpoint",
            progress,
            training.early_stopping_epochs,
            "elbo_nats" if recipe.model.objective in ("elbo", "iw") and not recipe.model.invariant_to else "loss",
        ),
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
        watch = LatentWatch(volumes, dataset.conditions(watched), patience, training.on_collapse, logger)
        period = -(-training.epochs // training.kl_cycles)
        callbacks = [KLWarmup(training.kl_warmup_epochs, period), watch, *callbacks]
    model.fit(
        wait.watch(batches),
        validation_data=validation,
        initial_epoch=progress.epoch,
        epochs=training.epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


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


def inputs_of(dataset: Dataset):
    """Returns the function from rows and volumes to the input of a dataset's model."""
    conditions = dataset.conditions(np.arange(len(dataset.cache.table)))
    if conditions is None:
        return lambda rows, volumes: volumes
    return lambda rows, volumes: {"volumes": volumes, "condition": tf.gather(conditions, rows)}


def _calibrate(model: VariationalAutoencoder, dataset: Dataset) -> None:
    """Sets an "optimal" sigma to what it means: by the residuals of the training people, one draw each. Its moving
    average lags in a short fit, and knows batches of changed volumes only."""
    if model.likelihood.sigma != "optimal":
        return

    @tf.function(autograph=False)
    def spread(inputs):
        volumes, _ = split_inputs(inputs)
        return model.likelihood.spread(model.cut(volumes), model(inputs)["reconstruction"])

    rows, to_inputs = dataset.rows("train"), inputs_of(dataset)
    total = 0.0
    for numbers, volumes in inference_dataset(dataset.cache, rows, BATCH_SIZE):
        inputs = tf.nest.map_structure(pad_batch, to_inputs(numbers, volumes))
        total += float(np.sum(spread(inputs)[: len(volumes)]))
    model.likelihood.calibrate(total / (len(rows) * model.num_counted))


def _finish(run: Run, model: LatentModel, progress: Progress) -> None:
    """Writes the weights that every later command loads, without the optimizer's."""
    model.optimizer = None
    save_weights(model, run.directory / WEIGHTS)
    logger.info("Best epoch %d of %d", progress.best_epoch + 1, progress.epoch)


def make_optimizer(training: TrainingRecipe, steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a recipe; `steps` are those of an epoch."""
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps * training.epochs, alpha=0.01)
    return keras.optimizers.Adam(rate, global_clipnorm=training.clip_norm)


def _is_done(progress: Progress, training: TrainingRecipe) -> bool:
    patience = training.early_stopping_epochs
    waited = progress.epoch - 1 - progress.best_epoch
    return progress.epoch >= training.epochs or (progress.epoch > 0 and patience is not None and waited >= patience)


def _make_deterministic(seed: int) -> None:
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _check_target(directory: Path, force: bool) -> None:
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if directory.is_dir() and (directory / "recipe.yaml").is_file():
        if not force:
            raise UsageError(
                f"{directory}: a run is there already, expected a new folder. Name another with --run, "
                f"go on with mrigen fit --resume {directory}, or replace it with --force."
            )
        return
    raise UsageError(
        f"{directory}: exists and is no run, expected a new folder. Name another with --run; "
        "--force replaces runs only."
    )


def _describe_grid(recipe: Recipe, dataset: Dataset) -> dict:
    """Returns where samples are written: the median of the training people's grid centres, and of their scales."""
    table = dataset.cache.table.iloc[dataset.rows("train")]
    return {
        "zooms": list(recipe.preprocess.zooms),
        "volume_shape": list(dataset.cache.volume_shape),
        "centre": [float(table[f"centre_{axis}"].median()) for axis in "xyz"],
        "median_scale": float(table["scale"].median()),
    }


def _report_lost(dataset: Dataset) -> None:
    lost = dataset.cache.table["lost_fraction"]
    cut = int((lost > 0).sum())
    message = "The grid covers every brain" if cut == 0 else f"The grid cuts {cut} of {len(lost)} heads"
    logger.info("%s (largest loss %.2f %% of the brain or upper head)", message, 100 * lost.max())


def _warn_of_collapse(figures: dict) -> None:
    if figures["kl_nats"] is not None and has_collapsed(figures["active_units"], figures["latent_dim"]):
        logger.warning(describe_collapse(figures["active_units"], figures["latent_dim"]))


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("mrigen")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
