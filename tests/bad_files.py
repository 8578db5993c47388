"""Bad files by kind: what builds each, and the one line that it is answered with.

A kind is small and quick to build, whatever it promises. `line` is a regular expression of the whole fault behind the
path of the file, which every fault begins with.
"""

import bz2
import dataclasses
import gzip
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

EXCLUDE = r" .*or exclude the subject with data\.exclude\."
AFFINE = np.diag([9.0, 9.0, 9.0, 1.0])
SHAPE = (9, 10, 11)
# Offsets into a header of NIfTI-1, and the type of what is there.
FIELDS = {
    "sizeof_hdr": (0, "<i4"), "dim": (40, "<i2"), "datatype": (70, "<i2"), "bitpix": (72, "<i2"), "pixdim": (76, "<f4"),
    "vox_offset": (108, "<f4"), "scl_slope": (112, "<f4"), "scl_inter": (116, "<f4"), "quatern": (256, "<f4"),
    "qform_code": (252, "<i2"), "sform_code": (254, "<i2"), "srow": (280, "<f4"), "magic": (344, "S4"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BadFile:
    """A kind of bad file.

    Attributes:
        kind: its name.
        file: a name that such a file has.
        build: what makes it at a path.
        line: of its fault, behind the path and a colon; a regular expression.
    """

    kind: str
    file: str
    build: Callable[[Path], object]
    line: str


def make_array(shape=SHAPE, dtype=np.int16) -> np.ndarray:
    """Returns an image that could be one: not constant, and always the same."""
    return np.random.default_rng(0).integers(0, 900, shape).astype(dtype)


def nifti(array: np.ndarray | None = None, **fields) -> bytes:
    """Returns the bytes of a NIfTI-1 image; `fields` of its header (see `FIELDS`) are written over what is there."""
    content = bytearray(nibabel.Nifti1Image(make_array() if array is None else array, AFFINE).to_bytes())
    for name, value in fields.items():
        start, kind = FIELDS[name]
        stored = np.atleast_1d(np.array(value)).astype(kind).tobytes()
        content[start : start + len(stored)] = stored
    return bytes(content)


def nifti_2(offset: int, kind: str, value) -> bytes:
    """Returns the bytes of a NIfTI-2 image with something else at a place of its header."""
    content = bytearray(nibabel.Nifti2Image(make_array(), AFFINE).to_bytes())
    stored = np.atleast_1d(np.array(value)).astype(kind).tobytes()
    content[offset : offset + len(stored)] = stored
    return bytes(content)


def pair(**fields) -> tuple[bytes, bytes]:
    """Returns the bytes of a header and of its voxels; see `nifti`."""
    content = nifti(**{"magic": b"ni1", "vox_offset": 0, **fields})
    return content[:352], content[352:]


def mgh(offset: int | None = None, value: int | list[int] = 0, kind: str = ">i4") -> bytes:
    """Returns the bytes of an MGH image, or of one with something else at a place of its header."""
    content = bytearray(nibabel.MGHImage(make_array(dtype=np.float32), AFFINE).to_bytes())
    if offset is not None:
        stored = np.atleast_1d(np.array(value)).astype(kind).tobytes()
        content[offset : offset + len(stored)] = stored
    return bytes(content)


def with_extension(size: int, flag: int = 1) -> bytes:
    """Returns the bytes of an image whose extension says that it has `size` bytes."""
    content = nifti(vox_offset=368)
    extension = bytes([flag, 0, 0, 0]) + np.array([size, 6], "<i4").tobytes() + b"comment\0"
    return content[:348] + extension + content[352:]


def bomb(image: bytes, size: int) -> bytes:
    """Returns a gzip stream that holds an image and `size` bytes more, all zero: a thousandth of that."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=6, mtime=0) as file:
        file.write(image)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return stream.getvalue()


def _written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _packed(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(gzip.compress(content, 1, mtime=0))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # The path of a socket has at most some 100 bytes.
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: os.symlink(target, path)


def _loop(path: Path) -> None:
    os.symlink(path.name, path)


def _pair(header: Callable[[Path], object], voxels: Callable[[Path], object]) -> Callable[[Path], object]:
    def build(path: Path) -> None:
        header(path.with_suffix(".hdr"))
        voxels(path.with_suffix(".img"))

    return build


def _dims(*sides: int) -> list[int]:
    return [len(sides), *sides]


ONE_NUMBER = r"expected an image of one number a voxel\." + EXCLUDE
TOO_LARGE = r"expected at most 2048 along an axis and 536870912 in all, .*" + EXCLUDE
NO_FILE = r"expected a file\." + EXCLUDE
INFINITE = r"expected (a finite number|finite numbers|a map from voxels to mm)\." + EXCLUDE
LARGE = nifti(dim=_dims(32767, 32767, 32767))

# What a header may say.
HEADERS = (
    BadFile("sides of 32767", "a.nii", _written(LARGE), f"got 32767 x 32767 x 32767 voxels, {TOO_LARGE}"),
    BadFile("sides of 32767, packed", "a.nii.gz", _packed(LARGE), f"got 32767 x 32767 x 32767 voxels, {TOO_LARGE}"),
    BadFile(
        "sides of 1000",
        "a.nii.gz",
        _packed(nifti(dim=_dims(1000, 1000, 1000))),
        f"got 1000 x 1000 x 1000 .*{TOO_LARGE}",
    ),
    BadFile("one side of 30000", "a.nii", _written(nifti(dim=_dims(30000, 1, 1))), f"got 30000 x 1 x 1 .*{TOO_LARGE}"),
    BadFile(
        "four bytes and more a voxel",
        "a.nii",
        _written(nifti(dim=_dims(800, 800, 800), datatype=64, bitpix=64)),
        r"got 800 x 800 x 800 voxels of 8 bytes each, expected at most 2147483648 bytes in all\." + EXCLUDE,
    ),
    BadFile(
        "a negative side",
        "a.nii",
        _written(nifti(dim=_dims(9, -10, 11))),
        r"got 9 x -10 x 11 voxels, expected at least one along each axis\." + EXCLUDE,
    ),
    BadFile(
        "a side of nothing",
        "a.nii",
        _written(nifti(dim=_dims(9, 0, 11))),
        r"got 9 x 0 x 11 voxels, expected at least one along each axis\." + EXCLUDE,
    ),
    BadFile(
        "seven axes",
        "a.nii",
        _written(nifti(dim=_dims(3, 3, 2, 2, 2, 2, 2))),
        r"got a 7-D image of shape \(3, 3, 2, 2, 2, 2, 2\), expected one 3-D volume\. Split the series," + EXCLUDE,
    ),
    BadFile(
        "seven long axes",
        "a.nii",
        _written(nifti(dim=_dims(*[32767] * 7))),
        r"got a 7-D image of shape \(32767, .*\), expected one 3-D volume\." + EXCLUDE,
    ),
    BadFile(
        "two axes",
        "a.nii",
        _written(nifti(dim=_dims(9, 110))),
        r"got a 2-D image of shape \(9, 110\), expected one 3-D volume\." + EXCLUDE,
    ),
    BadFile(
        "a number of axes that cannot be",
        "a.nii",
        _written(nifti(dim=[-3, 9, 10, 11])),
        r"got a header that gives no number of axes \(dim\[0\]\), expected 3\." + EXCLUDE,
    ),
    BadFile(
        "a series",
        "a.nii",
        _written(nifti(dim=_dims(9, 10, 1, 11))),
        r"got a 4-D image of shape \(9, 10, 1, 11\), expected one 3-D volume\." + EXCLUDE,
    ),
    *(
        BadFile(
            f"vox_offset {value}",
            "a.nii",
            _written(nifti(vox_offset=value)),
            rf"got voxels from byte {shown} on, expected 352 to 67108864 .*" + EXCLUDE,
        )
        for value, shown in ((np.inf, "inf"), (np.nan, "nan"), (-352, "-352"), (16, "16"), (3e9, "3e\\+09"))
    ),
    *(
        BadFile(
            f"{name} {value}",
            "a.nii",
            _written(nifti(**{name: value, **more})),
            rf"got the scale factors {shown} \(scl_slope.*\), {INFINITE}",
        )
        for name, value, more, shown in (
            ("scl_slope", np.inf, {}, "inf and .*"),
            ("scl_slope", -np.inf, {}, "-inf and .*"),
            ("scl_inter", np.inf, {"scl_slope": 2}, "2 and inf"),
            ("scl_inter", np.nan, {"scl_slope": 2}, "2 and nan"),
        )
    ),
    BadFile(
        "scale factors that leave no number",
        "a.nii",
        _written(nifti(scl_slope=3e38, scl_inter=0)),
        r"got \d+ of 990 voxels that are not finite, expected none\." + EXCLUDE,
    ),
    *(
        BadFile(
            f"pixdim {value}",
            "a.nii",
            _written(nifti(pixdim=[1, value, 9, 9], sform_code=0, qform_code=1)),
            rf"got .*(affine|not finite|singular).*, {INFINITE}",
        )
        for value in (np.inf, np.nan)
    ),
    *(
        BadFile(
            f"affine {value}",
            "a.nii",
            _written(nifti(srow=[value, 0, 0, 0], sform_code=1)),
            rf"got an affine .*not finite.*, {INFINITE}",
        )
        for value in (np.inf, np.nan)
    ),
    BadFile("a singular affine", "a.nii", _written(nifti(srow=[0] * 12, sform_code=1)), r"got an affine .*" + EXCLUDE),
    BadFile(
        "a rotation that is none",
        "a.nii",
        _written(nifti(quatern=[1, 1, 1], sform_code=0, qform_code=1)),
        r"cannot be read as NIfTI \(.*\)\." + EXCLUDE,
    ),
    *(
        BadFile(
            f"voxels of {what}",
            "a.nii",
            _written(nifti(datatype=code, bitpix=bits)),
            rf"cannot be read as NIfTI \(its voxels are {what}\), expected one number a voxel\." + EXCLUDE,
        )
        for what, code, bits in (("colours", 128, 24), ("colours", 2304, 32), ("complex numbers", 32, 64))
    ),
    *(
        BadFile(
            f"datatype {code}",
            "a.nii",
            _written(nifti(datatype=code)),
            rf"got voxels of the type {code}, expected one number a voxel\." + EXCLUDE,
        )
        for code in (0, 1, 777, -4)
    ),
    BadFile(
        "a wrong magic", "a.nii", _written(nifti(magic=b"n+9")), r"cannot be read as NIfTI \(it begins .*" + EXCLUDE
    ),
    BadFile("the magic of a pair", "a.nii", _written(nifti(magic=b"ni1")), r"cannot be read as NIfTI .*" + EXCLUDE),
    BadFile(
        "a wrong size of the header", "a.nii", _written(nifti(sizeof_hdr=347)), r"cannot be read as NIfTI .*" + EXCLUDE
    ),
    *(
        BadFile(f"a header cut at {size}", name, build(nifti()[:size]), r"cannot be read as NIfTI .*" + EXCLUDE)
        for size in (3, 100, 347)
        for name, build in (("a.nii", _written), ("a.nii.gz", _packed))
    ),
    BadFile(
        "a header alone", "a.nii", _written(nifti()[:352]), r"cannot be read .*Expected 1980 bytes, got 0 .*" + EXCLUDE
    ),
    BadFile("voxels that end early", "a.nii", _written(nifti()[:-7]), r"cannot be read .*got 1973 bytes.*" + EXCLUDE),
    BadFile("voxels that end early, packed", "a.nii.gz", _packed(nifti()[:-7]), r".*got 1973 bytes.*" + EXCLUDE),
    BadFile(
        "NIfTI-2, a long side",
        "a.nii",
        _written(nifti_2(16, "<i8", [3, 2**62, 2, 2])),
        f"got 4611686.* voxels, {TOO_LARGE}",
    ),
    BadFile(
        "NIfTI-2, a far offset",
        "a.nii",
        _written(nifti_2(168, "<i8", 2**60)),
        r"got voxels from byte 1\.15292e\+18 on, expected 544 to 67108864 .*" + EXCLUDE,
    ),
)

# The same of FreeSurfer's format.
MGH = (
    BadFile(
        "MGH, sides of 32767", "a.mgz", _packed(mgh(4, [32767] * 3)), f"got 32767 x 32767 x 32767 voxels, {TOO_LARGE}"
    ),
    BadFile("MGH, a negative side", "a.mgh", _written(mgh(4, [9, -10, 11])), r"got 9 x -10 x 11 voxels, .*" + EXCLUDE),
    BadFile("MGH, no side", "a.mgh", _written(mgh(4, [0, 0, 0])), r"got 0 x 0 x 0 voxels, .*" + EXCLUDE),
    BadFile("MGH, a wrong version", "a.mgh", _written(mgh(0, 77)), r"cannot be read as NIfTI .*" + EXCLUDE),
    BadFile("MGH, a wrong type", "a.mgh", _written(mgh(20, 99)), r"got voxels of the type 99, .*" + EXCLUDE),
    BadFile("MGH, a series", "a.mgh", _written(mgh(16, 11)), r"got a 4-D image of .*" + EXCLUDE),
    BadFile("MGH, infinite voxels", "a.mgh", _written(mgh(30, np.inf, ">f4")), r"got .*not finite.*" + EXCLUDE),
    BadFile("MGH, a header alone", "a.mgh", _written(mgh()[:284]), r"cannot be read .*got 0 bytes.*" + EXCLUDE),
    BadFile("MGH, a header cut", "a.mgh", _written(mgh()[:200]), r"cannot be read as NIfTI .*" + EXCLUDE),
    BadFile(
        "MGH, voxels that end early", "a.mgz", _packed(mgh()[:1000]), r"cannot be read .*got 716 bytes.*" + EXCLUDE
    ),
)

# Streams, and what lies in a file instead.
STREAMS = (
    BadFile(
        "a bomb behind the voxels",
        "a.nii.gz",
        lambda path: path.write_bytes(bomb(nifti(), 2**26 + 2**21)),
        r"got more than 67108864 bytes behind the image, expected its end\." + EXCLUDE,
    ),
    BadFile(
        "a bomb of zeros",
        "a.nii.gz",
        lambda path: path.write_bytes(bomb(b"", 2**24)),
        r"got a file of zero bytes to begin with, expected an image\." + EXCLUDE,
    ),
    BadFile(
        "a damaged stream",
        "a.nii.gz",
        lambda path: path.write_bytes(gzip.compress(nifti(), mtime=0)[:-6] + b"\1\2\3\4\5\6"),
        r"truncated or damaged gzip stream \(.*\), expected a whole one\." + EXCLUDE,
    ),
    BadFile(
        "a stream that ends early",
        "a.nii.gz",
        lambda path: path.write_bytes(gzip.compress(nifti())[:500]),
        r"truncated or damaged gzip stream \(.*\), expected a whole one\." + EXCLUDE,
    ),
    BadFile(
        "a bzip2 stream that ends early",
        "a.nii.bz2",
        lambda path: path.write_bytes(bz2.compress(nifti())[:500]),
        r"truncated or damaged bzip2 stream \(.*\), expected a whole one\." + EXCLUDE,
    ),
    BadFile(
        "no stream",
        "a.nii.gz",
        _written(nifti()),
        r"got an image that is not compressed .*Rename it to a\.nii," + EXCLUDE,
    ),
    BadFile(
        "compressed twice",
        "a.nii.gz",
        _packed(gzip.compress(nifti())),
        r"got a stream that was compressed twice, .*" + EXCLUDE,
    ),
    BadFile("empty", "a.nii", _written(b""), r"got an empty file, expected an image\." + EXCLUDE),
    BadFile("an empty stream", "a.nii.gz", _packed(b""), r"got an empty file, expected an image\." + EXCLUDE),
    BadFile(
        "text",
        "a.nii",
        _written(b"not yet uploaded\n"),
        r"got text \('not yet uploaded'\), expected an image\." + EXCLUDE,
    ),
    BadFile("a web page", "a.nii.gz", _written(b"<html><body>Log in"), r"got a web page \(HTML\), .*" + EXCLUDE),
)

# Extensions of a header are not read: whatever they say of themselves, the image is as good as without.
GOOD_EXTENSIONS = {
    f"an extension of {size} bytes": with_extension(size) for size in (0, 8, -16, 2**31 - 1, -(2**31), 1000)
}

# What is no file.
PLACES = (
    BadFile("a named pipe", "a.nii.gz", _fifo, f"got a named pipe, {NO_FILE}"),
    BadFile("a socket", "a.nii.gz", _socket, f"got a socket, {NO_FILE}"),
    BadFile("a folder", "a.nii.gz", Path.mkdir, f"got a folder, {NO_FILE}"),
    BadFile("a device", "a.nii.gz", _link("/dev/zero"), f"got a device, {NO_FILE}"),
    BadFile(
        "a link to nothing",
        "a.nii.gz",
        _link("nowhere"),
        r"got a link to a missing file, expected an image\." + EXCLUDE,
    ),
    BadFile("a link to itself", "a.nii.gz", _loop, f"got a link that leads to itself, {NO_FILE}"),
    BadFile(
        "a link to a pipe",
        "a.nii",
        lambda path: (_fifo(path.with_name("pipe")), _link("pipe")(path)),
        f"got a named pipe, {NO_FILE}",
    ),
)

IMAGES = (*HEADERS, *MGH, *STREAMS, *PLACES)


# A header in one file and voxels in another; `file` is the one that is named.
PAIRS = (
    BadFile("a pair without a header", "a.img", _written(pair()[1]), r"no such file\." + EXCLUDE),
    BadFile("a pair without voxels", "a.hdr", _written(pair()[0]), r"no such file\." + EXCLUDE),
    BadFile(
        "a pair of which one is a pipe", "a.img", _pair(_fifo, _written(pair()[1])), f"got a named pipe, {NO_FILE}"
    ),
    BadFile("a pair of which the other is", "a.img", _pair(_written(pair()[0]), _fifo), f"got a named pipe, {NO_FILE}"),
    BadFile(
        "a pair, sides of 32767",
        "a.img",
        _pair(_written(pair(dim=_dims(32767, 32767, 32767))[0]), _written(pair()[1])),
        f"got 32767 x 32767 x 32767 voxels, {TOO_LARGE}",
    ),
    BadFile(
        "a pair, an infinite offset",
        "a.img",
        _pair(_written(pair(vox_offset=np.inf)[0]), _written(pair()[1])),
        r"(got voxels from byte inf|cannot be read as NIfTI) .*" + EXCLUDE,
    ),
    BadFile(
        "a pair, voxels that end early",
        "a.img",
        _pair(_written(pair()[0]), _written(pair()[1][:-9])),
        r"cannot be read as NIfTI \(Expected 1980 bytes, got 1971 bytes.*" + EXCLUDE,
    ),
    BadFile("another kind of file", "a.gii", _written(b"<xml/>"), r"got another kind of file, expected .*" + EXCLUDE),
    BadFile("a name without an ending", "image", _written(nifti()), r"got another kind of file, expected .*" + EXCLUDE),
)


def bad_name(ending: str = "_T1w.nii.gz") -> str:
    """Returns the name of a file that is no UTF-8 (as Python has it)."""
    return os.fsdecode(b"sub-\xff\xfe" + ending.encode())


@dataclasses.dataclass(frozen=True)
class BadName:
    """A kind of bad id.

    Attributes:
        kind: its name.
        name: the id.
        line: of its fault, behind the id in quotation marks and a comma; a regular expression.
    """

    kind: str
    name: str
    line: str


RENAME = r"expected one that can be written down\. Rename it, or exclude the subject with data\.exclude\."
# Ids that no cohort may have.
NAMES = (
    BadName("dots alone", "..", f"which has no letter and no digit, {RENAME}"),
    BadName("a dash alone", "-", f"which has no letter and no digit, {RENAME}"),
    BadName("a slash alone", "/", f"which has no letter and no digit, {RENAME}"),
    BadName("an overlong id", "a" * 181, f"which is longer than 180 bytes, {RENAME}"),
)
# Those that only the name of a file, or a cell in quotation marks, can hold.
NAMES_OF_FILES = (
    BadName("a line break", "a\nb", f"which holds \\\\n, a character that is not shown, {RENAME}"),
    BadName("an escape", "a\x1b[2Jb", f"which holds \\\\x1b, a character that is not shown, {RENAME}"),
    BadName("no UTF-8", os.fsdecode(b"a\xff"), f"which is no UTF-8, {RENAME}"),
)
# Ids that are odd and taken; what is written of them is read back as the same ids.
GOOD_NAMES = (
    "-dev", "=cmd|'/C calc'!A0", "+1+1", "@SUM(A1)", "-1.5", "+7", "'=quoted", "IXI 012", "a/b", "0012", "M\u00fcller",
    "<b>x</b>", "$a$", "n.a.",
)  # fmt: skip
