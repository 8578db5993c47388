"""What a model makes of images, and what it leaves, on each image's own grid and in its own units."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mrigen.data.preprocess import resample
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import Volume, from_canonical, read_grid, read_volume, write_volume
from mrigen.runs import Run
from mrigen.runs.encoding import decode_batches, encode_volumes
from mrigen.runs.images import Heads, check_different, check_given, conditions_of, prepare_images, stem_of
from mrigen.system.files import refuse_taken
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)


def reconstruct(
    run: Run,
    images: Sequence[str | os.PathLike],
    directory: str | os.PathLike | None = None,
    *,
    given: Mapping[str, str | float] | None = None,
    force: bool = False,
) -> list[Path]:
    """Writes the reconstruction of each image and the image minus it, and returns their paths.

    Both are float32 with the shape, the affine and the intensity units of the image. Outside the grid of the model
    nothing is reconstructed: there the reconstruction is what became 0, the image's lowest intensity.

    Args:
        run: a finished run.
        images: NIfTI files of heads such as those of the run, in any orientation and resolution.
        directory: where to write `<name>_desc-reconstruction_T1w.nii.gz`, `<name>_desc-residual_map.nii.gz` and
            `<name>_desc-reconstruction.png` (on the model's grid); RUN/reconstructions by default.
        given: covariates of everyone, for a model that is told any. The others are those that the run knows of its own
            images, and the head size measured in the image; unknown otherwise.
        force: whether files of that name are replaced.

    Raises:
        UsageError: two images share a name, covariates that the model is not told, or a file is there already.
        CohortError: an image is unfit; nothing is written then.
    """
    given = dict(given or {})
    check_given(run, given)
    images = [Path(image) for image in images]
    check_different(images)
    directory = Path(directory) if directory is not None else run.directory / "reconstructions"
    endings = ("reconstruction_T1w.nii.gz", "residual_map.nii.gz", "reconstruction.png")
    targets = [[directory / f"{stem_of(image)}_desc-{ending}" for ending in endings] for image in images]
    refuse_taken((path for target in targets for path in target), force)
    heads, model = prepare_images(run, images), run.load_model()
    loc = encode_volumes(model, heads.volumes)["loc"]
    number = 0
    with progress_bar("Reconstructing", len(images), "images") as advance:
        for parts in decode_batches(model, loc, conditions_of(run, heads.people, given)):
            for head in np.clip(parts["reconstruction"][..., 0], 0.0, 1.0):
                _write(images[number], targets[number], heads, number, head)
                number += 1
                advance(1)
    return [path for target in targets for path in target[:2]]


def _write(image: Path, target: Sequence[Path], heads: Heads, number: int, head: np.ndarray) -> None:
    prepared = heads.prepared[number]
    volume, (_, affine) = read_volume(image), read_grid(image)
    own = resample(Volume(head, heads.affine(number)), volume.affine, volume.array.shape)
    own = (prepared.low + prepared.scale * own).astype(np.float32)
    write_volume(target[0], from_canonical(own, affine), affine)
    write_volume(target[1], from_canonical(volume.array - own, affine), affine)
    seen = prepared.array.astype(np.float32) / 255.0
    titles = [f"{stem_of(image)} image", "model", "difference, absolute"]
    draw_contact_sheet([seen, head, np.abs(seen - head)], titles, target[2], heads.zooms)
    logger.info(
        "%s: MSE %.5f on the model's grid, intensities 0 to 1; %.1f %% of the head lies outside the grid",
        image, np.square(seen - head).mean(), 100.0 * prepared.lost,
    )  # fmt: skip
