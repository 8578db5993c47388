"""The images between two people: a straight line through the latent space."""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.errors import UsageError
from mrigen.generation.walks import Walk
from mrigen.imaging.volumes import ImageLike, is_in_memory
from mrigen.runs import Run
from mrigen.runs.encoding import encode_volumes
from mrigen.runs.images import NamedImage, conditions_of, name_images, prepare_images, stem_of
from mrigen.system.wording import nearest

# Images side by side in the picture.
MOST_COLUMNS = 10


def interpolate(run: Run, first: ImageLike, second: ImageLike, *, num_steps: int = 7) -> "Interpolation":
    """Returns the images between two people.

    The latents go in equal steps from those of one to those of the other; so do the covariates, where any condition the
    model. The ends are the people's own reconstructions, where the training images lie.

    Args:
        run: a finished run.
        first, second: participant_id or scan_id of someone of the run (of several images of a person the first), or
            else an image of anyone: a file, or a nibabel image.
        num_steps: images, with both ends.

    Raises:
        UsageError: nobody of that name, twice the same, or too few steps.
        CohortError: an image is unfit.
    """
    return Interpolation(run, first, second, num_steps=num_steps).prepare()


@dataclasses.dataclass(frozen=True)
class End:
    """One of the two: a `name`, and the scan_id of the run, or else the image."""

    name: str
    scan_id: str | None = None
    image: NamedImage | None = None

    @property
    def key(self) -> str:
        """What tells it from others."""
        return self.scan_id or self.image.path or self.name


class Interpolation(Walk):
    """The images between two people; see `interpolate`, whose arguments it takes. `write` makes
    `interpolation_<first>_<second>.nii.gz` (x, y, z, step) in [0, 1], in RUN/interpolations by default.

    Attributes:
        ends: the two.
    """

    def __init__(self, run: Run, first: ImageLike, second: ImageLike, *, num_steps: int = 7):
        if num_steps < 2:
            raise UsageError(f"got {num_steps}, expected an integer >= 2. Set 7 for a start.", "num_steps")
        self.ends = [_find(run, image, number) for number, image in enumerate((first, second), start=1)]
        if first is second or self.ends[0].key == self.ends[1].key:
            name = self.ends[1].name if is_in_memory(second) else second
            raise UsageError(f"{name}: got the same head twice, expected two. Name another.")
        self._share = np.linspace(0.0, 1.0, num_steps)[:, None]
        names = [end.name for end in self.ends]
        titles = [names[0], *(f"{100 * part:.0f} %" for part in self._share[1:-1, 0]), names[1]]
        super().__init__(run, f"interpolation_{names[0]}_{names[1]}", titles, folder="interpolations")
        self.columns = min(num_steps, MOST_COLUMNS)

    def prepare(self) -> "Interpolation":
        self.codes()
        return self

    def codes(self):
        return self._line

    @functools.cached_property
    def _line(self) -> tuple[np.ndarray, np.ndarray | None]:
        loc, conditions = zip(*self._describe(), strict=True)
        walk = (1.0 - self._share) * loc[0] + self._share * loc[1]
        if conditions[0] is None:
            return walk, None
        return walk, (1.0 - self._share) * conditions[0] + self._share * conditions[1]

    def _describe(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Returns the latents (latent,) of each end, and the covariates beside them."""
        new = [row for row, end in enumerate(self.ends) if end.scan_id is None]
        described = {}
        if new:
            images = prepare_images(self.run, [self.ends[row].image for row in new])
            loc, conditions = encode_volumes(self.model, images.volumes)["loc"], conditions_of(self.run, images.people)
            for number, row in enumerate(new):
                described[row] = loc[number], None if conditions is None else conditions[number]
        latents = self.run.load_latents()
        rows = pd.Index(latents["scan_id"])
        for row, end in enumerate(self.ends):
            if end.scan_id is not None:
                conditions = self.run.conditions([end.scan_id])
                described[row] = (
                    latents["loc"][rows.get_loc(end.scan_id)],
                    None if conditions is None else conditions[0],
                )
        return [described[row] for row in range(2)]

    def files(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [*self.paths(directory), self.picture_path(directory)]


def _find(run: Run, image: ImageLike, number: int) -> End:
    """Returns an end; `number` tells apart images in memory that have no names."""
    if is_in_memory(image):
        named = name_images([image], number)[0]
        return End(named.stem, image=named)
    text, subjects = str(image), run.subjects
    for column in ("scan_id", "participant_id"):
        rows = subjects[subjects[column] == text]
        if len(rows):
            rows = rows.sort_values("visit") if "visit" in rows else rows
            scan_id = rows["scan_id"].iloc[0]
            return End(scan_id, scan_id)
    if os.path.isfile(image):
        return End(stem_of(image), image=name_images([os.path.realpath(image)])[0])
    known = list(subjects["participant_id"].unique())
    raise UsageError(
        f"{text}: got neither a participant of {run.directory} nor a file, expected one of {len(known)} people "
        f"({', '.join(known[:3])}, ...) or an image.{nearest(text, known)}"
    )
