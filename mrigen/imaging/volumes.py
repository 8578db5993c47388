"""NIfTI files and arrays: reading, writing, orientation, affines. The only module that imports nibabel."""

import dataclasses
import gzip
import os
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel import Nifti1Image

from mrigen.errors import CohortError
from mrigen.system.files import atomic_path

SUFFIXES = (".nii.gz", ".nii")


@dataclasses.dataclass(frozen=True)
class Volume:
    """One 3-D image.

    Attributes:
        array: (x, y, z), float32 unless the reader was asked for another type.
        affine: (4, 4) float64, voxel indices to world coordinates in mm, RAS+.
    """

    array: np.ndarray
    affine: np.ndarray

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size in mm along each array axis."""
        return zooms_of(self.affine)


def zooms_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Returns the voxel size in mm along each array axis of a (4, 4) `affine`.

    Example:
        >>> zooms_of(np.diag([2.0, 3.0, 4.0, 1.0]))
        (2.0, 3.0, 4.0)
    """
    return tuple(float(zoom) for zoom in np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0)))


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns world coordinates (..., 3) in mm of voxel coordinates `points` (..., 3).

    Example:
        >>> apply_affine(np.diag([2.0, 2.0, 2.0, 1.0]), [1, 2, 3]).tolist()
        [2.0, 4.0, 6.0]
    """
    return nibabel.affines.apply_affine(affine, points)


def read_volume(path: str | os.PathLike, dtype=np.float32) -> Volume:
    """Returns the image in `path`, reoriented to the closest canonical (RAS+) axes, in C order.

    A fourth axis of length one is dropped. Scale factors of the header are applied.

    Raises:
        CohortError: the file is missing, truncated, no NIfTI, or not 3-D. One line names the file and the fault.
    """
    path = Path(path)
    try:
        image = nibabel.load(path, mmap=False)
        # As stored, where the header does not scale: it is converted below, and small types are faster to move.
        array = np.asarray(image.dataobj)
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file. Restore it, or exclude the subject with data.exclude.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CohortError(
            f"{path}: truncated or damaged gzip stream ({_one_line(error)}), expected a whole .nii.gz. "
            "Restore the file, or exclude the subject with data.exclude."
        ) from None
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
        ValueError,
    ) as error:
        raise CohortError(
            f"{path}: cannot be read as NIfTI ({_one_line(error)}). "
            "Restore the file, or exclude the subject with data.exclude."
        ) from None
    if array.dtype.fields:
        raise CohortError(
            f"{path}: cannot be read as NIfTI (its voxels are colours), expected one number a voxel. "
            "Convert the image again, or exclude the subject with data.exclude."
        )
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise CohortError(
            f"{path}: got a {array.ndim}-D image of shape {array.shape}, expected one 3-D volume. "
            "Split the series, or exclude the subject with data.exclude."
        )
    volume = Volume(array, np.asarray(image.affine, dtype=np.float64))
    try:
        volume = to_canonical(volume)
    except (np.linalg.LinAlgError, nibabel.orientations.OrientationError):
        raise CohortError(
            f"{path}: got an affine that is singular or not finite, expected a map from voxels to mm. "
            "Convert the image again, or exclude the subject with data.exclude."
        ) from None
    # NIfTI changes x fastest; whoever works on the array expects it the other way, and is several times slower else.
    return dataclasses.replace(volume, array=np.ascontiguousarray(volume.array, dtype=dtype))


def read_grid(path: str | os.PathLike) -> tuple[tuple[int, int, int], np.ndarray]:
    """Returns the shape (x, y, z) and the affine (4, 4) of an image as it is stored, without reading its voxels.

    Take it of files that `read_volume` has read: it checks nothing.
    """
    image = nibabel.load(path, mmap=False)
    return tuple(image.shape[:3]), np.asarray(image.affine, dtype=np.float64)


def to_canonical(volume: Volume) -> Volume:
    """Returns `volume` with axes permuted and flipped to be as near RAS+ as possible; no resampling."""
    orientation = nibabel.io_orientation(volume.affine)
    array = nibabel.apply_orientation(volume.array, orientation)
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(orientation, volume.array.shape)
    return Volume(array, affine)


def from_canonical(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns `array` (x, y, z) of closest canonical (RAS+) axes with the axes of a stored image; no resampling.

    Args:
        array: as `read_volume` returns it.
        affine: (4, 4) of the image as it is stored; see `read_grid`.
    """
    canonical, stored = nibabel.io_orientation(np.eye(4)), nibabel.io_orientation(affine)
    return nibabel.apply_orientation(array, nibabel.orientations.ornt_transform(canonical, stored))


def make_image(array: np.ndarray, affine: np.ndarray) -> Nifti1Image:
    """Returns an array (x, y, z), or (x, y, z, n), as the image in memory that `write_volume` writes."""
    return _in_mm(Nifti1Image(np.asarray(array), affine), affine)


def array_of(image: Nifti1Image) -> np.ndarray:
    """Returns the voxels of an image of `make_image`, as they were given, not copied."""
    return np.asarray(image.dataobj)


def write_volume(path: str | os.PathLike, array: np.ndarray, affine: np.ndarray) -> None:
    """Writes a 3-D (or 4-D, last axis a sequence) `array` as NIfTI-1, whole or not at all.

    The header carries `affine` as both sform and qform (code 1, scanner), zooms in mm, and the array's own type.
    The bytes depend on `array` and `affine` only (the gzip header holds no time and no name).
    """
    _write_image(path, Nifti1Image(np.asarray(array), affine), affine)


def write_displacement(path: str | os.PathLike, displacement: np.ndarray, affine: np.ndarray) -> None:
    """Writes a displacement field as ITK and ANTs read it, whole or not at all.

    For each voxel of the grid of `affine`, where to look in the moving image: NIfTI-1 of five axes (x, y, z, 1, 3) with
    the intent "vector", in mm along the axes of ITK's world (LPS: the first two point the other way than in RAS+).

    Args:
        path: of the file.
        displacement: (x, y, z, 3) in voxels, along the axes of the array.
        affine: (4, 4) voxel-to-world map in mm, RAS+.

    References:
        ANTs, antsApplyTransforms; ITK, DisplacementFieldTransform.
    """
    world = np.asarray(displacement, dtype=np.float64) @ np.asarray(affine)[:3, :3].T
    field = (world * (-1.0, -1.0, 1.0)).astype(np.float32)[:, :, :, None, :]
    image = Nifti1Image(field, affine)
    image.header.set_intent("vector")
    _write_image(path, image, affine)


def _in_mm(image: Nifti1Image, affine: np.ndarray) -> Nifti1Image:
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image


def _write_image(path: str | os.PathLike, image: Nifti1Image, affine: np.ndarray) -> None:
    data = _in_mm(image, affine).to_bytes()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, compresslevel=4, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
