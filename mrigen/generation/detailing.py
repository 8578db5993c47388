"""Fine structure, drawn beside what a decoder makes."""

from collections.abc import Sequence

import numpy as np

from mrigen.data.memo import file_digest
from mrigen.errors import RunError, UsageError
from mrigen.models.detail import DetailModel, places_on_grid
from mrigen.recipe import DetailRecipe
from mrigen.runs import Run
from mrigen.runs.detail import FACTS, WEIGHTS, detail_folder, has_detail, learn_again, read_detail_facts
from mrigen.runs.run import load_weights

# Apart from whatever else is drawn by the same seed.
STREAM = 24


def choose_detail(run: Run, detail: bool | None) -> bool:
    """Returns whether detail is drawn: as is asked for, or where a run has learned it.

    Raises:
        UsageError: it is asked for, and there is none.
    """
    if detail and not has_detail(run):
        raise UsageError(
            f"got a run without detail, {run.directory}, expected one that has learned it. Leave `detail` out, or "
            f"learn it with `mrigen.learn_detail('{run.directory}')`.",
            "detail",
        )
    return has_detail(run) if detail is None else detail


def load_detail(run: Run) -> tuple[DetailModel, DetailRecipe]:
    """Returns the network of detail of a run, and its settings.

    Raises:
        RunError: there is none, or it is damaged.
    """
    if not has_detail(run):
        raise RunError(
            f"{run.directory}: has no detail, expected some. Learn it with `mrigen.learn_detail('{run.directory}')`."
        )
    facts, settings = read_detail_facts(run)
    model = DetailModel(
        run.grid["volume_shape"], settings.channels, settings.blocks, str(facts.get("precision", "float32"))
    )
    load_weights(model, detail_folder(run) / WEIGHTS, f"weights of {FACTS}'s network", learn_again(run))
    return model, settings


class DetailArtist:
    """Draws the detail of a run.

    Args:
        run: that has learned it.
    """

    def __init__(self, run: Run):
        self._run = run
        self._model, self._settings = load_detail(run)

    @property
    def digest(self) -> str:
        """Of the weights."""
        return file_digest(detail_folder(self._run) / WEIGHTS)

    def draw(self, mean: np.ndarray, displacement: np.ndarray | None, seed: Sequence[int]) -> np.ndarray:
        """Returns an image with detail, (x, y, z) float32 in [0, 1]; the same for the same seed.

        Args:
            mean: what the decoder makes, (x, y, z) in [0, 1].
            displacement: (x, y, z, 3) voxels into the template, of a model that has one.
            seed: non-negative integers.

        Raises:
            RunError: the network makes what is no number.
        """
        places = places_on_grid(mean.shape, displacement)
        image = self._model.draw(mean, places, [*seed, STREAM], self._settings.draw_steps)
        if not np.isfinite(image).all():
            raise RunError(
                f"{detail_folder(self._run)}: draws values that are no numbers, expected finite ones. "
                f"{learn_again(self._run)}"
            )
        return np.clip(image, 0.0, 1.0)
