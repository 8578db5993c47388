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
# What is taken wherever an image comes in: a file, or an image in memory.
ImageLike = str | os.PathLike | nibabel.spatialimages.SpatialImage


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


def read_volume(image: ImageLike, dtype=np.float32, name: str | None = None) -> Volume:
    """Returns an image, reoriented to the closest canonical (RAS+) axes, in C order.

    A fourth axis of length one is dropped. Scale factors of the header are applied.

    Args:
        image: a file, or a nibabel image.
        dtype: of the array that is returned.
        name: what faults call an image in memory; see `name_of`.

    Raises:
        CohortError: the file is missing, truncated, no NIfTI, or not 3-D. One line names the file and the fault.
    """
    name = name_of(image) if name is None else name
    loaded, array = _load(image, name)
    if array.dtype.fields:
        raise CohortError(
            f"{name}: cannot be read as NIfTI (its voxels are colours), expected one number a voxel. "
            "Convert the image again, or exclude the subject with data.exclude."
        )
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise CohortError(
            f"{name}: got a {array.ndim}-D image of shape {array.shape}, expected one 3-D volume. "
            "Split the series, or exclude the subject with data.exclude."
        )
    # An image in memory may have none.
    affine = np.full((4, 4), np.nan) if loaded.affine is None else np.asarray(loaded.affine, dtype=np.float64)
    try:
        volume = to_canonical(Volume(array, affine))
    except (np.linalg.LinAlgError, nibabel.orientations.OrientationError):
        raise CohortError(
            f"{name}: got an affine that is singular or not finite, expected a map from voxels to mm. "
            "Convert the image again, or exclude the subject with data.exclude."
        ) from None
    # NIfTI changes x fastest; whoever works on the array expects it the other way, and is several times slower else.
    return dataclasses.replace(volume, array=np.ascontiguousarray(volume.array, dtype=dtype))


def _load(image: ImageLike, name: str) -> tuple[nibabel.spatialimages.SpatialImage, np.ndarray]:
    """Returns an image and its voxels as they are stored, where the header does not scale: they are converted later,
    and small types are faster to move."""
    try:
        if not is_in_memory(image):
            image = nibabel.load(Path(image), mmap=False)
        return image, np.asarray(image.dataobj)
    except FileNotFoundError:
        raise CohortError(f"{name}: no such file. Restore it, or exclude the subject with data.exclude.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CohortError(
            f"{name}: truncated or damaged gzip stream ({_one_line(error)}), expected a whole .nii.gz. "
            "Restore the file, or exclude the subject with data.exclude."
        ) from None
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
        ValueError,
    ) as error:
        raise CohortError(
            f"{name}: cannot be read as NIfTI ({_one_line(error)}). "
            "Restore the file, or exclude the subject with data.exclude."
        ) from None


def is_in_memory(image) -> bool:
    """Whether it is a nibabel image, not the path of one."""
    return isinstance(image, nibabel.spatialimages.SpatialImage)


def path_of(image: ImageLike) -> str | None:
    """Returns the path of the file that an image lies in, or was loaded from; None of an image made in memory."""
    return image.get_filename() if is_in_memory(image) else os.fspath(image)


def name_of(image: ImageLike) -> str:
    """Returns what faults call an image: its path, if it has one."""
    return path_of(image) or "image"


def read_grid(image: ImageLike) -> tuple[tuple[int, int, int], np.ndarray]:
    """Returns the shape (x, y, z) and the affine (4, 4) of an image as it is stored, without reading its voxels.

    Take it of images that `read_volume` has read: it checks nothing.
    """
    if not is_in_memory(image):
        image = nibabel.load(image, mmap=False)
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
    """Returns a 3-D (or 4-D, last axis a sequence) `array` as a NIfTI-1 image in memory.

    The header carries `affine` as both sform and qform (code 1, scanner), zooms in mm, and the array's own type.
    """
    return _in_mm(Nifti1Image(np.asarray(array), affine), affine)


def array_of(image: Nifti1Image) -> np.ndarray:
    """Returns the voxels of an image of `make_image`, as they were given, not copied."""
    return np.asarray(image.dataobj)


def make_displacement(displacement: np.ndarray, affine: np.ndarray) -> Nifti1Image:
    """Returns a displacement field as ITK and ANTs read it.

    For each voxel of the grid of `affine`, where to look in the moving image: NIfTI-1 of five axes (x, y, z, 1, 3) with
    the intent "vector", in mm along the axes of ITK's world (LPS: the first two point the other way than in RAS+).

    Args:
        displacement: (x, y, z, 3) in voxels, along the axes of the array.
        affine: (4, 4) voxel-to-world map in mm, RAS+.

    References:
        ANTs, antsApplyTransforms; ITK, DisplacementFieldTransform.
    """
    world = np.asarray(displacement, dtype=np.float64) @ np.asarray(affine)[:3, :3].T
    field = (world * (-1.0, -1.0, 1.0)).astype(np.float32)[:, :, :, None, :]
    image = Nifti1Image(field, affine)
    image.header.set_intent("vector")
    return _in_mm(image, affine)


def _in_mm(image: Nifti1Image, affine: np.ndarray) -> Nifti1Image:
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image


def write_volume(path: str | os.PathLike, array: np.ndarray, affine: np.ndarray) -> None:
    """Writes the image of `make_image`; see `write_image`."""
    write_image(path, make_image(array, affine))


def write_image(path: str | os.PathLike, image: Nifti1Image) -> None:
    """Writes an image as NIfTI-1, whole or not at all.

    The bytes depend on the image only (the gzip header holds no time and no name).
    """
    data = image.to_bytes()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, compresslevel=4, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
