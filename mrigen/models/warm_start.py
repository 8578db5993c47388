"""The weights of one model for another: on the same grid, or on a finer one over the same field of view."""

import re

import numpy as np
from scipy import ndimage

from mrigen.models.base import LatentModel

# Keras numbers layers that have no name of their own.
_NUMBER = re.compile(r"_\d+(?=/)")


def copy_weights(model: LatentModel, other: LatentModel) -> None:
    """Gives a built model what another one of the same family has learned; a sigma that is fixed stays as it is.

    Weights of the same shape are copied. On a finer grid images (the template and its modes, the mean image, a sigma of
    every voxel) are resampled by cubic splines, and the weights of patches are spread over the finer voxels: a volume
    whose finer voxels repeat the coarser ones has the latents that it had before. Velocities live on the grid of the
    fields and are the same in mm.

    Raises:
        ValueError: a part does not fit, one line each; nothing is changed then.
    """
    own, given = _learned(model), _learned(other)
    if [name for name, _ in own] != [name for name, _ in given]:
        names = sorted({name for name, _ in own} ^ {name for name, _ in given})
        raise ValueError(
            f"got a model of other parts ({', '.join(names[:4]) or 'in another order'}), expected those of "
            "this recipe. Give both the same keys of model, and patches to both (model.patch) or to none."
        )
    faults, values = [], []
    pairs = [(name, mine, theirs) for (name, mine), (_, theirs) in zip(own, given, strict=True)]
    if model.likelihood is not None and model.likelihood.is_fixed:
        pairs = [pair for pair in pairs if pair[1] is not model.likelihood.log_sigma]
    roles = {id(weight): role for role, weights in model.resampled_weights().items() for weight in weights}
    for name, variable, learned in pairs:
        value = _resampled(roles.get(id(variable)), learned.numpy(), tuple(variable.shape))
        if value is None:
            faults.append(
                f"{name}: got a shape of {tuple(learned.shape)}, expected {tuple(variable.shape)}. Give both "
                "the same keys of model; on a grid twice as fine, twice model.patch and model.field_spacing."
            )
        values.append(value)
    if faults:
        raise ValueError("\n".join(faults))
    for (_, variable, _), value in zip(pairs, values, strict=True):
        variable.assign(value)


def _learned(model: LatentModel) -> list[tuple[str, object]]:
    """Returns (name without Keras's numbers, variable) of what a model has learned, in the order it was made."""
    own = {id(weight) for weight in model.own_weights()}
    learned = [variable for variable in model.variables if id(variable) not in own]
    return [(_NUMBER.sub("", variable.path.partition("/")[2]), variable) for variable in learned]


def _resampled(role: str | None, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns a weight for a finer grid, or None where there is no such thing; `role`: of `resampled_weights`."""
    if value.shape == shape:
        return value
    if len(value.shape) != len(shape) or any(new % old for new, old in zip(shape, value.shape, strict=True)):
        return None
    factors = [new // old for new, old in zip(shape, value.shape, strict=True)]
    if role == "image" and len(shape) == 4 and factors[3] == 1:
        return ndimage.zoom(value, factors, order=3, mode="nearest", grid_mode=True)
    if role in ("taken_in", "given_out") and factors[3:] == [1, 1]:
        for axis, factor in enumerate(factors[:3]):
            value = np.repeat(value, factor, axis=axis)
        # What is taken in is summed over the finer voxels; what is given out is said of each.
        return value / np.prod(factors) if role == "taken_in" else value
    return None
