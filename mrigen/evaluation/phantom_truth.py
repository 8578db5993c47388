"""Synthetic people as they would be with another sex or age: what counterfactuals of them are compared with."""

import functools

import numpy as np
import pandas as pd

from mrigen.data.phantom_anatomy import load_template
from mrigen.data.phantom_factors import MEAN_BRAIN_VOLUME_ML, SEX_VOLUME_OFFSET_ML, PhantomSettings, draw_factors
from mrigen.data.phantom_scanner import scan_subject
from mrigen.data.preprocess import prepare_volume
from mrigen.imaging.volumes import Volume
from mrigen.recipe import Recipe


def has_truth(recipe: Recipe) -> bool:
    """Returns whether the synthetic people of a recipe are warped ones: of grown ones counterparts are not made."""
    return _settings(recipe).anatomy == "warped"


def true_change(recipe: Recipe, participant_id: str, name: str, value) -> np.ndarray:
    """Returns how the prepared image of a synthetic person would change, (x, y, z) float32 in [-1, 1].

    Everything else about the person, noise included, stays.

    Args:
        recipe: of the run: whose `data` made the people, and whose `preprocess` prepares them.
        participant_id: of the person.
        name: "sex" or "age". value: the new one.
    """
    settings = _settings(recipe)
    index = int(participant_id.removeprefix("sub-phantom")) - 1
    factors = _factors(settings).iloc[index].to_dict()
    before, after = (
        _prepared(recipe, settings, index, each) for each in (factors, changed(settings, factors, name, value))
    )
    return after - before


def changed(settings: PhantomSettings, factors: dict, name: str, value) -> dict:
    """Returns the factors (a row of `draw_factors`) of a person of another sex or age, by the effects that are planted.

    Example:
        >>> settings = PhantomSettings(num_subjects=1)
        >>> person = draw_factors(settings).iloc[0].to_dict()
        >>> older = changed(settings, person, "age", person["age"] + 10)
        >>> round(older["ventricle_expansion"] - person["ventricle_expansion"], 3)
        0.35
    """
    new = dict(factors)
    if pd.isna(value):
        return new
    new[name] = value
    if name == "age":
        decades = settings.age_effect_strength * (value - factors["age"]) / 10.0
        new["ventricle_expansion"] += 0.35 * decades
        new["cortical_thinning"] = max(0.0, new["cortical_thinning"] + 0.15 * decades)
        return new
    signs = {"F": -1.0, "M": 1.0}
    step = (signs[value] - signs[factors["sex"]]) * settings.sex_effect_strength
    if settings.sex_effect in ("size", "both"):
        new["brain_volume_true_ml"] += step * SEX_VOLUME_OFFSET_ML
        new["head_size_scale"] = (new["brain_volume_true_ml"] / MEAN_BRAIN_VOLUME_ML) ** (1 / 3)
    if settings.sex_effect in ("shape", "both"):
        new["sex_shape"] += step
    return new


def _settings(recipe: Recipe) -> PhantomSettings:
    return PhantomSettings(num_subjects=recipe.data.num_subjects, **recipe.data.phantom.model_dump())


@functools.cache
def _factors(settings: PhantomSettings) -> pd.DataFrame:
    return draw_factors(settings)


@functools.cache
def _template(zooms: float):
    return load_template(zooms)


def _prepared(recipe: Recipe, settings: PhantomSettings, index: int, factors: dict) -> np.ndarray:
    template = _template(settings.zooms) if settings.anatomy == "warped" else None
    volume, mask, _, affine = scan_subject(template, settings, index, factors)
    image, inside = (Volume(each.astype(np.float32), affine) for each in (volume, mask))
    prepared = prepare_volume(image, inside, recipe.preprocess, recipe.data.apply_mask)
    return prepared.array.astype(np.float32) / np.float32(255)
