"""The latents of the people of a run, of new people, and of single images."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from mrigen.data.cache import VolumeCache, open_cache
from mrigen.data.cohort import index_cohort
from mrigen.data.covariates import COLUMNS
from mrigen.errors import UsageError
from mrigen.imaging.volumes import ImageLike, is_in_memory
from mrigen.models.batches import BATCH_SIZE, encode_batches
from mrigen.quality import admit, check_images
from mrigen.recipe import load_recipe
from mrigen.runs import Run
from mrigen.runs.encoding import encode_cache
from mrigen.runs.images import name_images, prepare_images
from mrigen.runs.latents import IDS, LatentTable

logger = logging.getLogger(__name__)


def encode(
    run: Run,
    images: Sequence[ImageLike | np.ndarray] | np.ndarray | None = None,
    *,
    data: str | os.PathLike | None = None,
    mask: str | None = None,
    overrides: Sequence[str] = (),
) -> LatentTable:
    """Returns the latents of people or images.

    New images are prepared by the preprocessing of the run; nothing is fitted on them.

    Args:
        run: a finished run.
        images: files or nibabel images, or float arrays (x, y, z) on the model's grid with intensities in [0, 1],
            which are taken as they are. None, and no `data`: everyone of the run, from what the run holds.
        data: a BIDS folder, a table with a column of paths, or a folder of NIfTI: new people.
        mask: of the people of `data`, as in the recipe's data.mask.
        overrides: changes of the run's `data` keys, for people of `data` whose tables are written in another way, such
            as data.sex_codes={F: [2], M: [1]}; the run's own data.where and data.exclude are not for them.

    Raises:
        UsageError: images and `data` at once, arrays of another grid, two images of one name, masks of nobody, no masks
            where the run needs them, or a key that is not of `data`.
        CohortError: every fault of tables and images.
    """
    if data is None:
        for name, value in (("mask", mask), ("overrides", ", ".join(overrides))):
            if value:
                raise UsageError(
                    f"got {value}, expected it beside `data`: it is of new people. Leave it out.", parameter=name
                )
    elif images is not None:
        raise UsageError("got images beside `data`, expected one of them. Leave the other out.", parameter="images")
    if images is not None:
        return _encode_images(run, images)
    if data is None:
        latents = run.load_latents()
        people = pd.DataFrame({"scan_id": latents.pop("scan_id")}).merge(run.subjects, on="scan_id", how="left")
    else:
        cache = open_new_people(run, data, mask, overrides)
        latents = encode_cache(run.load_model(), cache)
        del latents["scan_id"]
        people = cache.table
    return _table(run, people, latents)


def _table(run: Run, people: pd.DataFrame, latents: dict[str, np.ndarray]) -> LatentTable:
    columns = () if run.covariates is None else [COLUMNS[name] for name in run.covariates.names]
    return LatentTable(people[[*IDS, *(column for column in columns if column in people)]], latents)


def _encode_images(run: Run, images) -> LatentTable:
    volumes, people = _gather(run, images)
    double = people["scan_id"][people["scan_id"].duplicated()]
    if len(double):
        raise UsageError(f"got {double.iloc[0]} twice, expected images of different names. Rename one.", "images")

    def batches() -> Iterator[tf.Tensor]:
        for start in range(0, len(volumes), BATCH_SIZE):
            yield tf.stack([_in_unit_range(volume) for volume in volumes[start : start + BATCH_SIZE]])[..., None]

    return _table(run, people, encode_batches(run.load_model(), batches()))


def _in_unit_range(volume: np.ndarray) -> np.ndarray:
    """Returns the intensities of a prepared image, which are bytes, as they are of an array: in [0, 1]."""
    return volume.astype(np.float32) / np.float32(255) if volume.dtype == np.uint8 else volume


def _gather(run: Run, images) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Returns volumes (x, y, z), bytes of images and float32 of arrays, and what is known of whom they show."""
    grid = tuple(run.grid["volume_shape"])
    if isinstance(images, np.ndarray):
        images = [images] if images.shape in (grid, (*grid, 1)) else list(images)
    elif isinstance(images, (str, os.PathLike)) or is_in_memory(images):
        images = [images]
    if not len(images):
        raise UsageError("got none, expected one image or more.", "images")
    files = [
        name_images([image], number)[0]
        for number, image in enumerate(images, start=1)
        if not isinstance(image, np.ndarray)
    ]
    prepared = prepare_images(run, files) if files else None
    volumes, rows, next_file = [], [], 0
    for number, image in enumerate(images, start=1):
        if isinstance(image, np.ndarray):
            name = f"image-{number:03d}"
            volumes.append(_check_array(image, name, grid))
            rows.append(dict.fromkeys(IDS, name))
        else:
            volumes.append(prepared.prepared[next_file].array)
            rows.append(prepared.people.iloc[next_file].to_dict())
            next_file += 1
    return volumes, pd.DataFrame(rows)


def _check_array(array: np.ndarray, name: str, grid: tuple[int, int, int]) -> np.ndarray:
    """Returns an array that was given for an image as (x, y, z) float32."""
    if array.shape not in (grid, (*grid, 1)):
        raise UsageError(
            f"got an array of shape {array.shape} for {name}, expected {grid}, the grid of the model. "
            "Give an image with its affine, such as a nibabel image: it is brought to that grid.",
            "images",
        )
    volume = array.reshape(grid).astype(np.float32)
    if not (np.isfinite(volume).all() and volume.min() >= 0.0 and volume.max() <= 1.0):
        raise UsageError(
            f"got an array with values from {volume.min():g} to {volume.max():g} for {name}, expected intensities in "
            "[0, 1]. Scale them, or give a nibabel image: its intensities are scaled.",
            "images",
        )
    return volume


def open_new_people(
    run: Run,
    data: str | os.PathLike,
    mask: str | None = None,
    overrides: Sequence[str] = (),
    check: Callable[[pd.DataFrame], None] | None = None,
) -> VolumeCache:
    """Returns the images of new people, prepared by the preprocessing of the run; see `encode`. What is strange about
    them is logged.

    Args:
        check: is given the table of the people before any image is prepared, and raises what speaks against them.
    """
    cohort, recipe = _new_cohort(run, data, mask, overrides)
    if check is not None:
        check(cohort.table)
    settings = run.recipe.preprocess
    admit(check_images(cohort, settings, recipe.apply_mask, refuse_copies=False))
    return open_cache(cohort, settings, recipe.apply_mask)


def _new_cohort(run: Run, data: str | os.PathLike, mask: str | None, overrides: Sequence[str]):
    foreign = next((change for change in overrides if not change.startswith("data.")), None)
    if foreign is not None:
        raise UsageError(
            "got another key, expected one of data: what becomes of an image is the run's. Leave it out.",
            parameter=f"overrides={foreign}",
        )
    # What else the recipe says of tables (names of columns, codes) holds for new people until it is changed.
    changes = ["data.where={}", "data.exclude=[]", *overrides]
    recipe = load_recipe(run.directory / "recipe.yaml", changes).data
    if recipe.apply_mask and mask is None:
        raise UsageError(
            "got nothing, expected the masks of the new people: the run was fitted on brains without skull. "
            "Name them, or, if these are stripped already, add `data.apply_mask=false`.",
            parameter="mask",
        )
    recipe = recipe.model_copy(update={"source": "files", "root": str(data), "cohorts": [], "mask": mask})
    cohort = index_cohort(recipe)
    for note in cohort.notes:
        logger.info(note)
    return cohort, recipe
