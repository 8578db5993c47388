"""`fit`: trains the model of a recipe and writes a run; `resume` goes on with an unfinished one."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrigen.analysis.evaluation import evaluate, score_validation
from mrigen.data.dataset import open_dataset
from mrigen.models.building import build_model
from mrigen.recipe import Recipe
from mrigen.runs import WEIGHTS, Run, open_run
from mrigen.runs.detail import has_detail
from mrigen.runs.encoding import encode_cache
from mrigen.runs.holding import check_held, held, refuse_held
from mrigen.runs.manifest import write_manifest
from mrigen.statistics.collapse import Course, advise, collapse_of_figures, describe_collapse
from mrigen.system.files import write_json
from mrigen.system.machine import peak_rss_mb
from mrigen.system.stopping import StopRequest
from mrigen.training.callbacks import Progress, remove_stale, restore, save_weights, weights_path
from mrigen.training.detailing import learn_detail
from mrigen.training.devices import PEER_ERRORS, Placement, choose_placement, lost
from mrigen.training.epochs import make_optimizer, people_batches, run_epochs
from mrigen.training.opening import (
    log_file,
    make_deterministic,
    make_model,
    open_new,
    open_unfinished,
)
from mrigen.training.refusals import check_target, refuse_resume
from mrigen.training.state import FitState
from mrigen.training.warm_start import start_from

logger = logging.getLogger(__name__)


def fit(
    recipe: Recipe,
    directory: str | os.PathLike,
    name: str = "recipe",
    force: bool = False,
    stop: StopRequest | None = None,
) -> Run | None:
    """Trains the model of a recipe and returns its run; None on the workers that do not write it.

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
    started, stop = time.monotonic(), stop or StopRequest()
    placement = choose_placement(recipe.training)
    directory = Path(placement.broadcast(str(directory)))
    with _watching_peers(placement, directory), contextlib.ExitStack() as until_the_end:

        def begin() -> FitState:
            check_target(directory, force)
            claim = until_the_end.enter_context(held(directory))
            state = open_new(recipe, directory, name, force, placement, stop, started)
            return dataclasses.replace(state, claim=claim)

        run = _run(placement.on_chief(begin), Run(directory), recipe, placement, stop)
    return _with_detail(run, stop)


def resume(directory: str | os.PathLike, recipe: Recipe | None = None, stop: StopRequest | None = None) -> Run | None:
    """Goes on with the fit of an unfinished run from its last checkpoint, and returns the run.

    On CPU the run becomes, bit for bit, what it would have been without the break. A finished run is returned as it is.

    Args:
        directory: of the run.
        recipe: what the run is thought to be a fit of; its own recipe if None.
        stop: asks the fit to save and end.

    Raises:
        RunError: not a run; the recipe is another than that it began with. CohortError: its cohort or images changed.
            Interrupted: it was asked to stop.
    """
    started, stop = time.monotonic(), stop or StopRequest()
    run = Run(Path(directory))
    refuse_resume(directory, recipe)
    placement = choose_placement(run.recipe.training)
    with _watching_peers(placement, run.directory), contextlib.ExitStack() as until_the_end:
        placement.broadcast(
            str(run.directory)
        )  # As in `fit`: another worker may have come before the folder was there.

        def go_on() -> FitState | None:
            if run.is_complete:  # Nothing is to be written, so nothing is claimed.
                refuse_held(run.directory)
                return open_unfinished(run, recipe, placement, stop, started)
            claim = until_the_end.enter_context(held(run.directory))
            state = open_unfinished(run, recipe, placement, stop, started)
            return None if state is None else dataclasses.replace(state, claim=claim)

        run = _run(placement.on_chief(go_on), run, run.recipe, placement, stop)
    return _with_detail(run, stop)


def _with_detail(run: Run | None, stop: StopRequest) -> Run | None:
    """Learns the detail of a finished run whose recipe asks for it, unless it has."""
    if run is not None and run.recipe.detail.steps and not has_detail(run):
        learn_detail(run, stop=stop)
    return run


def _run(state: FitState | None, run: Run, recipe: Recipe, placement: Placement, stop: StopRequest) -> Run | None:
    """Trains on every worker; `state` is that of worker 0, whom the others follow, and None if the run is complete."""
    is_complete = placement.is_chief and state is None
    content = placement.broadcast("" if state is None else json.dumps(dataclasses.asdict(state.progress)))
    if is_complete or not content:
        return run if placement.is_chief else None
    if placement.is_chief:
        with log_file(run.directory / "log.txt"):
            _train(state)
            _finish(state)
        placement.all_reduce(0.0)
        return run
    logging.getLogger("mrigen").setLevel(logging.WARNING)  # Worker 0 speaks for all.
    make_deterministic(recipe.training.seed)
    dataset = open_dataset(recipe, run.split)
    _train(FitState(run, recipe, dataset, Progress(**json.loads(content)), placement, stop))
    placement.all_reduce(0.0)
    return None


@contextmanager
def _watching_peers(placement: Placement, directory: Path) -> Iterator[None]:
    try:
        yield
    except PEER_ERRORS as error:
        if placement.num_workers == 1:
            raise
        raise lost(directory, error) from None


def _train(fit: FitState) -> None:
    """Makes the model, puts it where the fit stands, and trains it."""
    _log_people(fit)
    with contextlib.nullcontext() if fit.placement.strategy is None else fit.placement.strategy.scope():
        if fit.model is None:
            fit.model = make_model(fit.recipe, fit.dataset, fit.precision)
            if fit.settings.start_from is not None and not fit.steps_done:
                start_from(fit.model, open_run(fit.settings.start_from))
        optimizer = make_optimizer(fit.settings, fit.steps, fit.placement.num_replicas)
        fit.model.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(fit.model.trainable_variables)  # A step that has to make variables is traced twice.
    _log_model(fit)
    fit.checkpoint.mkdir(exist_ok=True)
    if fit.steps_done:
        restore(fit.model, weights_path(fit.checkpoint, fit.progress.epoch, fit.progress.step))
    fit.placement.all_reduce(0.0)  # Nobody trains, and removes what another still reads.
    if fit.placement.is_chief:
        remove_stale(fit.checkpoint, fit.progress)
    fit.begin_steps()
    if not fit.is_done:
        run_epochs(fit)
    fit.end_steps()


def _finish(fit: FitState) -> None:
    """Makes the best weights those of the run, and writes its latents and figures."""
    if fit.placement.strategy is not None:  # What follows is for one device.
        mean = fit.model.training_mean
        fit.model = build_model(
            fit.recipe.model, fit.dataset.cache.volume_shape, fit.precision, fit.settings.seed, fit.dataset.covariates
        )
        fit.model.training_mean = mean
    model, progress, directory = fit.model, fit.progress, fit.run.directory
    _load_best(fit)
    model.optimizer = None
    if fit.claim is not None:
        check_held(fit.claim)
    save_weights(model, directory / WEIGHTS)
    logger.info("Best epoch %d of %d", progress.best_epoch + 1, progress.epoch)
    fit.run.save_latents(latents := encode_cache(model, fit.dataset.cache))
    zooms = fit.recipe.preprocess.zooms
    figures = evaluate(model, fit.dataset, latents, fit.settings.seed, model.training_mean, fit.settings, zooms)
    figures |= {"devices": fit.placement.num_devices, "workers": fit.placement.num_workers}
    figures |= {"precision": fit.precision, "epochs": progress.epoch, "best_epoch": progress.best_epoch + 1}
    figures["performance"] = {
        "volumes_per_second": None if fit.volumes_per_second is None else round(fit.volumes_per_second, 3),
        "data_wait_share": None if fit.wait.share is None else round(fit.wait.share, 4),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "seconds": round(time.monotonic() - fit.started, 1),
    }
    write_json(directory / "metrics.json", figures)
    write_manifest(directory)
    shutil.rmtree(fit.checkpoint)
    collapse = collapse_of_figures(figures)
    if collapse is not None:
        logger.warning(describe_collapse(*collapse, advise(fit.recipe, Course.of(fit.recipe, figures))))


def _load_best(fit: FitState) -> None:
    """Gives the model the weights of the best epoch, and what inference has beside weights.

    Epochs were compared by what the encoder says. Where that is refined afterwards, a decoder that went on learning
    while the encoder began to learn its people by heart may be better: the last epoch is compared as well.
    """
    model, progress = fit.model, fit.progress
    train, validation = (people_batches(fit.dataset, split) for split in ("train", "validation"))
    epochs = {progress.best_epoch + 1}
    if model.refinement is not None:
        logger.info("Refining inference, by the decoder's derivatives at some training people")
        if validation is not None:
            epochs.add(progress.epoch)
    best, weights = -math.inf, None
    for epoch in sorted(epochs):
        model.load_weights(weights_path(fit.checkpoint, epoch))
        model.adapt_inference(train, validation)
        if len(epochs) == 1:
            return
        elbo = score_validation(model, fit.dataset)["elbo_nats"]
        logger.info("Inference refined by %d steps: epoch %d, val_elbo_nats %.4g", model.refinement.steps, epoch, elbo)
        if elbo > best or weights is None:
            best, weights, progress.best_epoch = elbo, model.get_weights(), epoch - 1
    model.set_weights(weights)


def _log_people(fit: FitState) -> None:
    for note in fit.dataset.notes:
        logger.info(note)
    counts = [len(fit.dataset.rows(split)) for split in ("train", "validation", "heldout")]
    logger.info(
        "%d training, %d validation, %d held-out images; precision %s: %s",
        *counts, fit.precision, fit.run.facts["precision_reason"],
    )  # fmt: skip
    lost_fraction = fit.dataset.cache.table["lost_fraction"]
    num_lost = int((lost_fraction > 0).sum())
    message = "The grid covers every brain"
    if num_lost:
        message = f"The grid cuts {num_lost} of {len(lost_fraction)} heads"
    logger.info("%s (largest loss %.2f %% of the brain or upper head)", message, 100 * lost_fraction.max())


def _log_model(fit: FitState) -> None:
    model, placement = fit.model, fit.placement
    if fit.recipe.model.counted_voxels is not None:
        logger.info("The likelihood counts %d of %d voxels", model.num_counted, model.num_voxels)
    if placement.num_replicas > 1:
        logger.info("%d devices in each of %d workers", placement.num_devices, placement.num_workers)
    kind = fit.recipe.model.kind
    logger.info("%s: %d parameters, %d latent variables", kind, model.count_params(), model.latent_size)
    for line in model.describe():
        logger.info(line)
    if fit.settings.start_from is not None and not fit.steps_done:
        logger.info("Starting with the weights of %s", fit.settings.start_from)
