"""Walks through the latent space along its principal directions."""

import functools

import numpy as np

from mrigen.errors import UsageError
from mrigen.generation.walks import Walk, Walks
from mrigen.runs import Run


def traverse(run: Run, *, num_directions: int = 5, num_steps: int = 7, extent: float = 2.5) -> Walks:
    """Returns sequences of images along the principal directions of the latents.

    A sequence leads through the mean of the training people's latents along one of their principal components, from
    `-extent` to `extent` of its standard deviations. They are written as `traversal_pc<number>.nii.gz` (x, y, z, step)
    in [0, 1], to RUN/traversals by default.

    Args:
        run: a finished run.
        num_directions: how many principal components, in the order of their variance.
        num_steps: images in a sequence.
        extent: standard deviations on either side.

    Raises:
        UsageError: a number out of range.
    """
    latents = run.load_latents("train")
    loc = latents["loc"].astype(np.float64)
    most = min(loc.shape[1], len(loc) - 1)
    if not 1 <= num_directions <= most:
        raise UsageError(
            f"got {num_directions}, expected an integer from 1 to {most}: so many principal components "
            "do the latents of the training people have. Set 5 for a start.",
            "num_directions",
        )
    if num_steps < 2:
        raise UsageError(f"got {num_steps}, expected an integer >= 2. Set 7 for a start.", "num_steps")
    if not extent > 0:
        raise UsageError(f"got {extent:g}, expected a number > 0. Set 2.5 for a start.", "extent")
    conditions = run.conditions(latents["scan_id"])
    if conditions is not None:
        conditions = np.repeat(conditions.mean(axis=0, keepdims=True), num_steps, axis=0)
    middle = loc.mean(axis=0)
    _, singular_values, components = np.linalg.svd(loc - middle, full_matrices=False)
    deviations = singular_values / np.sqrt(len(loc) - 1)
    steps = np.linspace(-extent, extent, num_steps)
    titles, walks, load_model = [f"{step:+.1f} SD" for step in steps], [], functools.cache(run.load_model)
    for number in range(num_directions):
        latents = middle + deviations[number] * steps[:, None] * components[number]
        walk = Walk(run, f"traversal_pc{number + 1:02d}", titles, latents, conditions, "traversals", load_model)
        walk.shows_heads = False  # Steps from the mean of all are nobody.
        walks.append(walk)
    return Walks(run, walks)
