"""Images given to a run: its own people's by their paths, and new ones, prepared as the run's own were."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.bids import strip_suffix
from mrigen.data.checking import OR_EXCLUDE, doubt_notes
from mrigen.data.covariates import COLUMNS, clean_given
from mrigen.data.preparing import prepare_image, read_checked
from mrigen.data.preprocess import Prepared, grid_affine
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.headers import UNITS
from mrigen.imaging.volumes import ImageLike, Volume, is_in_memory, path_of, read_volume
from mrigen.quality.flags import doubtful_reasons
from mrigen.runs import Run
from mrigen.system.names import path_fault, safe_name
from mrigen.system.progress import progress_bar

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class NamedImage:
    """An image that was handed over.

    Attributes:
        image: a file, or a nibabel image.
        name: what messages call it: its path, or "image-001" and so on where it has none.
        stem: what files that are made of it begin with: `stem_of` as `mrigen.system.names.safe_name` has it.
        path: the real path of its file, if it has one: of an image of the run's own people it tells whose it is.
    """

    image: ImageLike
    name: str
    stem: str
    path: str | None

    def read(self) -> Volume:
        """Returns its voxels; see `read_volume`."""
        return read_volume(self.image, name=self.name)


def name_images(images: ImageLike | Sequence[ImageLike], start: int = 1) -> list[NamedImage]:
    """Returns images with their names; one image may stand alone. Where one has no name, they are counted from
    `start` on.

    Raises:
        UsageError: there are none, or their names cannot stand in a table.
    """
    is_one = isinstance(images, (str, os.PathLike)) or is_in_memory(images)
    several: list[ImageLike] = [images] if is_one else list(images)  # type: ignore[arg-type, list-item]
    if not several:
        raise UsageError("got none, expected one image or more.", "images")
    named = []
    for number, image in enumerate(several, start):
        path = path_of(image)
        name = path if path else f"image-{number:03d}"
        named.append(NamedImage(image, name, safe_name(stem_of(name)), os.path.realpath(path) if path else None))
    faults = [
        f"{image.name}: got an image {fault}, expected printable UTF-8. Rename the file."
        for image in named
        if (fault := path_fault(image.name))
    ]
    if faults:
        raise UsageError(faults)
    return named


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """Images on the grid of a run.

    Attributes:
        prepared: one an image.
        people: what is known of whom they show, one row an image: participant_id and scan_id (of images that are not of
            the run, their stem), and the columns of `COLUMNS` as far as there are any: of the run's own images what the
            run knows, of others the head size that was measured.
        zooms: of the grid, mm.
    """

    prepared: tuple[Prepared, ...]
    people: pd.DataFrame
    zooms: tuple[float, ...]

    @property
    def volumes(self) -> np.ndarray:
        """The images, (n, x, y, z) uint8; divided by 255 they are intensities in [0, 1]."""
        return np.stack([prepared.array for prepared in self.prepared])

    def affine(self, index: int) -> np.ndarray:
        """Returns the (4, 4) affine of the grid of one image."""
        prepared = self.prepared[index]
        return grid_affine(prepared.centre, self.zooms, prepared.array.shape)


def prepare_images(run: Run, images: Sequence[ImageLike | NamedImage]) -> PreparedImages:
    """Returns images as the model of a run takes them, by the run's own preprocessing.

    Where the run was fitted on brains that masks had stripped, its own images are stripped likewise; others are taken
    as they are, and a line of the log says so.

    Args:
        run: a finished run.
        images: files or nibabel images.

    Raises:
        CohortError: the faults of every unfit image and mask, all together.
    """
    named = [image for image in images if isinstance(image, NamedImage)]
    if len(named) < len(images):
        named = name_images(images)  # type: ignore[arg-type]
    apply_mask = run.recipe.data.apply_mask
    own = run.subjects.assign(file=[os.path.realpath(path) for path in run.subjects["path"]]).set_index("file")
    own = own[~own.index.duplicated()]
    found, rows, faults, doubts = [], [], [], {}
    with progress_bar("Preparing images", len(named), "images") as advance:
        for image in named:
            person = own.loc[image.path].to_dict() if image.path in own.index else {}
            mask_path = person.get("mask_path")
            mask = mask_path if isinstance(mask_path, str) else None
            settings = run.recipe.preprocess
            # What is strange about the run's own images was said when it was fitted.
            made = prepare_image(image.image, mask, settings, apply_mask, name=image.name, measured=not person)
            doubts[image.name] = made.doubts
            faults += _of_images([*made.faults, *made.mask_faults])
            prepared = made.prepared
            if prepared is not None and made.quality is not None:
                for reason in doubtful_reasons({**made.quality, "lost_fraction": prepared.lost}):
                    logger.warning("%s: %s", image.name, reason)
            if prepared is not None and not faults:
                if apply_mask and mask is None:
                    logger.warning(
                        "%s: is taken as it is; the run was fitted on brains without skull, which this should be, too",
                        image.name,
                    )
                found.append(prepared)
                ids = {name: person.get(name, image.stem) for name in ("participant_id", "scan_id")}
                known = {column: person[column] for column in COLUMNS.values() if column in person}
                rows.append({**ids, **known, COLUMNS["head_size"]: prepared.head_volume})
            advance(1)
    if faults:
        raise CohortError(list(dict.fromkeys(faults)))
    _log_doubts(doubts)
    return PreparedImages(tuple(found), pd.DataFrame(rows), tuple(run.recipe.preprocess.zooms))


def find_image_faults(run: Run, images: Sequence[NamedImage]) -> list[str]:
    """Returns what makes images unfit for a run, one line a fault; what their headers leave open is logged."""
    faults, doubts = [], {}
    for image in images:
        volume, unfit = read_checked(image.image, run.recipe.preprocess, image.name)
        faults += _of_images(unfit)
        doubts[image.name] = () if volume is None else volume.doubts
    _log_doubts(doubts)
    return faults


def _of_images(faults: Sequence[str]) -> list[str]:
    """Returns faults with advice for images that were handed over, not found by a recipe, which could exclude them."""
    return [fault.replace(OR_EXCLUDE, "or leave it out.") for fault in faults]


def _log_doubts(doubts: Mapping[str, Sequence[str]]) -> None:
    """Logs what the headers of images leave open, but for the unit of lengths: images made in memory have none."""
    told = {name: [kind for kind in kinds if kind != UNITS] for name, kinds in doubts.items()}
    for note in doubt_notes(pd.DataFrame({"path": list(told)}), told):
        logger.warning(note)


def check_given(run: Run, given: Mapping[str, str | float] | None) -> dict[str, str | float]:
    """Returns the covariates that were given, if they condition the model of a run.

    Raises:
        UsageError: the model has no covariates, or not these, or a value that no training person has.
    """
    given = dict(given or {})
    if run.covariates is not None:
        run.covariates.check(given)
    elif given:
        raise UsageError(
            f"got {', '.join(given)} for a model that is told nothing of people, expected a run whose recipe "
            "names covariates in model.condition. Leave it out, or name another run with `run`.",
            parameter="given",
        )
    return clean_given(given)


def conditions_of(run: Run, people: pd.DataFrame, given: Mapping[str, str | float] | None = None) -> np.ndarray | None:
    """Returns what the decoder of a run is conditioned on, (n, condition) float32; None where it is on nothing.

    Args:
        run: whose model.
        people: one row a person, with the columns of `COLUMNS` as far as there are any; the rest is unknown.
        given: values for everyone, instead of those of `people`; see `check_given`.
    """
    if run.covariates is None:
        return None
    given = {COLUMNS[name]: value for name, value in (given or {}).items()}
    return run.covariates.encode(people.assign(**given))


def stem_of(image: str | os.PathLike) -> str:
    """Returns the name of an image without its suffixes and, in BIDS, without T1w.

    Example:
        >>> stem_of("anat/sub-01_T1w.nii.gz")
        'sub-01'
    """
    name = Path(image).name
    return (strip_suffix(name) or name).removesuffix("_T1w")


def check_different(images: Sequence[NamedImage]) -> None:
    """Refuses images of one name: what is written of them would have one name, too. On some disks `A` is `a`.

    Raises:
        UsageError: naming the second.
    """
    seen = set()
    for image in images:
        stem = image.stem.casefold()
        if stem in seen:
            raise UsageError(f"{image.name}: another image has the same name, expected different ones. Rename it.")
        seen.add(stem)
