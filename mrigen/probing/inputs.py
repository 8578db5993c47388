"""What a probe is run on, and whether it can be."""

import dataclasses

import numpy as np

from mrigen.errors import CohortError, UsageError
from mrigen.probing.targets import SEX, Target
from mrigen.system.wording import some

SPLITS = ("train", "validation", "heldout")
_TEXTS = ("participant_ids", "groups", "site", "split")
_MATRICES = ("latents", "latents_draw", "latents_untrained", "latents_against", "volumes", "confounds")
_OPTIONAL = ("latents_draw", "latents_untrained", "latents_against", "brain_volume", "confounds", "confounds_known")
_PLAIN = ("target", "volume_shape", "zooms", "confound_names", "reliability", "confounds_refused", "notes")


@dataclasses.dataclass(frozen=True)
class ProbeInputs:
    """What a probe is run on: plain arrays, one row a person.

    Attributes:
        participant_ids: (n,) str, all different.
        targets: (n,) int, the number of the class (sex: 0 is F, 1 is M); or (n,) float, measurements.
        groups: (n,) str, the family, or the person's own id; a group is never on both sides of a fold.
        site: (n,) str, for the protocol leave-site-out and for harmonising.
        split: (n,) str, 'train', 'validation' or 'heldout': what the encoder was fitted on ('train', with
            'validation' for early stopping).
        latents: (n, d) float32, posterior means.
        latents_draw: (n, draws * d) float32, draws from each posterior, side by side; None for plain autoencoders.
        volumes: (n, D) float32, the flattened volumes on the grid of the model.
        head_volume: (n,) float, ml.
        brain_volume: (n,) float, ml, or None.
        confounds: (n, c) float of `encode_confounds`, or None.
        confounds_known: (n,) bool, of whom all numbers of the confounds are known; the others are left out of rows
            without confounds. None: of everyone.
        latents_untrained: (n, d) float32, of the same architecture with the weights it began with, or None.
        latents_against: (n, d) float32 of another run, or None.
        target: what `targets` are of.
        confound_names: (c,) the confound that each column is of.
        reliability: (c,) the share of its variance that is true of each column, 1 where nothing is error, None where it
            is not known; or None: 1 for all.
        confounds_refused: why there are no rows of confounds though the plan asks for them.
        notes: sentences about these people that the table is to say.
        volume_shape, zooms: (x, y, z) of `volumes` in voxels, and their size in mm; for the row `cnn` alone.
    """

    participant_ids: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    site: np.ndarray
    split: np.ndarray
    latents: np.ndarray
    latents_draw: np.ndarray | None
    volumes: np.ndarray
    head_volume: np.ndarray
    brain_volume: np.ndarray | None = None
    confounds: np.ndarray | None = None
    confounds_known: np.ndarray | None = None
    latents_untrained: np.ndarray | None = None
    latents_against: np.ndarray | None = None
    target: Target = SEX
    confound_names: tuple[str, ...] = ()
    reliability: tuple[float | None, ...] | None = None
    confounds_refused: str | None = None
    notes: tuple[str, ...] = ()
    volume_shape: tuple[int, ...] | None = None
    zooms: tuple[float, ...] | None = None


def checked(inputs: ProbeInputs, num_folds: int, num_repeats: int) -> ProbeInputs:
    """Returns `inputs` as arrays of the right types; raises all faults together."""
    faults = [
        f"run_probe: {name}: got {value!r}, expected an integer >= {least}. Set for example {example}."
        for name, value, least, example in (
            ("num_folds", num_folds, 2, 5),
            ("num_repeats", num_repeats, 1, 5),
        )
        if not isinstance(value, (int, np.integer)) or value < least
    ]
    arrays = {}
    num_people = len(inputs.participant_ids)
    for field in dataclasses.fields(ProbeInputs):
        value = getattr(inputs, field.name)
        if field.name in _PLAIN:
            continue
        if value is None and field.name in _OPTIONAL:
            arrays[field.name] = None
            continue
        is_text = field.name in _TEXTS
        array = np.asarray(value).astype(str) if is_text else np.asarray(value)
        num_axes = 2 if field.name in _MATRICES else 1
        arrays[field.name] = array
        if array.ndim != num_axes or len(array) != num_people or array.size == 0:
            expected = f"({num_people},)" if num_axes == 1 else f"({num_people}, at least 1)"
            faults.append(
                f"ProbeInputs: {field.name}: got shape {array.shape}, expected {expected}. Give one row a person."
            )
        elif not is_text and not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            faults.append(f"ProbeInputs: {field.name}: got dtype {array.dtype}, expected numbers. Convert the values.")
        elif not is_text and not _finite_rows(array).all():
            people = arrays["participant_ids"][~_finite_rows(array)]
            faults.append(
                f"ProbeInputs: {field.name}: got NaN or infinity for {some(people)}, expected finite numbers. "
                "Leave out these people, or the predictor."
            )
    if not faults:
        faults += _value_faults(arrays, inputs.target)
    if faults:
        raise UsageError(faults)
    arrays["targets"] = arrays["targets"].astype(float if inputs.target.classes is None else int)
    arrays["volumes"] = arrays["volumes"].astype(np.float32, copy=False)
    split_groups = np.unique(arrays["groups"][arrays["split"] == "heldout"])
    shared = np.intersect1d(split_groups, arrays["groups"][arrays["split"] != "heldout"])
    if len(shared):
        raise CohortError(
            f"probe: groups: got {some(shared)} in the held-out people and in those of training or validation, "
            "expected each family on one side. Split the cohort by family and fit again."
        )
    return dataclasses.replace(inputs, **arrays)


def _value_faults(arrays: dict[str, np.ndarray], target: Target) -> list[str]:
    faults = []
    ids, counts = np.unique(arrays["participant_ids"], return_counts=True)
    if counts.max() > 1:
        faults.append(
            f"ProbeInputs: participant_ids: got {some(ids[counts > 1])} more than once, expected one row a person. "
            "Choose one session of each person."
        )
    known_values = {"split": SPLITS} if target.classes is None else {
        "targets": tuple(range(len(target.classes))), "split": SPLITS
    }  # fmt: skip
    for name, known in known_values.items():
        unknown = np.setdiff1d(arrays[name], known)
        if len(unknown):
            faults.append(
                f"ProbeInputs: {name}: got {some(unknown)}, expected only {', '.join(map(str, known))}. "
                "Leave out the other people."
            )
    return faults


def _finite_rows(array: np.ndarray) -> np.ndarray:
    """Returns which rows are finite, (n,) bool, row by row: volumes are large."""
    return np.array([np.isfinite(row).all() for row in array], bool)
