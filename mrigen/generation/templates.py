"""The mean images of a run: what its model takes for an average person, of all or of each group."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.errors import UsageError
from mrigen.generation.images import DecodedImages
from mrigen.runs import Run


def template(run: Run, *, by: str | None = None) -> "Templates":
    """Returns mean images.

    A mean image is the decoded mean of the latents of training people, so it is as sharp as the model's other images:
    an average of people, not of voxels. The one of all of a model that warps a template is the template that it
    learned, into which the displacements of `sample` lead.

    Args:
        run: a finished run.
        by: a column of the run's subjects.tsv, such as sex; an image for each of its values. None: one of all.

    Raises:
        UsageError: no such column, or too many values for groups.
    """
    return Templates(run, by=by)


class Templates(DecodedImages):
    """Mean images; see `template`, whose arguments it takes.

    Attributes:
        by: the column, or None.
        counts: training people that each is the mean of.
    """

    folder = "templates"
    shows_heads = False

    def __init__(self, run: Run, *, by: str | None = None):
        latents = run.load_latents("train")
        people = pd.DataFrame({"scan_id": latents["scan_id"], "row": np.arange(len(latents["scan_id"]))})
        table = people.merge(run.subjects, on="scan_id")
        groups = {"template": table["row"]} if by is None else _groups(table, by, run)
        super().__init__(run, list(groups))
        self.by = by
        self.counts = [len(rows) for rows in groups.values()]
        conditions = run.conditions(latents["scan_id"])
        self._codes = (
            _group_means(latents["loc"], groups),
            None if conditions is None else _group_means(conditions, groups),
        )
        self._is_learned = by is None and run.recipe.model.warps_template

    def codes(self):
        return self._codes

    def volume(self, index: int) -> np.ndarray:
        if self._is_learned:
            return np.clip(self.model.template, 0.0, 1.0)
        return super().volume(index)

    @property
    def titles(self) -> list[str]:
        return [f"{name} (n = {count})" for name, count in zip(self.names, self.counts, strict=True)]

    def to_frame(self) -> pd.DataFrame:
        """Returns the name of each image, and of how many people it is the mean."""
        return pd.DataFrame({"name": self.names, "num_people": self.counts})

    def _names_frame(self) -> pd.DataFrame:
        return self.to_frame()

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        return [self.target(directory) / f"{name}.nii.gz" for name in self.names]

    def picture_path(self, directory: str | os.PathLike | None = None) -> Path:
        return self.target(directory) / f"{'template' if self.by is None else f'template_{self.by}'}.png"


def _group_means(values: np.ndarray, groups: dict[str, pd.Series]) -> np.ndarray:
    return np.stack([values[rows.to_numpy()].mean(axis=0) for rows in groups.values()])


def _groups(table: pd.DataFrame, by: str, run: Run) -> dict[str, pd.Series]:
    """Returns the rows of the latents of each group, by the name of its file."""
    if by not in table:
        known = ", ".join(sorted(set(run.subjects) - {"path", "mask_path", "scan_id", "participant_id"}))
        raise UsageError(f"got {by}, expected a column of {run.directory}/subjects.tsv. Known: {known}.", "by")
    labels = table[by].dropna()
    if not 1 <= labels.nunique() <= 20:
        raise UsageError(
            f"column {by} has {labels.nunique()} values among the training people, expected 1 to 20. "
            "Name a column of groups, such as sex or site.",
            "by",
        )
    names = {label: "".join(c for c in str(label) if c.isalnum()) for label in sorted(labels.unique())}
    return {f"template_{by}-{name}": table.loc[table[by] == label, "row"] for label, name in names.items()}
