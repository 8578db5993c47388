"""Is an image fit for use: faults of volumes and masks, what headers leave open, the same image twice."""

import dataclasses
import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mrigen.imaging import headers
from mrigen.imaging.volumes import Volume, apply_affine, zooms_of
from mrigen.system.wording import counted, some

ZOOM_LIMITS = (0.2, 10.0)  # mm
FIELD_OF_VIEW_LIMITS = (60.0, 600.0)  # mm
FEWEST_VOXELS = 8
# How far the corners of a mask's grid may lie from those of its image, in voxels of the image.
GRID_TOLERANCE = 0.1

AXES = "xyz"
OR_EXCLUDE = "or exclude the subject with data.exclude."

# What it means that a header leaves something open, and what to do.
DOUBTS = {
    headers.ORIENTATION: (
        "nothing in the header says which way the axes run. The first is taken to run to the left, the second to "
        "the front, the third up, as is usual; an image that was stored otherwise is mirrored or turned. Convert "
        "the source again, or set the header's codes and maps (sform, qform)."
    ),
    headers.IDENTITY: (
        "the affine is that of an array (1 mm along the axes, from the origin on), as programs write that know of "
        "no other. Volumes may be wrong, and left and right exchanged. Write the affine of the source."
    ),
    headers.ORIGIN: (
        "the first voxel is the origin, and the axes are the world's, as programs write that know the voxel size "
        "alone. Left and right may be exchanged. Compare with the source."
    ),
    headers.ZOOMS: (
        "no voxel size above 0 along some axis, so 1 mm is taken. Volumes may be wrong. Write the voxel size into "
        "the header (pixdim)."
    ),
    headers.UNITS: (
        "lengths without a unit, or not in millimetres; they are taken for millimetres. That is right where head "
        "volumes are those of heads."
    ),
    headers.FORMS: (
        "sform and qform, or the voxel size beside them, disagree; the sform is taken. Look at the image in a "
        "viewer, and make them the same."
    ),
    headers.SHEAR: (
        "the axes are not at right angles (a tilted gantry, or an affine registration in the header); they are "
        "taken so. Resample the image if that was not meant."
    ),
}


def find_faults(path: str | os.PathLike, volume: Volume) -> list[str]:
    """Returns what makes an image unfit, one line a fault; nothing if it is fit.

    Looked for: voxels that are not finite; one value everywhere; an affine that is not finite or singular; voxels
    below 0.2 or above 10 mm; a field of view below 60 or above 600 mm along an axis; fewer than 8 voxels along an
    axis.

    Args:
        path: the file, for the message.
        volume: what is in it, (x, y, z).
    """
    faults = []
    array = volume.array
    low, high = (array.min(), array.max()) if array.size else (0.0, 1.0)
    # The extremes are finite if all voxels are, and are found in a fraction of the time.
    if not np.isfinite([low, high]).all():
        finite = array[np.isfinite(array)]
        faults.append(
            f"{path}: got {array.size - finite.size} of {array.size} voxels that are not finite, expected none. "
            f"Convert the image again, {OR_EXCLUDE}"
        )
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if low == high:
        faults.append(f"{path}: got the value {low:g} in all voxels, expected an image. Restore the file, {OR_EXCLUDE}")
    if min(array.shape) < FEWEST_VOXELS:
        faults.append(
            f"{path}: got the shape {_times(array.shape)}, expected at least {FEWEST_VOXELS} voxels along each axis. "
            f"Take the whole 3-D image, {OR_EXCLUDE}"
        )
    return faults + _affine_faults(path, volume)


def _affine_faults(path: str | os.PathLike, volume: Volume) -> list[str]:
    affine = np.asarray(volume.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        return [
            f"{path}: got an affine with values that are not finite, expected a map from voxels to mm. "
            f"Convert the image again, {OR_EXCLUDE}"
        ]
    zooms = np.array(zooms_of(affine))
    # The determinant of the directions alone: small voxels do not make an affine singular.
    if (zooms == 0).any() or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-3:
        return [
            f"{path}: got a singular affine {np.round(affine[:3, :3], 4).tolist()}, expected three independent axes. "
            f"Convert the image again, {OR_EXCLUDE}"
        ]
    faults = []
    low, high = ZOOM_LIMITS
    if zooms.min() < low or zooms.max() > high:
        faults.append(
            f"{path}: got voxels of {_times(zooms)} mm, expected {low:g} to {high:g} mm along each axis. "
            f"Correct the header, {OR_EXCLUDE}"
        )
    low, high = FIELD_OF_VIEW_LIMITS
    for axis, extent in zip(AXES, zooms * volume.array.shape, strict=True):
        if not low <= extent <= high:
            faults.append(
                f"{path}: got a field of view of {extent:.4g} mm along {axis}, expected {low:g} to {high:g} mm. "
                f"Correct the voxel size in the header, {OR_EXCLUDE}"
            )
    return faults


def mask_faults(path: str | os.PathLike, mask_volume: Volume, volume: Volume) -> list[str]:
    """Returns what makes a mask unfit for an image, one line a fault; nothing if it fits.

    A mask lies on the grid of its image (same shape, corners within a tenth of a voxel), and some voxels, but not
    all, are inside (above 0).

    Args:
        path: the mask's file, for the message.
        mask_volume: what is in it, (x, y, z).
        volume: the image it belongs to, (x, y, z).
    """
    faults = []
    if mask_volume.array.shape != volume.array.shape:
        faults.append(
            f"{path}: got a mask of shape {_times(mask_volume.array.shape)}, expected {_times(volume.array.shape)} "
            f"as its image. Resample the mask to the image's grid, {OR_EXCLUDE}"
        )
    else:
        distance = _corner_distance(mask_volume.affine, volume.affine, volume.array.shape)
        # Written so that a distance that is not a number counts as too far.
        if not distance <= GRID_TOLERANCE * min(volume.zooms):
            faults.append(
                f"{path}: got a mask whose grid lies {distance:.3g} mm off its image's, expected the same grid. "
                f"Resample the mask to the image's grid, {OR_EXCLUDE}"
            )
    inside = int((mask_volume.array > 0).sum())
    if inside in (0, mask_volume.array.size):
        faults.append(
            f"{path}: got a mask with {'no voxel' if inside == 0 else 'every voxel'} above 0, expected a part of the "
            f"image. Make the mask again, {OR_EXCLUDE}"
        )
    return faults


def _corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the corners of two grids of one shape."""
    corners = np.array(list(itertools.product(*((0, size - 1) for size in shape))))
    return float(np.linalg.norm(apply_affine(first, corners) - apply_affine(second, corners), axis=1).max())


def _times(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)


def doubt_notes(table: pd.DataFrame, doubts: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns a sentence for each kind of thing that headers left open: in how many images, what it means, what to do.

    Args:
        table: a cohort's table: path.
        doubts: path -> the `doubts` of the volume (see `Volume`); images without any may be missing.

    Example:
        >>> table = pd.DataFrame({"path": ["a.nii", "b.nii"]})
        >>> doubt_notes(table, {"b.nii": ("units",)})[0][:46]
        '1 of 2 images (b.nii): lengths without a unit,'
    """
    paths = list(dict.fromkeys(table["path"]))
    by_kind: dict[str, list[str]] = {}
    for path in paths:
        for kind in doubts.get(path, ()):
            by_kind.setdefault(kind, []).append(path)
    kinds = [*(kind for kind in DOUBTS if kind in by_kind), *sorted(kind for kind in by_kind if kind not in DOUBTS)]
    everyone = counted(len(paths), "image", "images")
    return [
        f"{len(by_kind[kind])} of {everyone} ({some(by_kind[kind], 3)}): {DOUBTS.get(kind, f'{kind} is left open.')}"
        for kind in kinds
    ]


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """One content under several ids.

    Attributes:
        what: "voxels", or "content" where the files are the same byte for byte.
        scan_ids, paths: in the order of the ids.
    """

    what: str
    scan_ids: tuple[str, ...]
    paths: tuple[str, ...]

    @property
    def fault(self) -> str:
        """What is wrong, in a line."""
        first, *others = self.paths
        return (
            f"{first}: got the same {self.what} under {len(self.paths)} ids ({', '.join(self.scan_ids)}; also "
            f"{', '.join(others)}), expected a different image for each. "
            "Find out whose image it is, and exclude the others with data.exclude."
        )


def find_duplicates(
    table: pd.DataFrame, digests: Mapping[str, str], voxel_digests: Mapping[str, str] | None = None
) -> list[Duplicates]:
    """Returns each content that stands under several scan ids: the same file, or the same voxels.

    The same image under two ids would be in the training and the held-out set at once.

    Args:
        table: a cohort's table: scan_id, path.
        digests: path -> digest of the file (`file_digest`); rows without one are passed over.
        voxel_digests: path -> digest of the voxels (`voxel_digest`), likewise.
    """
    rows = table[["scan_id", "path"]].drop_duplicates("scan_id").sort_values("scan_id")
    alike: dict[frozenset, Duplicates] = {}
    # Files last: where they are the same, so are the voxels.
    for what, known in (("voxels", voxel_digests or {}), ("content", digests)):
        digest = rows["path"].map(known)
        for _, group in rows[digest.notna() & digest.duplicated(keep=False)].groupby(digest, sort=False):
            alike[frozenset(group["scan_id"])] = Duplicates(what, tuple(group["scan_id"]), tuple(group["path"]))
    largest = [found for ids, found in alike.items() if not any(ids < others for others in alike)]
    return sorted(largest, key=lambda found: found.scan_ids[0])


def voxel_digest(volume: Volume) -> str:
    """Returns a digest (32 hexadecimal digits) of the voxels of an image of closest-canonical axes.

    It is the same for the same voxels, in whatever file, order of storage and type they were, as long as float32 holds
    them; the affine does not count. Of each plane the CRC-32 is taken, and of these BLAKE2b: several times faster than
    BLAKE2b of all, and as good where nobody wants to deceive.

    Args:
        volume: as `read_volume` returns it.

    Example:
        >>> array = np.arange(24.0).reshape(2, 3, 4)
        >>> ours = Volume(array, np.eye(4)), Volume(array.astype(np.uint8), np.eye(4)), Volume(array + 1, np.eye(4))
        >>> len({voxel_digest(volume) for volume in ours})
        2
    """
    array = volume.array
    plane = np.empty(array.shape[1:], np.float32)
    checksums = np.empty(len(array), "<u4")
    for index, values in enumerate(array):
        np.add(values, np.float32(0), out=plane, casting="unsafe")  # There are two zeros, one of them negative.
        checksums[index] = zlib.crc32(plane)
    digest = hashlib.blake2b(repr(tuple(array.shape)).encode(), digest_size=16)
    digest.update(checksums)
    return digest.hexdigest()
