"""What happens between the steps of a fit."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mrigen.errors import Interrupted, RunError, TrainingError
from mrigen.statistics.collapse import count_active, describe_collapse, has_collapsed
from mrigen.system.files import atomic_path, ensure_space, read_json, write_json
from mrigen.system.stopping import StopRequest


@dataclasses.dataclass
class Progress:
    """How far a fit has come; saved after each checkpoint's weights, which count from then on.

    Attributes:
        epoch: epochs finished.
        step: steps done of the epoch after those; 0 at its start.
        metrics: what the model's running metrics hold in the middle of an epoch.
        best_epoch: the epoch whose weights are the best so far (0-based), -1 before the first.
        best: its figure (validation ELBO in nats, or minus the validation loss); larger is better. None where it is no
            number.
        collapsed: whether the latents were found collapsed, and that was said.
        done: whether no epoch is to follow.
    """

    epoch: int = 0
    step: int = 0
    metrics: list[float] = dataclasses.field(default_factory=list)
    best_epoch: int = -1
    best: float | None = None
    collapsed: bool = False
    done: bool = False


class KLWarmup(keras.callbacks.Callback):
    """Raises the weight of the KL term from 0 to 1, once or several times; depends on the epoch alone.

    Args:
        epochs: that the rise takes.
        period: epochs from the start of one rise to that of the next.

    References:
        Fu et al. 2019, Cyclical annealing schedule.
    """

    def __init__(self, epochs: int, period: int):
        super().__init__()
        self.epochs = epochs
        self.period = period

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight.assign(min(1.0, (epoch % self.period + 1) / (self.epochs + 1)))


class LatentWatch(keras.callbacks.Callback):
    """Adds to the figures of each epoch what the latents of a few people say, and speaks up when it is nothing.

    active_units: latent variables whose posterior mean differs between the people. shuffled_gap_nats: what their
    volumes lose when each is decoded from the latents of the next; near 0 where the decoder ignores the latents.

    Args:
        volumes: (people, x, y, z, 1), people the model is not trained on where there are any.
        condition: their covariates, (people, condition), or None.
        patience: epochs at the start in which few active variables are no fault.
        on_collapse: "warn", or "stop", which also ends the fit.
        logger: who speaks.
        progress: where it is kept what was said already.
        advice: what is to be done when they say nothing, in words.
    """

    def __init__(
        self,
        volumes: np.ndarray,
        condition,
        patience: int,
        on_collapse: str,
        logger,
        progress: Progress | None = None,
        advice: str = "",
    ):
        super().__init__()
        self.volumes = tf.constant(volumes)
        self.condition = condition
        self.patience = patience
        self.on_collapse = on_collapse
        self.logger = logger
        self.progress = progress or Progress()
        self.advice = advice
        self.measure = tf.function(self._measure, autograph=False)

    def on_epoch_end(self, epoch, logs=None):
        locations, gap = self.measure()
        active = count_active(locations.numpy())
        if logs is not None:
            logs |= {"active_units": active, "shuffled_gap_nats": float(gap)}
        latent_size = self.model.latent_size
        before, stops = self.progress.collapsed, self.on_collapse == "stop"
        self.progress.collapsed = has_collapsed(active, latent_size) and epoch + 1 >= self.patience
        if self.progress.collapsed and not before:
            end = "Stopping here." if stops else "Going on; training.on_collapse=stop would end here."
            self.logger.warning("Epoch %d: %s %s", epoch + 1, describe_collapse(active, latent_size, self.advice), end)
            self.model.stop_training = self.model.stop_training or stops

    def _measure(self):
        locations = self.model.posterior(self.volumes)["loc"]
        nll = [
            self.model.nll(self.volumes, self.model.decode(z, condition=self.condition))
            for z in (locations, tf.roll(locations, 1, axis=0))
        ]
        return locations, tf.reduce_mean(nll[1] - nll[0])


class StopAtNaN(keras.callbacks.Callback):
    """Stops a fit whose loss is no longer a number, and says at which step."""

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            step = int(self.model.optimizer.iterations)
            raise TrainingError(
                f"training: step {step}: the loss is {loss}, expected a number. The last good weights are kept. "
                "Lower training.learning_rate, set training.clip_norm=1000, or set training.precision=float32."
            )


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last state and the best weights on disk, and ends a fit that is done or is asked to stop.

    A checkpoint is the weights and the optimizer's state, then `progress.json`, whose renaming makes it count: until
    then the one before does. It is written after each epoch, and within an epoch when the last one is old, or when the
    fit is asked to stop.

    Args:
        directory: of `epoch-<epochs done>[-step-<steps done>].weights.h5` and `progress.json`.
        progress: where the fit stands.
        patience: epochs without a better figure before stopping, or None.
        watched: what makes an epoch the best: "elbo_nats" (where the model has one) or "loss".
        epochs: of the whole fit.
        steps: of an epoch.
        seconds: a checkpoint is at most this old when a step ends.
        stop: who asks to stop.
        check: refuses to write.
    """

    def __init__(
        self,
        directory: Path,
        progress: Progress,
        patience: int | None,
        watched: str,
        epochs: int,
        steps: int,
        seconds: float = math.inf,
        stop: StopRequest | None = None,
        check: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self.check = check
        self.watched = watched
        self.directory = directory
        self.progress = progress
        self.patience = patience
        self.epochs = epochs
        self.steps = steps
        self.seconds = seconds
        self.stop = stop or StopRequest()
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        if self.progress.step:
            variables = self.model.metrics_variables
            if len(variables) != len(self.progress.metrics):
                raise RunError(
                    f"{self.directory / 'progress.json'}: got {len(self.progress.metrics)} running figures, expected "
                    f"{len(variables)}. Restore the file, or fit again."
                )
            for variable, value in zip(variables, self.progress.metrics, strict=True):
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        self.progress.step += 1
        if self.progress.step == self.steps:  # What follows is the end of the epoch, which saves.
            return
        asked = self.stop.asked
        if asked or time.monotonic() - self._saved_at >= self.seconds:
            self.progress.metrics = self.running_metrics()
            self._save()
        if asked:
            raise self._interrupted()

    def on_epoch_end(self, epoch, logs=None):
        progress = self.progress
        figure = watched_figure(logs or {}, self.watched)
        if progress.best is None or figure > progress.best:
            progress.best, progress.best_epoch = figure if math.isfinite(figure) else None, epoch
        progress.epoch, progress.step, progress.metrics = epoch + 1, 0, []
        waited = epoch - progress.best_epoch
        progress.done = (
            self.model.stop_training
            or progress.epoch >= self.epochs
            or (self.patience is not None and waited >= self.patience)
        )
        self._save()
        self.model.stop_training = progress.done
        if self.stop.asked:
            raise self._interrupted()

    def running_metrics(self) -> list[float]:
        """Returns sums and counts of the figures of an epoch so far."""
        return [float(variable) for variable in self.model.metrics_variables]

    def _save(self) -> None:
        self.check()
        save_weights(self.model, weights_path(self.directory, self.progress.epoch, self.progress.step))
        # From this rename on, a resumed fit starts from the new state; until then, from the old one.
        write_json(self.directory / "progress.json", dataclasses.asdict(self.progress))
        remove_stale(self.directory, self.progress)
        self._saved_at = time.monotonic()

    def _interrupted(self) -> Interrupted:
        run, progress = self.directory.parent, self.progress
        within = f" and {progress.step} of {self.steps} steps" if progress.step else ""
        return Interrupted(
            f"{run}: stopped as asked, after {progress.epoch} of {self.epochs} epochs{within}; all of it is saved. "
            f"Go on with `mrigen.resume('{run}')`."
        )


def load_progress(directory: Path) -> Progress:
    """Returns where an unfinished fit stands; the beginning if it has no checkpoint.

    Raises:
        RunError: the file cannot be read, or its weights are gone.
    """
    path = directory / "progress.json"
    if not path.is_file():
        return Progress()
    try:
        progress = Progress(**read_json(path))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise RunError(f"{path}: not the progress of a fit ({error}). Restore the file, or fit again.") from None
    needed = {weights_path(directory, progress.epoch, progress.step), *_best_weights(directory, progress)}
    for weights in sorted(needed):
        if not weights.is_file():
            raise RunError(f"{weights}: no such file, expected what {path.name} names. Restore it, or fit again.")
    return progress


def weights_path(directory: Path, epochs: int, steps: int = 0) -> Path:
    """Returns the path of weights and optimizer state after so many epochs, and steps of the next.

    Example:
        >>> weights_path(Path("checkpoint"), 3, 20).as_posix()
        'checkpoint/epoch-00003-step-000020.weights.h5'
    """
    within = f"-step-{steps:06d}" if steps else ""
    return directory / f"epoch-{epochs:05d}{within}.weights.h5"


def remove_stale(directory: Path, progress: Progress) -> None:
    """Removes weights that are neither the last nor the best ones of `progress`."""
    kept = {weights_path(directory, progress.epoch, progress.step), *_best_weights(directory, progress)}
    for path in directory.glob("*.weights.h5"):
        if path not in kept:
            path.unlink()


def _best_weights(directory: Path, progress: Progress) -> list[Path]:
    return [weights_path(directory, progress.best_epoch + 1)] if progress.best_epoch >= 0 else []


def restore(model: keras.Model, path: Path) -> None:
    """Loads what `save_weights` wrote of a compiled model, the optimizer's state included."""
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)


def save_weights(model: keras.Model, path: Path) -> None:
    """Writes the weights (and the optimizer's, if the model is compiled) to `path`, whole or not at all."""
    variables = [*model.variables, *(model.optimizer.variables if model.optimizer else ())]
    size = sum(variable.numpy().nbytes for variable in variables)
    ensure_space(path, int(1.2 * size) + 2**20)  # HDF5 takes the whole process with it when the disk is full.
    with atomic_path(path) as temporary:
        model.save_weights(temporary, overwrite=True)


def watched_figure(logs: dict[str, Any], watched: str) -> float:
    """Returns what early stopping and the choice of the best epoch look at; larger is better.

    The validation ELBO (without the weight of the KL term), the validation loss of a model that has none or that has
    another objective, and the training figures where nobody is in the validation split.

    Example:
        >>> watched_figure({"loss": 2.0, "val_loss": 3.0, "val_elbo_nats": -4.0}, "elbo_nats")
        -4.0
        >>> watched_figure({"loss": 2.0, "val_loss": 3.0, "val_elbo_nats": -4.0}, "loss")
        -3.0
    """
    for name in ("val_" + watched, "val_loss", watched, "loss"):
        if name in logs:
            return float(logs[name]) * (-1.0 if name.endswith("loss") else 1.0)
    return -math.inf


class DataWait(keras.callbacks.Callback):
    """Measures how long steps wait for data: from the call of a step until its batch arrives.

    Attributes:
        waited: seconds of waiting so far, but for the first step (it also traces the graph).
        passed: seconds of training steps so far, waiting included, but for the first.
    """

    def __init__(self):
        super().__init__()
        self.waited = 0.0
        self.passed = 0.0
        self._arrived = 0.0
        self._began = 0.0
        self._steps = 0

    def watch(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns `batches` (prefetched, without a stage behind), each noting the time when it is handed over."""

        def note(volumes):
            tf.numpy_function(self._note, [], [])  # TensorFlow's own clock is refused where ops are deterministic.
            return volumes

        return batches.map(note)

    @property
    def share(self) -> float | None:
        """The share of the time of training steps that went into waiting; None before the second step."""
        return self.waited / self.passed if self.passed else None

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps > 1:
            self.waited += max(0.0, self._arrived - self._began)
            self.passed += time.time() - self._began

    def _note(self):
        self._arrived = time.time()


class ProgressLine(keras.callbacks.Callback):
    """Advances a progress bar by one at each step."""

    def __init__(self, advance):
        super().__init__()
        self.advance = advance

    def on_train_batch_end(self, batch, logs=None):
        self.advance(1)


class EpochLog(keras.callbacks.Callback):
    """Writes one line an epoch to the run's log."""

    def __init__(self, logger):
        super().__init__()
        self.logger = logger

    def on_epoch_end(self, epoch, logs=None):
        self.logger.info(describe_epoch(epoch, logs or {}))


def describe_epoch(epoch: int, logs: dict[str, Any]) -> str:
    """Returns one line about an epoch.

    Example:
        >>> describe_epoch(4, {"loss": 12.345, "val_loss": 20.0})
        'epoch 5: loss 12.35, val_loss 20'
    """
    shown = ("loss", "val_loss", "kl_nats", "active_units", "val_elbo_nats", "mse", "val_mse", "decoder_sigma")
    return f"epoch {epoch + 1}: " + ", ".join(f"{name} {float(logs[name]):.4g}" for name in shown if name in logs)
