"""The bytes in an image's file: unpacked and checked, as many as are asked for, or the name of what lies there
instead."""

import bz2
import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from typing import IO, Any

from mrigen.errors import CohortError
from mrigen.imaging.limits import MOST_BEHIND, MOST_BYTES, MOST_IN_FILE
from mrigen.system.files import NoFile, open_file

OR_EXCLUDE = "or exclude the subject with data.exclude."

# Of a file, what it is told by; and what is read at a time.
HEAD_BYTES, CHUNK_BYTES = 2**13, 2**20

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


class Content:
    """What lies in an image's file, decompressed as far as it is asked for.

    Attributes:
        name: what faults call the file.
        head: the first bytes, at most `HEAD_BYTES`.
    """

    def __init__(self, file: IO, packing: str | None, name: str):
        self.name, self._packing = name, packing
        if packing is None:
            self._stream: Any = file
        else:
            self._stream = gzip.GzipFile(fileobj=file) if packing == "gzip" else bz2.BZ2File(file)
        self.head = self._next(HEAD_BYTES)

    def begin(self, size: int) -> bytes:
        """Returns the first `size` bytes, fewer where there are not as many."""
        if size <= len(self.head):
            return self.head[:size]
        with self._told():
            self._stream.seek(0)
            # A header may promise what is not there: memory is asked for as it is filled.
            return self._stream.read(size)

    def finish(self, expected: int) -> None:
        """Reads a stream to its end, so that its checksum is verified: whatever was lost or changed in it is found.

        Args:
            expected: bytes in all, about.

        Raises:
            CohortError: it is damaged, or holds much more than was expected.
        """
        if self._packing is None:
            return
        while self._next(CHUNK_BYTES):
            if self._stream.tell() > expected + MOST_BEHIND:
                raise CohortError(
                    f"{self.name}: got more than {MOST_BEHIND} bytes behind the image, expected its end. "
                    f"Convert the image again, {OR_EXCLUDE}"
                )

    def check(self) -> None:
        """Reads a stream on for a while: where it is damaged, that is what is wrong with its header, too.

        Raises:
            CohortError: it is damaged.
        """
        with self._told():
            for _ in range(MOST_BEHIND // CHUNK_BYTES):
                if self._packing is None or not self._stream.read(CHUNK_BYTES):
                    return

    def _next(self, size: int) -> bytes:
        with self._told():
            return self._stream.read(size)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        # EOFError and ValueError: it ends too early.
        except (EOFError, OSError, ValueError, zlib.error) as error:
            if self._packing is None:
                raise CohortError(_unreadable(self.name, error)) from None
            raise CohortError(
                f"{self.name}: truncated or damaged {self._packing} stream ({one_line(error)}), expected a whole one. "
                f"Restore the file, {OR_EXCLUDE}"
            ) from None


@contextlib.contextmanager
def open_content(path: str | os.PathLike, name: str | None = None) -> Iterator[Content]:
    """Yields what lies in an image's file, by whose beginning it may be one.

    Args:
        path: the file; gzip where its name ends in .gz or .mgz, bzip2 where it ends in .bz2, plain otherwise.
        name: what faults call it; the path by default.

    Raises:
        CohortError: it is missing, cannot be read, is damaged, or holds something else. One line names file and fault.
    """
    name = os.fspath(path) if name is None else name
    with _open(path, name) as file:
        plain = Content(file, None, name)
        _refuse_others(plain.head, name)
        packing, named = _packing_of(plain.head), _packing_named(path)
        if packing != named and (packing or is_image(plain.head)):
            raise CohortError(
                f"{name}: got {_described(packing)} under the name of {_described(named)}, expected what the name "
                f"says. Rename it to {_right_name(path, packing)}, {OR_EXCLUDE}"
            )
        if named is None:
            yield plain
            return
        file.seek(0)
        content = Content(file, named, name)
        _refuse_others(content.head, name)
        if _packing_of(content.head):
            raise CohortError(
                f"{name}: got a stream that was compressed twice, expected once. "
                f"Decompress it once ({'gunzip' if named == 'gzip' else 'bunzip2'}), {OR_EXCLUDE}"
            )
        yield content


def check_stream(path: str | os.PathLike, name: str, most: int = MOST_BYTES) -> None:
    """Reads the stream in a packed file to its end, so that its checksum is verified.

    Raises:
        CohortError: it is damaged, or holds more than `most` bytes (and some).
    """
    with _open(path, name) as file:
        Content(file, _packing_named(path), name).finish(most)


def check_file(path: str | os.PathLike, name: str | None = None) -> None:
    """Refuses what is no file, or far too large for an image, without reading it.

    Raises:
        CohortError: see `open_content`.
    """
    with _open(path, os.fspath(path) if name is None else name):
        pass


def _open(path: str | os.PathLike, name: str) -> IO:
    try:
        file = open_file(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise CohortError(
                f"{name}: got a link to a missing file, expected an image. {_FETCH} (datalad get, git annex get), "
                f"{OR_EXCLUDE}"
            ) from None
        raise CohortError(f"{name}: no such file. Restore it, {OR_EXCLUDE}") from None
    except NoFile as error:
        raise CohortError(f"{name}: got {error.what}, expected a file. Put the image there, {OR_EXCLUDE}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a byte that is 0.
        raise CohortError(_unreadable(name, error)) from None
    size = os.fstat(file.fileno()).st_size
    if size > MOST_IN_FILE:
        file.close()
        raise CohortError(
            f"{name}: got a file of {size} bytes, expected an image of at most {MOST_IN_FILE}. "
            f"Convert the image again, {OR_EXCLUDE}"
        )
    return file


def _unreadable(name: str, error: Exception) -> str:
    return f"{name}: cannot be read as NIfTI ({one_line(error)}). Restore the file, {OR_EXCLUDE}"


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
    if not any(content):
        return "a file of zero bytes" + (
            " to begin with" if len(content) == HEAD_BYTES else " alone"
        ), "Restore the file"
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
