"""Images and arrays: reading, writing, orientation, affines. Beside `headers` and `asking` the only
module that imports nibabel."""

import contextlib
import dataclasses
import gzip
import io
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import nibabel
import numpy as np
from nibabel import Nifti1Header, Nifti1Image

from mrigen.errors import CohortError
from mrigen.imaging.asking import check_shape, measure_voxels, quiet_nibabel
from mrigen.imaging.containers import (
    OR_EXCLUDE,
    check_file,
    check_stream,
    is_mgh,
    is_packed,
    nifti_version,
    one_line,
    open_content,
)
from mrigen.imaging.headers import NOWHERE, SCANNER, Space, doubts_of, place, space_of
from mrigen.imaging.limits import MOST_BEFORE
from mrigen.system.files import atomic_path

# Of image files, in any case.
SUFFIXES = (".nii.gz", ".nii", ".nii.bz2", ".mgz", ".mgh")
# What is taken wherever an image comes in: a file, or an image in memory.
ImageLike = str | os.PathLike | nibabel.spatialimages.SpatialImage


@dataclasses.dataclass(frozen=True)
class Volume:
    """One 3-D image.

    Attributes:
        array: (x, y, z), float32 unless the reader was asked for another type.
        affine: (4, 4) float64, voxel indices to world coordinates in mm, RAS+.
        doubts: what the header left open, each of: "orientation" (nothing says which way the axes run: both codes of
            NIfTI are 0), "identity" (1 mm along the axes from the origin on, as programs write that know of no affine),
            "origin" (the same with voxels of another size), "zooms" (no voxel size that is above 0, so 1 mm is
            assumed), "units" (not millimetres, as which they are taken), "shear" (axes that are not at right angles),
            "forms" (sform and qform, or the voxel size beside them, disagree; the sform is taken).
    """

    array: np.ndarray
    affine: np.ndarray
    doubts: tuple[str, ...] = ()

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
        CohortError: the file is missing, truncated, damaged, no image, not 3-D, or its voxels are no plain numbers. One
            line names the file and the fault.
    """
    name = name_of(image) if name is None else name
    array, affine, doubts = _read_stored(image, name)
    try:
        with np.errstate(all="ignore"):
            volume = to_canonical(Volume(array, affine, doubts))
            # NIfTI changes x fastest; whoever works on the array expects it the other way, and is several times slower
            # else.
            return dataclasses.replace(volume, array=np.ascontiguousarray(volume.array, dtype=dtype))
    except (np.linalg.LinAlgError, nibabel.orientations.OrientationError):
        raise CohortError(
            f"{name}: got an affine that is singular or not finite, expected a map from voxels to mm. "
            f"Convert the image again, {OR_EXCLUDE}"
        ) from None
    except MemoryError:
        raise CohortError(_no_memory(name)) from None


def _no_memory(name: str) -> str:
    return f"{name}: got an image that does not fit into memory, expected one that does. Free some, {OR_EXCLUDE}"


def read_stored(image: ImageLike, name: str | None = None) -> np.ndarray:
    """Returns the voxels of an image (x, y, z) as they are stored, in the type in which they are; see `read_volume`."""
    return _read_stored(image, name_of(image) if name is None else name)[0]


def _read_stored(image: ImageLike, name: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns the voxels of an image as they are stored (those that the header does not scale are converted later:
    small types are faster to move), its affine, and what its header leaves open."""
    with _told(name):
        loaded, voxels = _load(image, name)
        array = np.asarray(voxels)
        doubts = doubts_of(loaded)
    # An image in memory may have none.
    affine = np.full((4, 4), np.nan) if loaded.affine is None else np.asarray(loaded.affine, dtype=np.float64)
    return array.reshape(array.shape[:3]), affine, doubts


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Makes one line of whatever goes wrong while an image is read."""
    try:
        # What comes of numbers that are none is a fault, and no further lines.
        with np.errstate(all="ignore"), quiet_nibabel():
            yield
    except CohortError:
        raise
    except FileNotFoundError:
        raise CohortError(f"{name}: no such file. Restore it, {OR_EXCLUDE}") from None
    except MemoryError:
        raise CohortError(_no_memory(name)) from None
    except Exception as error:  # Whatever nibabel makes of bytes that are damaged.
        raise CohortError(
            f"{name}: cannot be read as NIfTI ({one_line(error)}). Restore the file, {OR_EXCLUDE}"
        ) from None


def _load(image: ImageLike, name: str) -> tuple[nibabel.spatialimages.SpatialImage, Any]:
    """Returns an image whose header was checked, and its voxels; whatever its file is packed in was read to the end."""
    if not is_in_memory(image) and os.fspath(image).lower().endswith(SUFFIXES):
        return _load_file(image, name)
    loaded = image if is_in_memory(image) else _load_pair(image, name)
    # What is in memory may be of another type than its header says.
    check_shape(loaded.shape, getattr(loaded.dataobj, "dtype", loaded.get_data_dtype()), name)
    if nibabel.is_proxy(loaded.dataobj):
        for path in _packed_files(loaded):
            check_stream(path, name)
    return loaded, loaded.dataobj


def _load_file(
    path: str | os.PathLike, name: str, with_voxels: bool = True
) -> tuple[nibabel.spatialimages.SpatialImage, Any]:
    """Returns the image in a file, as far as its header alone says what it is (extensions are not read: they may be
    anything), and its voxels."""
    with open_content(path, name) as content:
        version = nifti_version(content.head)
        if version is None and not is_mgh(content.head):
            raise ValueError(f"it begins with {content.head[:4]!r}")
        kind = {1: Nifti1Image, 2: nibabel.Nifti2Image, None: nibabel.MGHImage}[version]
        head = content.head[: {1: 348, 2: 540, None: 284}[version]]
        header = kind.header_class(head, check=False)
        try:
            offset, size = measure_voxels(header, name)
        except CohortError:
            content.check()
            raise
        loaded = kind.from_bytes(head)
        if not with_voxels:
            return loaded, None
        found = content.begin(offset + size)
        content.finish(offset + size)
    if len(found) < offset + size:
        raise ValueError(f"Expected {size} bytes, got {max(0, len(found) - offset)} bytes")
    return loaded, kind.ImageArrayProxy(io.BytesIO(found), header)


def _load_pair(path: str | os.PathLike, name: str) -> nibabel.spatialimages.SpatialImage:
    """Returns the image of which a file holds the header or the voxels, and another one the other."""
    check_file(path, name)
    if not re.search(r"\.(hdr|img)(\.gz|\.bz2)?$", os.fspath(path), re.IGNORECASE):
        raise CohortError(
            f"{name}: got another kind of file, expected a name that ends in {', '.join(SUFFIXES)}, .hdr or .img. "
            f"Convert the image, {OR_EXCLUDE}"
        )
    for holder in nibabel.Nifti1Pair.filespec_to_file_map(path).values():
        check_file(holder.filename, name)
        if holder.filename.lower().endswith((".hdr.gz", ".hdr.bz2")):
            check_stream(holder.filename, name, MOST_BEFORE)
    loaded = nibabel.load(path, mmap=False)
    if not isinstance(loaded.header, nibabel.AnalyzeHeader):
        raise ValueError(f"it is a {type(loaded).__name__}")
    measure_voxels(loaded.header, name)
    return loaded


def _packed_files(image: nibabel.spatialimages.SpatialImage) -> list[str]:
    """Returns the files that an image is read from and that have a checksum."""
    names = (holder.filename for holder in image.file_map.values())
    return [name for name in dict.fromkeys(names) if name and is_packed(name) and os.path.isfile(name)]


def is_in_memory(image) -> bool:
    """Whether it is a nibabel image, not the path of one."""
    return isinstance(image, nibabel.spatialimages.SpatialImage)


def path_of(image: ImageLike) -> str | None:
    """Returns the path of the file that an image lies in, or was loaded from; None of an image made in memory."""
    return image.get_filename() if is_in_memory(image) else os.fspath(image)


def name_of(image: ImageLike) -> str:
    """Returns what faults call an image: its path, if it has one."""
    return path_of(image) or "image"


class Grid(NamedTuple):
    """Where the voxels of an image lie, as it is stored.

    Attributes:
        shape: (x, y, z), voxels.
        affine: (4, 4) float64, voxel indices to world coordinates in mm, RAS+.
        space: what the header says of that world.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    space: Space


def read_grid(image: ImageLike) -> Grid:
    """Returns where the voxels of an image lie, without reading them.

    Raises:
        CohortError: see `read_volume`; the voxels are not looked at.
    """
    name = name_of(image)
    with _told(name):
        if not is_in_memory(image):
            is_one_file = os.fspath(image).lower().endswith(SUFFIXES)
            image = _load_file(image, name, with_voxels=False)[0] if is_one_file else _load_pair(image, name)
        return Grid(tuple(map(int, image.shape[:3])), np.asarray(image.affine, dtype=np.float64), space_of(image))


def to_canonical(volume: Volume) -> Volume:
    """Returns `volume` with axes permuted and flipped to be as near RAS+ as possible; no resampling."""
    orientation = nibabel.io_orientation(volume.affine)
    array = nibabel.apply_orientation(volume.array, orientation)
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(orientation, volume.array.shape)
    return dataclasses.replace(volume, array=array, affine=affine)


def from_canonical(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns `array` (x, y, z) of closest canonical (RAS+) axes with the axes of a stored image; no resampling.

    Args:
        array: as `read_volume` returns it.
        affine: (4, 4) of the image as it is stored; see `read_grid`.
    """
    canonical, stored = nibabel.io_orientation(np.eye(4)), nibabel.io_orientation(affine)
    return nibabel.apply_orientation(array, nibabel.orientations.ornt_transform(canonical, stored))


def make_image(array: np.ndarray, affine: np.ndarray, space: Space = SCANNER) -> Nifti1Image:
    """Returns a 3-D (or 4-D, last axis a sequence) `array` as a NIfTI-1 image in memory.

    The header says no more of where the voxels lie than `space` does. It carries `affine` as sform and, where NIfTI can
    (a qform knows no shear), as qform, with the codes of `space`, and the array's own type.

    Args:
        array: (x, y, z) or (x, y, z, step).
        affine: (4, 4) voxel-to-world map in mm, RAS+.
        space: of the image on whose grid the array lies (see `read_grid`); the scanner's by default. Where both codes
            are 0, and `affine` is not what readers of NIfTI assume then, it is written with code 2 (another image's).
    """
    return place(Nifti1Image(np.asarray(array), affine), affine, space)


def make_unplaced(array: np.ndarray, affine: np.ndarray) -> Nifti1Image:
    """Returns `array` as an image whose header says nothing of orientation and place: both codes are 0.

    Its axes are stored as readers of NIfTI assume them of such an image (to the left, to the front, up), so that it
    comes back the right way round; its middle is taken for the origin.

    Args:
        array: (x, y, z) or (x, y, z, step).
        affine: (4, 4) as which the axes are meant; its voxel sizes are kept.
    """
    left_front_up = nibabel.orientations.axcodes2ornt("LAS")
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), left_front_up)
    stored = nibabel.apply_orientation(np.asarray(array), turn)
    zooms = np.array(zooms_of(affine))[np.argsort(turn[:, 0])]
    header = Nifti1Header()
    header.set_data_shape(stored.shape[:3])
    header.set_zooms(zooms)
    return make_image(stored, header.get_base_affine(), NOWHERE)


def array_of(image: Nifti1Image) -> np.ndarray:
    """Returns the voxels of an image of `make_image`, as they were given, not copied."""
    return np.asarray(image.dataobj)


def make_displacement(displacement: np.ndarray, affine: np.ndarray, space: Space = SCANNER) -> Nifti1Image:
    """Returns a displacement field as ITK and ANTs read it.

    For each voxel of the grid of `affine`, where to look in the moving image: NIfTI-1 of five axes (x, y, z, 1, 3) with
    the intent "vector", in mm along the axes of ITK's world (LPS: the first two point the other way than in RAS+).

    Args:
        displacement: (x, y, z, 3) in voxels, along the axes of the array.
        affine: (4, 4) voxel-to-world map in mm, RAS+.
        space: what is known of that world.

    References:
        ANTs, antsApplyTransforms; ITK, DisplacementFieldTransform.
    """
    world = np.asarray(displacement, dtype=np.float64) @ np.asarray(affine)[:3, :3].T
    field = (world * (-1.0, -1.0, 1.0)).astype(np.float32)[:, :, :, None, :]
    image = Nifti1Image(field, affine)
    image.header.set_intent("vector")
    return place(image, affine, space)


def write_volume(path: str | os.PathLike, array: np.ndarray, affine: np.ndarray, space: Space = SCANNER) -> None:
    """Writes the image of `make_image`; see `write_image`."""
    write_image(path, make_image(array, affine, space))


def write_image(path: str | os.PathLike, image: Nifti1Image) -> None:
    """Writes an image as NIfTI-1, whole or not at all.

    The bytes depend on the image only (the gzip header holds no time and no name).
    """
    data = image.to_bytes()
    if os.fspath(path).lower().endswith(".gz"):
        data = gzip.compress(data, compresslevel=4, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
