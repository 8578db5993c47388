"""Starting a fit from a finished run: its weights, on its own grid or on a finer one over the same field of view."""

import re

import numpy as np
import pandas as pd
from scipy import ndimage

from mrigen.data.dataset import Dataset
from mrigen.errors import UsageError
from mrigen.models import LatentModel, VariationalAutoencoder, build_model
from mrigen.recipe import Recipe
from mrigen.runs import Run, open_run

SEEN_BEFORE = "seen_before.tsv"
# What is of a fit, not of what it learned.
_OWN = re.compile(r"^(step|kl_warmth|inside|told_by/.*|erasure/.*|refinement/.*)$")
# Keras numbers layers that have no name of their own.
_NUMBER = re.compile(r"_\d+(?=/)")
# The image of people, and the fields that are kept as images.
_IMAGES = re.compile(r"(^|/)(image|modes|log_sigma)$")


def check_start(recipe: Recipe, dataset: Dataset) -> pd.DataFrame | None:
    """Returns what `people_seen` says of the run that `training.start_from` names; None without such a run.

    Raises:
        UsageError: the run is of another grid or field of view, or has learned from people whom this fit holds back.
            RunError: it is no finished run.
    """
    if recipe.training.start_from is None:
        return None
    run = open_run(recipe.training.start_from)
    place = f"training.start_from: {run.directory}"
    faults = []
    if run.recipe.model.kind != recipe.model.kind:
        faults.append(
            f"{place}: got a run of the kind {run.recipe.model.kind}, expected {recipe.model.kind}. Name another run."
        )
    extents = [
        np.multiply(shape, zooms)
        for shape, zooms in (
            (run.grid["volume_shape"], run.grid["zooms"]),
            (dataset.cache.volume_shape, recipe.preprocess.zooms),
        )
    ]
    if not np.allclose(*extents, atol=0.5 * max(run.grid["zooms"])):
        theirs, own = (" x ".join(f"{side:g}" for side in extent) for extent in extents)
        faults.append(
            f"{place}: got a field of view of {theirs} mm, expected {own} mm. Set preprocess.volume_shape and "
            "preprocess.zooms so that their products are those of the run."
        )
    seen = people_seen(run)
    people = dataset.cache.table[["participant_id", "family"]].drop_duplicates("participant_id")
    people = people.merge(dataset.split, on="participant_id")
    names = []
    for split, told_by in (("validation", ["train"]), ("heldout", ["train", "validation"])):
        held, told = people[people["split"] == split], seen[seen["split"].isin(told_by)]
        known = held["participant_id"].isin(told["participant_id"]) | held["family"].isin(told["family"].dropna())
        names += held.loc[known, "participant_id"].tolist()
    if names:
        faults.append(
            f"{place}: got a run that has learned from {', '.join(names[:5])}{' and others' * (len(names) > 5)} "
            f"({len(names)} validation or held-out people of this fit, or their relatives), expected none of them. Set "
            f"data.split.seed and data.split as in {run.directory / 'recipe.yaml'}, or leave these people out."
        )
    if faults:
        raise UsageError(faults)
    shape, precision = dataset.cache.volume_shape, run.facts["precision"]
    start_from(build_model(recipe.model, shape, precision, recipe.training.seed, dataset.covariates), run)
    return seen


def people_seen(run: Run) -> pd.DataFrame:
    """Returns participant_id, family and split of the people by whom a run, or one it started from, has learned (train)
    or chosen its best epoch (validation)."""
    people = run.subjects[["participant_id", "family"]].drop_duplicates("participant_id").merge(run.split)
    tables = [people[people["split"] != "heldout"]]
    before = run.directory / SEEN_BEFORE
    if before.is_file():
        tables.append(pd.read_csv(before, sep="\t", dtype=str, na_values=["n/a"], keep_default_na=False))
    return pd.concat(tables, ignore_index=True).drop_duplicates()


def start_from(model: LatentModel, run: Run) -> None:
    """Gives a built model the weights of a finished run; a decoder's sigma that the recipe fixes stays as it is.

    Weights of the same shape are copied. On a finer grid images (the template and its modes, the mean image, a sigma of
    every voxel) are resampled by cubic splines, and the weights of patches are spread over the finer voxels: a volume
    whose finer voxels repeat the coarser ones has the latents that it had before. Velocities live on the grid of the
    fields and are the same in mm.

    Raises:
        UsageError: a part does not fit, one line each.
    """
    other = run.load_model()
    place = f"training.start_from: {run.directory}"
    own, given = _learned(model), _learned(other)
    if [name for name, _ in own] != [name for name, _ in given]:
        names = sorted({name for name, _ in own} ^ {name for name, _ in given})
        raise UsageError(
            f"{place}: got a model of other parts ({', '.join(names[:4]) or 'in another order'}), expected those of "
            "this recipe. Give both the same keys of model, and patches to both (model.patch) or to none."
        )
    faults, values = [], []
    pairs = [(name, mine, theirs) for (name, mine), (_, theirs) in zip(own, given, strict=True)]
    if isinstance(model, VariationalAutoencoder) and model.likelihood.is_fixed:
        pairs = [pair for pair in pairs if pair[1] is not model.likelihood.log_sigma]
    for name, variable, learned in pairs:
        value = _refined(name, learned.numpy(), tuple(variable.shape))
        if value is None:
            faults.append(
                f"{place}: {name}: got a shape of {tuple(learned.shape)}, expected {tuple(variable.shape)}. Give both "
                "the same keys of model; on a grid twice as fine, twice model.patch and model.field_spacing."
            )
        values.append(value)
    if faults:
        raise UsageError(faults)
    for (_, variable, _), value in zip(pairs, values, strict=True):
        variable.assign(value)


def _learned(model: LatentModel) -> list[tuple[str, object]]:
    """Returns (name without Keras's numbers, variable) of what a model has learned, in the order it was made."""
    named = [(_NUMBER.sub("", variable.path.partition("/")[2]), variable) for variable in model.variables]
    return [(name, variable) for name, variable in named if not _OWN.match(name)]


def _refined(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns a weight for a finer grid, or None where there is no such thing."""
    if value.shape == shape:
        return value
    if len(value.shape) != len(shape) or any(new % old for new, old in zip(shape, value.shape, strict=True)):
        return None
    factors = [new // old for new, old in zip(shape, value.shape, strict=True)]
    if _IMAGES.search(name) and len(shape) == 4 and factors[3] == 1:
        return ndimage.zoom(value, factors, order=3, mode="nearest", grid_mode=True)
    if re.match(r"(take_in|to_volume|to_detail)/", name) and name.endswith("/kernel") and factors[3:] == [1, 1]:
        for axis, factor in enumerate(factors[:3]):
            value = np.repeat(value, factor, axis=axis)
        # What is taken in is summed over the finer voxels; what is given out is said of each.
        return value / np.prod(factors) if name.startswith("take_in/") else value
    return None
