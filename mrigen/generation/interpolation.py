"""The heads between two people: a straight line through the latent space."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.errors import UsageError
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import write_volume
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents, encode_volumes
from mrigen.runs.images import conditions_of, prepare_images, stem_of
from mrigen.system.files import refuse_taken
from mrigen.system.wording import nearest


@dataclasses.dataclass(frozen=True)
class End:
    """One of the two: a `name`, and the scan_id of the run, or None where it is an image file at `path`."""

    name: str
    scan_id: str | None
    path: Path


def interpolate(
    run: Run,
    first: str | os.PathLike,
    second: str | os.PathLike,
    num_steps: int = 7,
    directory: str | os.PathLike | None = None,
    force: bool = False,
) -> list[Path]:
    """Writes the heads between two people, with a picture beside them, and returns the path.

    The latents go in equal steps from those of one to those of the other; so does what the model is told of them, where
    it is told anything. The ends are the people's own reconstructions, in the place of the training heads.

    Args:
        run: a finished run.
        first, second: participant_id or scan_id of someone of the run (of several images of a person the first), or
            else an image file of anyone.
        num_steps: heads, with both ends.
        directory: where to write `interpolation_<first>_<second>.nii.gz` (x, y, z, step) in [0, 1];
            RUN/interpolations by default.
        force: whether files of that name are replaced.

    Raises:
        UsageError: nobody of that name, twice the same, too few steps, or a file is there already.
        CohortError: an image is unfit.
    """
    if num_steps < 2:
        raise UsageError(f"--steps: got {num_steps}, expected an integer >= 2. Set 7 for a start.")
    ends = [_find(run, first), _find(run, second)]
    if ends[0] == ends[1]:
        raise UsageError(f"{second}: got the same head twice, expected two. Name another.")
    directory = Path(directory) if directory is not None else run.directory / "interpolations"
    path = directory / f"interpolation_{ends[0].name}_{ends[1].name}.nii.gz"
    picture = path.with_name(path.name.replace(".nii.gz", ".png"))
    refuse_taken([path, picture], force)
    model = run.load_model()
    loc, told = zip(*_describe(run, model, ends), strict=True)
    share = np.linspace(0.0, 1.0, num_steps)[:, None]
    walk = (1.0 - share) * loc[0] + share * loc[1]
    conditions = None if told[0] is None else (1.0 - share) * told[0] + share * told[1]
    heads = np.clip(decode_latents(model, walk, conditions), 0.0, 1.0)
    write_volume(path, np.moveaxis(heads, 0, -1), run.affine)
    titles = [ends[0].name, *(f"{100 * part:.0f} %" for part in share[1:-1, 0]), ends[1].name]
    draw_contact_sheet(list(heads), titles, picture, run.grid["zooms"], columns=min(num_steps, 10))
    return [path]


def _find(run: Run, name: str | os.PathLike) -> End:
    text, subjects = str(name), run.subjects
    for column in ("scan_id", "participant_id"):
        rows = subjects[subjects[column] == text]
        if len(rows):
            rows = rows.sort_values("visit") if "visit" in rows else rows
            scan_id = rows["scan_id"].iloc[0]
            return End(scan_id, scan_id, Path(scan_id))
    if Path(name).is_file():
        return End(stem_of(name), None, Path(os.path.realpath(name)))
    known = list(subjects["participant_id"].unique())
    raise UsageError(
        f"{text}: got neither a participant of {run.directory} nor a file, expected one of {len(known)} people "
        f"({', '.join(known[:3])}, ...) or an image.{nearest(text, known)}"
    )


def _describe(run: Run, model, ends: list[End]) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Returns the latents (latent,) of each end, and what the model is told of it."""
    new = [end for end in ends if end.scan_id is None]
    described = {}
    if new:
        heads = prepare_images(run, [end.path for end in new])
        loc, told = encode_volumes(model, heads.volumes)["loc"], conditions_of(run, heads.people)
        described = {end: (loc[row], None if told is None else told[row]) for row, end in enumerate(new)}
    latents = run.load_latents()
    rows = pd.Index(latents["scan_id"])
    for end in ends:
        if end.scan_id is not None:
            told = run.conditions([end.scan_id])
            described[end] = latents["loc"][rows.get_loc(end.scan_id)], None if told is None else told[0]
    return [described[end] for end in ends]
