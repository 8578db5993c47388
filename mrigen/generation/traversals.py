"""Walks through the latent space: sequences of heads along its principal directions."""

import os
from pathlib import Path

import numpy as np

from mrigen.errors import UsageError
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import write_volume
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents
from mrigen.system.files import refuse_taken


def write_traversals(
    run: Run,
    num_directions: int = 5,
    num_steps: int = 7,
    extent: float = 2.5,
    directory: str | os.PathLike | None = None,
    force: bool = False,
) -> list[Path]:
    """Writes sequences of heads, each with a picture beside it, and returns their paths.

    A sequence leads through the mean of the training people's latents along one of their principal components, from
    `-extent` to `extent` of its standard deviations.

    Args:
        run: a finished run.
        num_directions: how many principal components, in the order of their variance.
        num_steps: heads in a sequence.
        extent: standard deviations on either side.
        directory: where to write `traversal_pc<number>.nii.gz` (x, y, z, step) in [0, 1]; RUN/traversals by default.
        force: whether files of that name are replaced.

    Raises:
        UsageError: a number out of range, or a file is there already.
    """
    latents = run.load_latents("train")
    loc, told = latents["loc"].astype(np.float64), run.conditions(latents["scan_id"])
    if told is not None:
        told = np.repeat(told.mean(axis=0, keepdims=True), num_steps, axis=0)
    most = min(loc.shape[1], len(loc) - 1)
    if not 1 <= num_directions <= most:
        raise UsageError(
            f"--directions: got {num_directions}, expected an integer from 1 to {most}: so many principal components "
            "do the latents of the training people have. Set 5 for a start."
        )
    if num_steps < 2:
        raise UsageError(f"--steps: got {num_steps}, expected an integer >= 2. Set 7 for a start.")
    if not extent > 0:
        raise UsageError(f"--extent: got {extent:g}, expected a number > 0. Set 2.5 for a start.")
    directory = Path(directory) if directory is not None else run.directory / "traversals"
    paths = [directory / f"traversal_pc{number + 1:02d}.nii.gz" for number in range(num_directions)]
    refuse_taken(paths, force)
    middle = loc.mean(axis=0)
    _, singular_values, components = np.linalg.svd(loc - middle, full_matrices=False)
    deviations = singular_values / np.sqrt(len(loc) - 1)
    model, steps = run.load_model(), np.linspace(-extent, extent, num_steps)
    for path, deviation, component in zip(paths, deviations, components, strict=False):
        walk = middle + deviation * steps[:, None] * component
        heads = np.clip(decode_latents(model, walk, told), 0.0, 1.0)
        write_volume(path, np.moveaxis(heads, 0, -1), run.affine)
        picture = path.with_name(path.name.replace(".nii.gz", ".png"))
        titles = [f"{step:+.1f} SD" for step in steps]
        draw_contact_sheet(list(heads), titles, picture, run.grid["zooms"], columns=num_steps)
    return paths
