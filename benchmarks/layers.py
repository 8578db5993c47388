"""Milliseconds of single layers: the measurement behind mrigen's choice of normalisation, activation and sampling."""

from benchmarks.contenders import Contender, alternate
from benchmarks.report import Section
from benchmarks.step import FULL, LOW, shape_name

FACTORY = "benchmarks.trainers.keras_layers:layers"
QUICK = {"volume_shape": (8, 8, 8), "num_steps": 1}


def measure(quick: bool = False) -> list[Section]:
    """Returns the table of this part."""
    from benchmarks.trainers.keras_layers import BATCH_SIZE, CHANNELS, VOLUME_SHAPE, candidates

    settings, num_rounds = (QUICK, 1) if quick else ({}, 3)
    low, full = alternate(
        [Contender(precision, FACTORY, {"precision": precision, **settings}) for precision in (LOW, FULL)], num_rounds
    )
    rows = []
    for purpose, names in candidates().items():
        for name in names:
            rows.append([f"{purpose}: {name}", *(_milliseconds(each.median(name)) for each in (low, full))])
    text = (
        f"Forward and backward of one layer in Keras on TensorFlow, batch {BATCH_SIZE} of "
        f"{shape_name(VOLUME_SHAPE)} voxels with {CHANNELS} channels; what doubles ends at that size. Median of "
        f"{num_rounds} alternating rounds, in milliseconds."
    )
    return [Section("layers: what the choice of a layer costs", text, ["", LOW, FULL], rows)]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
