"""What the header of an image says of where its voxels lie, what it leaves open, and how as much is written again."""

import dataclasses
from collections.abc import Collection

import nibabel
import numpy as np
from nibabel import Nifti1Header, Nifti1Image
from nibabel.affines import voxel_sizes

# What a header may leave open; see `mrigen.imaging.volumes.Volume`.
ORIENTATION = "orientation"
IDENTITY = "identity"
ORIGIN = "origin"
ZOOMS = "zooms"
UNITS = "units"
SHEAR = "shear"
FORMS = "forms"
# Which way the axes run is then a guess.
UNORIENTED = frozenset({ORIENTATION, IDENTITY})
# How far from a right angle the axes of an affine may be, as a cosine.
RIGHT_ANGLE_TOLERANCE = 1e-3
# How far two voxel sizes in one header may be apart, as a fraction.
ZOOM_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Space:
    """What a NIfTI header says of the world in which its voxels lie.

    Attributes:
        sform_code, qform_code: what the two maps lead to: 0 nowhere that is known (the map is not there), 1 the
            scanner's coordinates, 2 those of another image, 3 Talairach's, 4 MNI's.
        qform: (4, 4) float64, where it is another map than the image's affine, which is the sform then; or None.
        units: of lengths: "mm", "unknown", "meter" or "micron".
    """

    sform_code: int = 1
    qform_code: int = 1
    qform: np.ndarray | None = None
    units: str = "mm"


SCANNER = Space()
# Where nothing is known: NIfTI then has no place for an affine.
NOWHERE = Space(sform_code=0, qform_code=0)
# Where a map is known, and not what it leads to.
ALIGNED = Space(sform_code=2, qform_code=0)


def doubts_of(image: nibabel.spatialimages.SpatialImage) -> tuple[str, ...]:
    """Returns what the header of an image leaves open; see `mrigen.imaging.volumes.Volume`."""
    if image.affine is None or not np.isfinite(image.affine).all():
        return ()
    affine, space, found = np.asarray(image.affine, dtype=np.float64), space_of(image), []
    if space.sform_code == 0 and space.qform_code == 0:
        found.append(ORIENTATION)
    elif _is_unplaced(affine):
        found.append(IDENTITY if np.allclose(voxel_sizes(affine), 1.0, rtol=1e-6) else ORIGIN)
    if isinstance(image, nibabel.MGHImage):
        if not _is_good_mgh(image):
            found.append(ZOOMS)
    elif isinstance(image.header, nibabel.AnalyzeHeader):  # NIfTI, too.
        zooms = _stored_zooms(image)
        has_zooms = bool(np.isfinite(zooms).all() and (zooms > 0).all())
        if space.sform_code == 0 and not has_zooms:
            found.append(ZOOMS)
        if space.units != "mm":
            found.append(UNITS)
        is_other_size = space.sform_code and has_zooms and not np.allclose(zooms, voxel_sizes(affine), ZOOM_TOLERANCE)
        if is_other_size or (space.qform is not None and not _is_same_way(space.qform, affine)):
            found.append(FORMS)
    if has_shear(affine):
        found.append(SHEAR)
    return tuple(found)


def _stored_bytes(image: nibabel.spatialimages.SpatialImage, count: int) -> bytes:
    """Returns the first bytes of the file with an image's header; none of an image that was never in a file. nibabel
    mends headers when it reads them: what they really say stands there alone."""
    try:
        with (image.file_map.get("header") or image.file_map["image"]).get_prepare_fileobj("rb") as file:
            file.seek(0)
            return file.read(count)
    except (KeyError, EOFError, OSError, nibabel.fileholders.FileHolderError):
        return b""


def _stored_zooms(image: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    """Returns the voxel size (3,) that a header of the kinds of Analyze and NIfTI gives, also where it is none."""
    header = image.header
    content = _stored_bytes(image, header.sizeof_hdr)
    if len(content) == header.sizeof_hdr:
        header = type(header)(content, check=False)
    return np.array(header["pixdim"][1:4], dtype=np.float64)


def _is_good_mgh(image: nibabel.MGHImage) -> bool:
    """Whether an MGH header says where the image lies (its goodRASFlag); nibabel assumes something where not."""
    content = _stored_bytes(image, 30)
    return len(content) < 30 or any(content[28:30])


def _is_unplaced(affine: np.ndarray) -> bool:
    """Whether an affine is what stands for none: axes along those of the world, from its origin on."""
    return not affine[:3, 3].any() and (affine[:3, :3] != 0).sum() == 3


def _is_same_way(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the array axes of two affines run the same way, as near as the world's axes tell."""
    try:
        return np.array_equal(nibabel.io_orientation(first), nibabel.io_orientation(second))
    except (np.linalg.LinAlgError, nibabel.orientations.OrientationError):
        return True


def has_shear(affine: np.ndarray) -> bool:
    """Whether the axes of an affine (4, 4) are not at right angles: a qform cannot say so.

    Example:
        >>> has_shear(np.diag([2.0, 3.0, 4.0, 1.0])), has_shear(np.array(np.eye(4) + np.eye(4, k=1) * 0.1))
        (False, True)
    """
    directions = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(directions, axis=0)
    if not lengths.all():
        return False
    cosines = (directions / lengths).T @ (directions / lengths) - np.eye(3)
    return bool(np.abs(cosines).max() > RIGHT_ANGLE_TOLERANCE)


def has_orientation(doubts: Collection[str]) -> bool:
    """Whether the header of an image said which way its axes run.

    Example:
        >>> has_orientation(("units",)), has_orientation(("orientation", "units"))
        (True, False)
    """
    return UNORIENTED.isdisjoint(doubts)


def space_of(image: nibabel.spatialimages.SpatialImage) -> Space:
    """Returns what the header of an image says of the world in which its voxels lie."""
    header = image.header
    if isinstance(header, Nifti1Header):
        sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
        qform = None
        if sform_code and qform_code:
            try:
                qform = header.get_qform()
            except (nibabel.spatialimages.HeaderDataError, ValueError):  # It is no rotation: as good as not there.
                qform_code = 0
        if qform is not None and np.allclose(qform, image.affine, atol=1e-3):
            qform = None
        return Space(sform_code, qform_code, qform, _units_of(header))
    if isinstance(header, nibabel.AnalyzeHeader) and np.allclose(header.get_best_affine(), image.affine):
        return dataclasses.replace(NOWHERE, units="unknown")  # Unless a .mat file beside it says more.
    if isinstance(image, nibabel.MGHImage) and not _is_good_mgh(image):
        return NOWHERE
    return SCANNER


def _units_of(header: Nifti1Header) -> str:
    try:
        return header.get_xyzt_units()[0]
    except KeyError:  # A code that there is not.
        return "unknown"


def place(image: Nifti1Image, affine: np.ndarray, space: Space) -> Nifti1Image:
    """Returns the image with a header that says what `space` does; see `mrigen.imaging.volumes.make_image`."""
    header = image.header
    header.set_xyzt_units(space.units, "sec")
    qform_code = 0 if has_shear(affine) else space.qform_code
    sform_code = space.sform_code or (ALIGNED.sform_code if space.qform_code and not qform_code else 0)
    if not (sform_code or qform_code):
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        if np.allclose(image.affine, affine, atol=1e-3):
            for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
                header[name] = 0
            for name in ("srow_x", "srow_y", "srow_z"):
                header[name] = 0
            return image
        sform_code = ALIGNED.sform_code
    # Also without a code: it sets the voxel size.
    image.set_qform(affine if space.qform is None or not qform_code else space.qform, code=qform_code)
    image.set_sform(affine if sform_code else None, code=sform_code)
    return image
