"""Learning what a finished run's decoder leaves out: fine structure, from crops of the training people's images."""

import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import choose_rows
from mrigen.errors import Interrupted, TrainingError
from mrigen.models.detail import DetailModel, places_on_grid
from mrigen.recipe import DetailRecipe
from mrigen.runs import Run, open_run
from mrigen.runs.detail import (
    FACTS,
    WEIGHTS,
    checkpoint_path,
    detail_folder,
    read_progress,
    write_detail_facts,
)
from mrigen.runs.encoding import encoded_batches
from mrigen.runs.holding import check_held, held
from mrigen.system.claims import Claim
from mrigen.system.files import write_json, write_table
from mrigen.system.machine import available_memory
from mrigen.system.progress import progress_bar
from mrigen.system.stopping import StopRequest
from mrigen.training.callbacks import restore, save_weights
from mrigen.training.opening import log_file, make_deterministic
from mrigen.training.refusals import detail_settings, refuse_detail

logger = logging.getLogger(__name__)

# Of the memory that is free, what the images that crops are cut of may take.
SHARE_OF_MEMORY = 0.25
# A kill costs at most this much training.
CHECKPOINT_SECONDS = 300.0
# Crops of validation people that the course is judged by, and steps from one look to the next.
NUM_WATCHED, WATCHED_STEPS = 32, 250
WARMUP_STEPS = 100
WEIGHT_DECAY, CLIP_NORM = 1e-4, 1.0
# A crop shows at least this share of what crops show on the average: the others are air.
LEAST_SHARE = 0.5
# What decoders leave differs from place to place; the map of it is smoothed by so many voxels.
LEAST_SPREAD, SMOOTHING = 0.02, 2.0


@dataclasses.dataclass(frozen=True)
class Heads:
    """What crops are cut of. All sides are even: zeros are added at their ends.

    Attributes:
        images: (n, x, y, z) uint8, as a cache has them.
        means: (n, x, y, z) float16, what the decoder makes of them.
        displacements: (n, x/2, y/2, z/2, 3) float16, voxels into the template; None where none is moved.
        sides: of the grid before zeros were added.
    """

    images: np.ndarray
    means: np.ndarray
    displacements: np.ndarray | None
    sides: tuple[int, int, int]

    @classmethod
    def of(cls, run: Run, model, dataset: Dataset, rows: np.ndarray) -> "Heads":
        """Returns images of a run, and what its decoder makes of their latents."""
        known, table = run.load_latents(), dataset.cache.table["scan_id"].to_numpy(dtype=str)[rows]
        order = {scan: row for row, scan in enumerate(known["scan_id"])}
        latents = {"loc": known["loc"][[order[scan] for scan in table]]}
        decode, moves = model.graph(_decode_parts), run.recipe.model.warps_template
        images, means, displacements = [], [], []
        for count, volumes, posterior, conditions in encoded_batches(dataset, rows, latents):
            condition = None if conditions is None else tf.constant(conditions, tf.float32)
            parts = decode(tf.constant(posterior["loc"], tf.float32), condition)
            images.append(np.rint(255.0 * _even(volumes[:count, ..., 0])).astype(np.uint8))
            means.append(_even(parts["reconstruction"].numpy()[:count, ..., 0]).astype(np.float16))
            if moves:
                displacements.append(_even(parts["displacement"].numpy()[:count])[:, ::2, ::2, ::2].astype(np.float16))
        moved = np.concatenate(displacements) if moves else None
        return cls(np.concatenate(images), np.concatenate(means), moved, tuple(volumes.shape[1:4]))

    def cut(self, generator: np.random.Generator, settings: DetailRecipe, spread: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns a random crop of an image, its mean and `spread`, (x, y, z, 1), and of places, (x, y, z, 3)."""
        sides = np.array(self.images.shape[1:])
        size = np.minimum(settings.crop, sides)
        least = LEAST_SHARE * self._usual
        for _ in range(100):
            row = int(generator.integers(len(self.images)))
            start = 2 * generator.integers(0, (sides - size) // 2 + 1)
            cut = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
            mean = self.means[row][cut].astype(np.float32)
            if mean.mean() >= least:
                break
        image = self.images[row][cut].astype(np.float32) / np.float32(255)
        spread = spread[cut]
        places = self._places[cut]
        if self.displacements is not None:
            half = tuple(slice(part.start // 2, part.stop // 2) for part in cut)
            moved = self.displacements[row][half].astype(np.float32) * (np.float32(2) / np.float32(self.sides))
            places = places + moved.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
        if settings.mirror and generator.random() < 0.5:
            image, mean, spread = image[::-1], mean[::-1], spread[::-1]
            places = places[::-1] * np.float32([-1, 1, 1])
        return image[..., None], mean[..., None], spread[..., None], places

    def find_spread(self) -> np.ndarray:
        """Returns the standard deviation of what means leave around each place, (x, y, z) float32, at least
        `LEAST_SPREAD`. Elsewhere heads differ in air only, which needs no network."""
        total = np.zeros(self.images.shape[1:])
        for image, mean in zip(self.images, self.means, strict=True):
            total += np.square(image.astype(np.float32) / 255.0 - mean.astype(np.float32))
        variance = gaussian_filter(total / len(self.images), SMOOTHING, mode="nearest")
        return np.sqrt(np.maximum(variance, LEAST_SPREAD**2)).astype(np.float32)

    @functools.cached_property
    def _usual(self) -> float:
        return float(self.means[0].astype(np.float32).mean())

    @functools.cached_property
    def _places(self) -> np.ndarray:
        places = places_on_grid(self.sides)
        missing = [(0, more - side) for side, more in zip(self.sides, self.images.shape[1:], strict=True)]
        return np.pad(places, [*missing, (0, 0)], mode="edge")


def learn_detail(
    run: Run | str | os.PathLike,
    settings: DetailRecipe | None = None,
    force: bool = False,
    stop: StopRequest | None = None,
) -> Run:
    """Trains the network that draws the fine structure of a run's samples, and returns the run.

    It learns from crops of the training people's images, given what the decoder makes of them, and goes on where it was
    interrupted; on CPU it then becomes, bit for bit, what it would have been without the break. RUN/detail holds it.

    Args:
        run: a finished run, or its folder.
        settings: the block `detail` of a recipe; that of the run's own if None, with some steps if that has none.
        force: whether a network that is there is replaced.
        stop: asks to save and end.

    Raises:
        UsageError: there is one already, or what is unfinished has other settings. Interrupted: it was asked
            to stop. TrainingError: the loss is no longer a number. CohortError: the images are not those of the run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    settings, stop = settings or detail_settings(run.recipe), stop or StopRequest()
    refuse_detail(run, settings, force)
    folder = detail_folder(run)
    with contextlib.ExitStack() as until_the_end:
        claim = until_the_end.enter_context(held(folder))
        if force:
            _clear(folder)
        until_the_end.enter_context(log_file(run.directory / "log.txt"))
        _learn(run, settings, stop, claim)
    return run


def _learn(run: Run, settings: DetailRecipe, stop: StopRequest, claim: Claim) -> None:
    started, seed = time.monotonic(), run.recipe.training.seed
    make_deterministic(seed)
    dataset, base, folder = run.open_dataset(), run.load_model(), detail_folder(run)
    shape = dataset.cache.volume_shape
    chosen = choose_rows(dataset.rows("train"), shape, int(SHARE_OF_MEMORY * available_memory()), seed)
    heads = Heads.of(run, base, dataset, chosen)
    watched = dataset.rows("validation")[:NUM_WATCHED]
    others = Heads.of(run, base, dataset, watched) if len(watched) else None
    precision = run.facts["precision"] if run.facts["precision"] != "mixed_float16" else "float32"
    spread = heads.find_spread()
    model = DetailModel(shape, settings.channels, settings.blocks, precision, seed)
    model.spread.assign(spread[tuple(map(slice, shape))][..., None])
    model.compile(optimizer=_optimizer(settings), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    logger.info(
        "Detail: %d parameters, crops of %d images, %d steps",
        model.count_params(), len(chosen), settings.steps,
    )  # fmt: skip
    state = read_progress(folder) or {"step": 0, "seconds": 0.0, "history": [], "losses": []}
    state |= {"settings": settings.model_dump(mode="json")}
    if state["step"]:
        restore(model, checkpoint_path(folder, state["step"]))
        logger.info("Going on after step %d", state["step"])
    course = _Course(model, settings, seed, spread, heads, others)
    with progress_bar("Learning detail", settings.steps - state["step"], "steps") as advance, stop.heard():
        saved_at = began = time.monotonic()
        before = state["seconds"]
        while state["step"] < settings.steps:
            loss = course.step(state["step"])
            if not np.isfinite(loss):
                raise TrainingError(
                    f"{folder}: the loss is no number after {state['step']} steps; what was saved before is kept. "
                    "Lower `detail.learning_rate`, and begin anew with `force=True`."
                )
            state["step"] += 1
            state["losses"].append(loss)
            advance(1)
            if state["step"] % WATCHED_STEPS == 0 or state["step"] == settings.steps:
                state["history"].append(_row(state["step"], state["losses"], course))
                state["losses"] = []
            state["seconds"] = before + time.monotonic() - began
            if stop.asked or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                check_held(claim)
                _save(model, folder, state)
                saved_at = time.monotonic()
            if stop.asked:
                raise Interrupted(
                    f"{folder}: stopped as asked, after {state['step']} of {settings.steps} steps; all of it is saved. "
                    f"Go on with `mrigen.learn_detail('{run.directory}')` and the same settings."
                )
    check_held(claim)
    model.optimizer.finalize_variable_values(model.trainable_variables)  # Their averages over the last steps.
    model.optimizer = None
    folder.mkdir(exist_ok=True)
    write_table(folder / "history.tsv", pd.DataFrame(state["history"]))
    save_weights(model, folder / WEIGHTS)
    figures = {"precision": precision, "num_images": len(chosen)}
    figures |= {"seconds": round(state["seconds"], 1), "seconds_in_all": round(time.monotonic() - started, 1)}
    figures |= {"val_loss": state["history"][-1]["val_loss"] if others is not None else None}
    write_detail_facts(run, settings, figures)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    logger.info("Detail learned in %.0f s", state["seconds"])


class _Course:
    """The steps of the training, each known by its number; and how well crops of other people are drawn."""

    def __init__(
        self, model: DetailModel, settings: DetailRecipe, seed: int, spread, heads: Heads, others: Heads | None
    ):
        self.model, self.settings, self.seed, self.spread, self.heads = model, settings, seed, spread, heads
        self._learn = tf.function(model.learn)
        self._loss = tf.function(model.flow.loss)
        self._watched = []
        if others is not None:
            for number in range(NUM_WATCHED // settings.batch_size or 1):
                self._watched.append(self._batch(others, np.random.default_rng([seed, 1, number])))

    def step(self, number: int) -> float:
        """Takes a step, and returns the loss before it."""
        batch = self._batch(self.heads, np.random.default_rng([self.seed, 0, number]))
        return float(self._learn(*batch))

    def watch(self) -> float | None:
        """Returns the mean loss of crops of people who teach nothing."""
        if not self._watched:
            return None
        return float(np.mean([self._loss(*batch).numpy().mean() for batch in self._watched]))

    def _batch(self, heads: Heads, generator: np.random.Generator) -> list[tf.Tensor]:
        crops = [heads.cut(generator, self.settings, self.spread) for _ in range(self.settings.batch_size)]
        images, means, spreads, places = (np.stack(part).astype(np.float32) for part in zip(*crops, strict=True))
        # Most of the way is learned in its middle.
        times = 1.0 / (1.0 + np.exp(-generator.standard_normal(len(crops))))
        noise = generator.standard_normal(images.shape, dtype=np.float32)
        return [tf.constant(values, tf.float32) for values in (images, means, spreads, places, times, noise)]


def _row(step: int, losses: list[float], course: _Course) -> dict:
    loss, watched = float(np.mean(losses)), course.watch()
    told = "" if watched is None else f", validation {watched:.4f}"
    logger.info("Detail, step %d: loss %.4f%s", step, loss, told)
    return {"step": step, "loss": round(loss, 6), "val_loss": None if watched is None else round(watched, 6)}


def _optimizer(settings: DetailRecipe) -> keras.optimizers.Optimizer:
    warmup = min(WARMUP_STEPS, max(1, settings.steps // 10))
    rate = keras.optimizers.schedules.CosineDecay(
        0.01 * settings.learning_rate,
        max(1, settings.steps - warmup),
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
    # The average is over the last thirtieth of the steps.
    momentum = max(0.0, 1.0 - 30.0 / settings.steps)
    return keras.optimizers.AdamW(
        rate, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM, use_ema=True, ema_momentum=momentum
    )


def _save(model: DetailModel, folder: Path, state: dict) -> None:
    path = checkpoint_path(folder, state["step"])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
    write_json(path.parent / "progress.json", state)
    for other in path.parent.glob("*.weights.h5"):
        if other != path:
            other.unlink()


def _clear(folder: Path) -> None:
    for name in (FACTS, WEIGHTS, "history.tsv"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _even(volumes: np.ndarray) -> np.ndarray:
    """Returns volumes (n, x, y, z, ...) whose sides are even: zeros are added at their ends."""
    missing = [(0, side % 2) for side in volumes.shape[1:4]]
    return np.pad(volumes, [(0, 0), *missing, *[(0, 0)] * (volumes.ndim - 4)])


def _decode_parts(model, z, condition):
    return model.decode_parts(z, condition=condition)
