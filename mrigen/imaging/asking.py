"""What the header of an image asks for, looked at before a voxel is read; nibabel takes it on trust."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import nibabel
import numpy as np

from mrigen.errors import CohortError
from mrigen.imaging.containers import OR_EXCLUDE
from mrigen.imaging.limits import LONGEST_SIDE, MOST_BEFORE, MOST_BYTES, MOST_VOXELS
from mrigen.system.machine import available_memory

CONVERT = f"Convert the image again, {OR_EXCLUDE}"
# Bytes that there always are.
ALWAYS_FITS = 2**28

_is_quiet = contextvars.ContextVar("is_quiet", default=False)
nibabel.imageglobals.logger.addFilter(lambda record: not _is_quiet.get())


@contextlib.contextmanager
def quiet_nibabel() -> Iterator[None]:
    """Keeps nibabel from saying what it mends in a header: what matters of that is a fault, or a doubt."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


def measure_voxels(header, name: str) -> tuple[int, int]:
    """Returns the byte of a file at which the voxels of an image begin, and how many bytes they take.

    Args:
        header: of the kinds of Analyze, NIfTI and MGH, as it is stored (nibabel mends headers).
        name: what faults call the file.

    Raises:
        CohortError: they cannot be what a header may ask for.
    """
    is_mgh = isinstance(header, nibabel.freesurfer.mghformat.MGHHeader)
    if is_mgh:
        shape, code, offset = header["dims"], header["type"], header.get_data_offset()
    else:
        shape, code, offset = header["dim"], header["datatype"], float(header["vox_offset"])
        if not 1 <= shape[0] <= 7:
            raise CohortError(f"{name}: got a header that gives no number of axes (dim[0]), expected 3. {CONVERT}")
        shape = shape[1 : shape[0] + 1]
    try:
        dtype = header.get_data_dtype()
    except (KeyError, nibabel.spatialimages.HeaderDataError):
        dtype = np.dtype("V")
    if dtype.kind == "V" and not dtype.fields:
        raise CohortError(f"{name}: got voxels of the type {int(code)}, expected one number a voxel. {CONVERT}")
    shape = check_shape([int(side) for side in shape], dtype, name)
    if not is_mgh:
        _check_offset(header, offset, name)
        _check_scale(header, name)
    return int(offset), int(np.prod(shape, dtype=object)) * dtype.itemsize


def check_shape(shape: Sequence[int], dtype: np.dtype, name: str) -> tuple[int, ...]:
    """Returns the three sides of an image, without further axes of one voxel.

    Raises:
        CohortError: it is not 3-D, its voxels are no plain numbers, or there are more than anybody needs or memory
            holds.
    """
    shape = tuple(shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise CohortError(
            f"{name}: got a {len(shape)}-D image of shape {shape}, expected one 3-D volume. "
            f"Split the series, {OR_EXCLUDE}"
        )
    if dtype.kind not in "biuf":
        is_complex = dtype.kind == "c"
        what = "colours" if dtype.fields else "complex numbers" if is_complex else str(dtype)
        cure = "Take the magnitude image" if is_complex else "Convert the image again"
        raise CohortError(
            f"{name}: cannot be read as NIfTI (its voxels are {what}), expected one number a voxel. "
            f"{cure}, {OR_EXCLUDE}"
        )
    got = f"{name}: got {' x '.join(map(str, shape))} voxels"
    if min(shape) < 1:
        raise CohortError(f"{got}, expected at least one along each axis. {CONVERT}")
    count = int(np.prod(shape, dtype=object))
    if max(shape) > LONGEST_SIDE or count > MOST_VOXELS:
        raise CohortError(
            f"{got}, expected at most {LONGEST_SIDE} along an axis and {MOST_VOXELS} in all, as many as a head of "
            f"0.3 mm needs. Correct the header, or resample the image, {OR_EXCLUDE}"
        )
    size = count * dtype.itemsize
    if size > MOST_BYTES:
        raise CohortError(
            f"{got} of {dtype.itemsize} bytes each, expected at most {MOST_BYTES} bytes in all. "
            f"Store them as float32 or int16, {OR_EXCLUDE}"
        )
    # As they are stored, as they come of that, and in float32.
    needed = 2 * size + 4 * count
    free = available_memory() if needed > ALWAYS_FITS else None
    if free is not None and needed > free:
        raise CohortError(
            f"{got}, which take about {needed / 1e9:.1f} GB of memory to read, expected at most the "
            f"{free / 1e9:.1f} GB that are free. Free some, {OR_EXCLUDE}"
        )
    return shape


def _check_offset(header, offset: float, name: str) -> None:
    first = header.single_vox_offset if getattr(header, "is_single", False) else 0
    # Written so that what is no number is out of range.
    if not first <= offset <= MOST_BEFORE:
        raise CohortError(
            f"{name}: got voxels from byte {offset:g} on, expected {first} to {MOST_BEFORE} (vox_offset in the "
            f"header). {CONVERT}"
        )


def _check_scale(header, name: str) -> None:
    if "scl_slope" not in header:
        return
    slope = float(header["scl_slope"])
    inter = float(header["scl_inter"]) if "scl_inter" in header else 0.0
    # A slope of 0, or of what is no number, says that there is none.
    if np.isinf(slope) or (np.isfinite(slope) and slope != 0 and not np.isfinite(inter)):
        raise CohortError(
            f"{name}: got the scale factors {slope:g} and {inter:g} (scl_slope, scl_inter in the header), expected "
            f"finite numbers. {CONVERT}"
        )
