"""A fit under way: what all of its stages look at."""

import dataclasses
import time
from pathlib import Path

from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import steps_per_epoch
from mrigen.models.base import LatentModel
from mrigen.recipe import Recipe, TrainingRecipe
from mrigen.runs import Run
from mrigen.system.claims import Claim
from mrigen.system.stopping import StopRequest
from mrigen.training.callbacks import DataWait, Progress
from mrigen.training.devices import Placement


@dataclasses.dataclass
class FitState:
    """A fit under way.

    Attributes:
        run: its folder.
        recipe: of the run.
        dataset: people, volumes and split.
        progress: how far it has come.
        placement: devices and workers.
        stop: who asks to stop.
        model: what is trained, adapted to the training people; None until it is made.
        wait: how long steps waited for data.
        started: `time.monotonic()` of the call.
        claim: the right to write into the folder, of the process that does.
    """

    run: Run
    recipe: Recipe
    dataset: Dataset
    progress: Progress
    placement: Placement
    stop: StopRequest
    model: LatentModel | None = None
    wait: DataWait = dataclasses.field(default_factory=DataWait)
    started: float = dataclasses.field(default_factory=time.monotonic)
    claim: Claim | None = None
    _steps_before: int = 0
    _steps_began: float = 0.0
    _seconds: float = 0.0

    @property
    def settings(self) -> TrainingRecipe:
        """The `training` block."""
        return self.recipe.training

    @property
    def precision(self) -> str:
        """The Keras policy of the run."""
        return self.run.facts["precision"]

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint."""
        return self.run.directory / "checkpoint"

    @property
    def batch_size(self) -> int:
        """Subjects a step, no more than there are."""
        return min(self.settings.batch_size, len(self.dataset.rows("train")))

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(len(self.dataset.rows("train")), self.batch_size)

    @property
    def steps_done(self) -> int:
        """Steps since the first epoch."""
        return self.progress.epoch * self.steps + self.progress.step

    def begin_steps(self) -> None:
        """Notes that training steps begin."""
        self._steps_before, self._steps_began = self.steps_done, time.monotonic()

    def end_steps(self) -> None:
        """Notes that training steps are over."""
        self._seconds = time.monotonic() - self._steps_began

    @property
    def volumes_per_second(self) -> float | None:
        """Training volumes a second, of the steps of this process; None before they are over."""
        return (self.steps_done - self._steps_before) * self.batch_size / self._seconds if self._seconds else None

    @property
    def is_done(self) -> bool:
        """Whether no step is to follow."""
        return self.progress.done or self.progress.epoch >= self.settings.epochs
