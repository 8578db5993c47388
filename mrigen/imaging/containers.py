"""The bytes in an image's file: unpacked to their end and checked, or the name of what lies there instead."""

import bz2
import gzip
import os
import re
import zlib
from pathlib import Path

from mrigen.errors import CohortError

OR_EXCLUDE = "or exclude the subject with data.exclude."

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
# The two packings, by what a file begins with, and what the names of packed files end in.
_PACKINGS = {"gzip": (_GZIP, (".gz", ".mgz")), "bzip2": (_BZIP2, (".bz2",))}
_ANNEX = re.compile(rb"[^\n]{0,4096}[/\\]annex[/\\]objects[/\\]")
_FETCH = "Fetch the content"
_DOWNLOAD = "Download the file again (a server that asks for a login sends such a page)"
# Where in a file, what is there, what it is, and what to do.
_OTHERS = (
    (0, b"version https://git-lfs.github.com/", "a pointer of Git LFS", f"{_FETCH} (git lfs pull)"),
    (0, b"PK\x03\x04", "a zip archive", "Unpack it"),
    (257, b"ustar", "a tar archive", "Unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it"),
    (0, b"\xfd7zXZ", "an xz stream", "Unpack it, and compress it with gzip"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard stream", "Unpack it, and compress it with gzip"),
    (128, b"DICM", "a DICOM file", "Convert the series to NIfTI (dcm2niix)"),
    (0, b"\x89HDF", "an HDF5 file (MINC 2, MATLAB)", "Convert it to NIfTI"),
    (0, b"NRRD", "an NRRD file", "Convert it to NIfTI"),
    (0, b"\x89PNG", "a PNG picture", "Take the NIfTI file that it was made from"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "Take the NIfTI file that it was made from"),
)


def unpack(path: str | os.PathLike, name: str | None = None) -> bytes:
    """Returns the bytes in an image's file, decompressed.

    A stream is read to its end, so that its checksum is verified: whatever was lost or changed in it is found.

    Args:
        path: the file; gzip where its name ends in .gz or .mgz, bzip2 where it ends in .bz2, plain otherwise.
        name: what faults call it; the path by default.

    Raises:
        CohortError: it is missing, cannot be read, is damaged, or holds something else. One line names file and fault.
    """
    name = os.fspath(path) if name is None else name
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        if os.path.islink(path):
            raise CohortError(
                f"{name}: got a link to a missing file, expected an image. {_FETCH} (datalad get, git annex get), "
                f"{OR_EXCLUDE}"
            ) from None
        raise CohortError(f"{name}: no such file. Restore it, {OR_EXCLUDE}") from None
    except OSError as error:
        raise CohortError(
            f"{name}: cannot be read as NIfTI ({one_line(error)}). Restore the file, {OR_EXCLUDE}"
        ) from None
    _refuse_others(content, name)
    packing, named = _packing_of(content), _packing_named(path)
    if packing != named and (packing or is_image(content)):
        raise CohortError(
            f"{name}: got {_described(packing)} under the name of {_described(named)}, expected what the name says. "
            f"Rename it to {_right_name(path, packing)}, {OR_EXCLUDE}"
        )
    if named is None:
        return content
    try:
        content = gzip.decompress(content) if named == "gzip" else bz2.decompress(content)
    # EOFError and ValueError: it ends too early.
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise CohortError(
            f"{name}: truncated or damaged {named} stream ({one_line(error)}), expected a whole one. "
            f"Restore the file, {OR_EXCLUDE}"
        ) from None
    _refuse_others(content, name)
    if _packing_of(content):
        raise CohortError(
            f"{name}: got a stream that was compressed twice, expected once. "
            f"Decompress it once ({'gunzip' if named == 'gzip' else 'bunzip2'}), {OR_EXCLUDE}"
        )
    return content


def is_image(content: bytes) -> bool:
    """Whether bytes begin as NIfTI in one file, or MGH, does."""
    return nifti_version(content) is not None or is_mgh(content)


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a file's name says that it is compressed.

    Example:
        >>> is_packed("a.NII.GZ"), is_packed("a.mgz"), is_packed("a.nii")
        (True, True, False)
    """
    return _packing_named(path) is not None


def nifti_version(content: bytes) -> int | None:
    """Returns 1 or 2 where bytes begin as NIfTI of that version in one file, or None."""
    size = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    if 348 in size and content[344:348] == b"n+1\0":
        return 1
    if 540 in size and content[4:8] == b"n+2\0":
        return 2
    return None


def is_mgh(content: bytes) -> bool:
    """Whether bytes begin as an MGH image (FreeSurfer) does."""
    return content[:4] == b"\0\0\0\1" and len(content) >= 284


def one_line(error: Exception) -> str:
    """Returns what an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _refuse_others(content: bytes, name: str) -> None:
    found = _what_instead(content)
    if found:
        what, cure = found
        raise CohortError(f"{name}: got {what}, expected an image. {cure}, {OR_EXCLUDE}")


def _what_instead(content: bytes) -> tuple[str, str] | None:
    """Returns what lies in a file that is no image, and what to do; None where it may be one."""
    if not content:
        return "an empty file", "Restore the file"
    if is_image(content):
        return None
    for start, magic, what, cure in _OTHERS:
        if content.startswith(magic, start):
            return what, cure
    if _ANNEX.match(content):
        return "a pointer of git-annex", f"{_FETCH} (datalad get, git annex get)"
    beginning = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (HTML)", _DOWNLOAD
    if beginning.startswith(b"<?xml"):
        return "an XML document", _DOWNLOAD
    if not any(content[:65536]) and not any(content):
        return "a file of zero bytes alone", "Restore the file"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in content[:1024]) and _is_text(content[:1024]):
        return f"text ('{_beginning(content)}')", "Restore the file"
    return None


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(content) - 4  # A letter that was cut.
    return True


def _beginning(content: bytes) -> str:
    """Returns the beginning of a text, in one line."""
    return " ".join(content[:200].decode("utf-8", "replace").split())[:40]


def _packing_of(content: bytes) -> str | None:
    return next((packing for packing, (magic, _) in _PACKINGS.items() if content.startswith(magic)), None)


def _packing_named(path: str | os.PathLike) -> str | None:
    name = os.fspath(path).lower()
    return next((packing for packing, (_, endings) in _PACKINGS.items() if name.endswith(endings)), None)


def _described(packing: str | None) -> str:
    return f"a {packing} stream" if packing else "an image that is not compressed"


def _right_name(path: str | os.PathLike, packing: str | None) -> str:
    """Returns the name that the file should have, by how it is packed.

    Example:
        >>> _right_name("a.nii", "gzip"), _right_name("a.nii.gz", None), _right_name("a.mgz", None)
        ('a.nii.gz', 'a.nii', 'a.mgh')
    """
    base = os.path.basename(path)
    stem, ending = os.path.splitext(base)
    if ending.lower() in (".mgz", ".mgh"):
        return f"{stem}.mgz" if packing == "gzip" else f"{stem}.mgh" + {"bzip2": ".bz2"}.get(packing or "", "")
    if ending.lower() in (".gz", ".bz2"):
        base = stem
    return base + {"gzip": ".gz", "bzip2": ".bz2"}.get(packing or "", "")
