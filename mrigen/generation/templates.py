"""The mean heads of a run: what its model takes for an average person, of all or of each group."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.errors import UsageError
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import write_volume
from mrigen.models import MorphingAutoencoder
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents
from mrigen.system.files import refuse_taken


def write_templates(
    run: Run, by: str | None = None, directory: str | os.PathLike | None = None, force: bool = False
) -> list[Path]:
    """Writes mean heads as NIfTI, with a picture beside them, and returns their paths.

    A mean head is the decoded mean of the latents of training people, so it is as sharp as the model's other heads: an
    average of people, not of images. The one head of all of a morphing model is its learned template, into which the
    displacements of `sample` lead.

    Args:
        run: a finished run.
        by: a column of the run's subjects.tsv, such as sex; a head for each of its values. None: one head of all.
        directory: where to write `template.nii.gz` or `template_<column>-<value>.nii.gz`; RUN/templates by default.
        force: whether files of that name are replaced.

    Raises:
        UsageError: no such column, too many values for groups, or a file is there already.
    """
    latents = run.load_latents("train")
    people = pd.DataFrame({"scan_id": latents["scan_id"], "row": np.arange(len(latents["scan_id"]))})
    table = people.merge(run.subjects, on="scan_id")
    groups = {"template": table["row"]} if by is None else _groups(table, by, run)
    directory = Path(directory) if directory is not None else run.directory / "templates"
    paths = [directory / f"{name}.nii.gz" for name in groups]
    refuse_taken(paths, force)
    means = _group_means(latents["loc"], groups)
    told = run.conditions(latents["scan_id"])
    model = run.load_model()
    if by is None and isinstance(model, MorphingAutoencoder):
        volumes = model.mean.image.numpy()[None, ..., 0]
    else:
        volumes = decode_latents(model, means, None if told is None else _group_means(told, groups))
    volumes = np.clip(volumes, 0.0, 1.0)
    for path, volume in zip(paths, volumes, strict=True):
        write_volume(path, volume, run.affine)
    titles = [f"{name} (n = {len(rows)})" for name, rows in groups.items()]
    picture = directory / (f"{'template' if by is None else f'template_{by}'}.png")
    draw_contact_sheet(list(volumes), titles, picture, run.grid["zooms"])
    return paths


def _group_means(values: np.ndarray, groups: dict[str, pd.Series]) -> np.ndarray:
    return np.stack([values[rows.to_numpy()].mean(axis=0) for rows in groups.values()])


def _groups(table: pd.DataFrame, by: str, run: Run) -> dict[str, pd.Series]:
    """Returns the rows of the latents of each group, by the name of its file."""
    if by not in table:
        known = ", ".join(sorted(set(run.subjects) - {"path", "mask_path", "scan_id", "participant_id"}))
        raise UsageError(f"--by: got {by}, expected a column of {run.directory}/subjects.tsv. Known: {known}.")
    labels = table[by].dropna()
    if not 1 <= labels.nunique() <= 20:
        raise UsageError(
            f"--by: column {by} has {labels.nunique()} values among the training people, expected 1 to 20. "
            "Name a column of groups, such as sex or site."
        )
    names = {label: "".join(c for c in str(label) if c.isalnum()) for label in sorted(labels.unique())}
    return {f"template_{by}-{name}": table.loc[table[by] == label, "row"] for label, name in names.items()}
