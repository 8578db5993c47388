"""One image from its file to the model's grid: read, checked, measured and prepared; whatever goes wrong names it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mrigen.data.checking import OR_EXCLUDE, find_faults, mask_faults, voxel_digest
from mrigen.data.heads import find_head
from mrigen.data.preprocess import Prepared, prepare_volume
from mrigen.data.quality import measure_quality
from mrigen.errors import CohortError
from mrigen.imaging.volumes import ImageLike, Volume, name_of, read_volume
from mrigen.recipe import PreprocessRecipe


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What became of an image.

    Attributes:
        prepared: the image on the model's grid; None if it or its mask is unfit.
        faults: of the image, one line each. mask_faults: of its mask.
        doubts: what its header left open; see `Volume`.
        voxels: digest of its voxels (`voxel_digest`), None where it was not asked for.
        quality: its measures (`measure_quality`), None where they were not asked for.
    """

    prepared: Prepared | None
    faults: tuple[str, ...] = ()
    mask_faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    voxels: str | None = None
    quality: dict[str, float] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to remember of the image, as JSON can hold it."""
        return {"doubts": list(self.doubts), "voxels": self.voxels}


def prepare_image(
    image: ImageLike,
    mask: ImageLike | None,
    settings: PreprocessRecipe,
    apply_mask: bool,
    *,
    name: str | None = None,
    measured: bool = False,
) -> Preparation:
    """Returns an image on the model's grid, or what makes it or its mask unfit.

    Args:
        image: a file, or a nibabel image.
        mask: its mask, likewise; None where it has none.
        settings: what an image becomes.
        apply_mask: whether voxels outside the mask become 0.
        name: what faults call an image in memory.
        measured: whether the voxels' digest and the measures of quality are wanted, too.
    """
    name = name_of(image) if name is None else name
    volume, faults = read_checked(image, settings, name)
    mask_volume, unfit = None, []
    if volume is not None and mask is not None:
        mask_volume, unfit = _read_mask(mask, volume)
    doubts = () if volume is None else volume.doubts
    if volume is None or faults or unfit:
        return Preparation(None, tuple(faults), tuple(unfit), doubts)
    try:
        head = find_head(volume, settings)
        voxels = voxel_digest(volume) if measured else None
        inside = None if mask_volume is None else mask_volume.array > 0
        quality = measure_quality(volume, head.mask, inside) if measured else None
        prepared = prepare_volume(volume, mask_volume, settings, apply_mask, head)
    except Exception as error:  # One image of a thousand: whatever it is about it, the others are prepared.
        return Preparation(None, (_unforeseen(name, error),), (), doubts)
    return Preparation(prepared, (), (), doubts, voxels, quality)


def read_checked(image: ImageLike, settings: PreprocessRecipe, name: str) -> tuple[Volume | None, list[str]]:
    """Returns an image as it is prepared from, and what makes it unfit, one line a fault; no image, if it cannot be
    read.

    Args:
        image: a file, or a nibabel image.
        settings: `nan_as_background` is used.
        name: what faults call it.
    """

    def read() -> tuple[Volume, list[str]]:
        volume = read_volume(image, name=name)
        if settings.nan_as_background:
            volume = without_nan(volume)
        return volume, find_faults(name, volume)

    return _guarded(name, read)


def _read_mask(mask: ImageLike, volume: Volume) -> tuple[Volume | None, list[str]]:
    name = name_of(mask)

    def read() -> tuple[Volume, list[str]]:
        found = read_volume(mask)
        return found, mask_faults(name, found, volume)

    return _guarded(name, read)


def _guarded(name: str, read: Callable[[], tuple[Volume, list[str]]]) -> tuple[Volume | None, list[str]]:
    """Returns what `read` does; whatever it raises becomes a fault of the file."""
    try:
        return read()
    except CohortError as error:
        return None, list(error.faults)
    except OSError as error:
        return None, [f"{name}: cannot be read ({error.strerror}). Restore it, {OR_EXCLUDE}"]
    except Exception as error:
        return None, [_unforeseen(name, error)]


def without_nan(volume: Volume) -> Volume:
    """Returns an image whose voxels that are not a number are background: one value, below all others.

    Infinite ones stay, as a fault.
    """
    missing = np.isnan(volume.array)
    if not missing.any() or missing.all():
        return volume
    known = volume.array[~missing]
    low, high = float(known.min()), float(known.max())
    if not np.isfinite([low, high]).all():
        return volume
    below = np.float32(low - max(1e-3 * (high - low), 1e-6 * abs(low)))
    return dataclasses.replace(volume, array=np.where(missing, below, volume.array))


def _unforeseen(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200] or "no reason given"
    return f"{name}: cannot be prepared ({type(error).__name__}: {reason}). Convert the image again, {OR_EXCLUDE}"
