"""Starting a fit from a finished run: its weights, on its own grid or on a finer one over the same field of view."""

from mrigen.errors import UsageError
from mrigen.models.base import LatentModel
from mrigen.models.warm_start import copy_weights
from mrigen.runs import Run

SEEN_BEFORE = "seen_before.tsv"


def start_from(model: LatentModel, run: Run) -> None:
    """Gives a built model the weights of a finished run; see `mrigen.models.warm_start.copy_weights`.

    Raises:
        UsageError: a part does not fit, one line each.
    """
    try:
        copy_weights(model, run.load_model())
    except ValueError as error:
        origin = f"training.start_from: {run.directory}"
        raise UsageError([f"{origin}: {line}" for line in str(error).splitlines()]) from None
