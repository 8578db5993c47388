"""What lies in an image's file: streams read to their end, and everything that is no image by its own name."""

import bz2
import gzip
import os
import tarfile
import zipfile

import nibabel
import numpy as np
import pytest

from mrigen.errors import CohortError
from mrigen.imaging.containers import open_content
from mrigen.imaging.volumes import read_volume

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
PACKED = {
    "a.nii": lambda content: content,
    "a.nii.gz": gzip.compress,
    "a.nii.bz2": bz2.compress,
    "a.mgh": lambda content: content,
    "a.mgz": gzip.compress,
}


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(0).integers(0, 900, (17, 18, 19)).astype(np.int16)


def content_of(array, name):
    kind = nibabel.MGHImage if ".mg" in name.lower() else nibabel.Nifti1Image
    return kind(array, AFFINE).to_bytes()


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("change", [str, str.upper])
def test_an_image_is_read_from_every_container_in_any_case(tmp_path, array, name, change):
    path = tmp_path / change(name)
    path.write_bytes(PACKED[name](content_of(array, name)))
    volume = read_volume(path, np.int16)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, AFFINE)


def test_nifti_2_and_big_endian_are_read(tmp_path, array):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nibabel.Nifti2Image(array, AFFINE).to_bytes()))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    (tmp_path / "b.nii").write_bytes(nibabel.Nifti1Image(array, AFFINE, header).to_bytes())
    for name in ("a.nii.gz", "b.nii"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, array)


def test_several_streams_in_one_file_are_one(tmp_path, array):
    content = content_of(array, "a.nii")
    parts = [content[start : start + 3000] for start in range(0, len(content), 3000)]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, array)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.NII.GZ", "a.nii.bz2", "a.mgz"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_flipped_bit_anywhere_in_a_stream_is_a_fault(tmp_path, array, name, in_memory):
    whole = PACKED[name.lower()](content_of(array, name))
    generator = np.random.default_rng(1)
    path = tmp_path / name
    places = [*generator.integers(20, len(whole), 25), len(whole) - 8, len(whole) - 5]
    for place in map(int, places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        image = path
        if in_memory:
            try:
                image = nibabel.load(path)
            except Exception:
                continue  # nibabel itself has found it, in the header.
        with pytest.raises(CohortError, match=rf"{name}: .*or exclude the subject"):
            read_volume(image)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii.bz2", "a.mgz"])
@pytest.mark.parametrize("cut", [1, 4, 9, 2000])
def test_a_stream_that_ends_too_early_is_a_fault(tmp_path, array, name, cut):
    (tmp_path / name).write_bytes(PACKED[name](content_of(array, name))[:-cut])
    with pytest.raises(CohortError, match=rf"{name}: truncated or damaged (gzip|bzip2) stream \(.*Restore the file"):
        read_volume(tmp_path / name)


def test_a_damaged_pair_is_a_fault(tmp_path, array):
    nibabel.save(nibabel.Nifti1Pair(array, AFFINE), tmp_path / "a.img.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.img.gz").array, array)
    damaged = bytearray((tmp_path / "a.img.gz").read_bytes())
    damaged[-6] ^= 4
    (tmp_path / "a.img.gz").write_bytes(damaged)
    with pytest.raises(CohortError, match=r"a.img.gz: truncated or damaged gzip stream"):
        read_volume(tmp_path / "a.img.gz")


@pytest.mark.parametrize(
    ("name", "packed_as", "what", "right"),
    [
        ("a.nii.gz", "a.nii", "an image that is not compressed under the name of a gzip stream", "a.nii"),
        ("a.nii", "a.nii.gz", "a gzip stream under the name of an image that is not compressed", "a.nii.gz"),
        ("a.nii.gz", "a.nii.bz2", "a bzip2 stream under the name of a gzip stream", "a.nii.bz2"),
        ("a.mgz", "a.mgh", "an image that is not compressed under the name of a gzip stream", "a.mgh"),
        ("a.mgh", "a.mgz", "a gzip stream under the name of an image that is not compressed", "a.mgz"),
    ],
)
def test_a_container_of_another_name_is_a_fault_that_tells_the_right_one(tmp_path, array, name, packed_as, what, right):
    (tmp_path / name).write_bytes(PACKED[packed_as](content_of(array, name)))
    with pytest.raises(CohortError, match=rf"{name}: got {what}, .*Rename it to {right}, or exclude"):
        read_volume(tmp_path / name)
    (tmp_path / name).rename(tmp_path / right)
    np.testing.assert_array_equal(read_volume(tmp_path / right).array, array)


def archive(kind, folder, array):
    (folder / "in").write_bytes(content_of(array, "a.nii"))
    if kind == "zip":
        with zipfile.ZipFile(folder / "out", "w") as file:
            file.write(folder / "in")
    else:
        with tarfile.open(folder / "out", "w") as file:
            file.add(folder / "in", "a.nii")
    return (folder / "out").read_bytes()


@pytest.mark.parametrize(
    ("content", "what", "cure"),
    [
        (b"", "an empty file", "Restore"),
        (b"\0" * 5000, "a file of zero bytes alone", "Restore"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a pointer of Git LFS",
            "git lfs",
        ),
        (b"/annex/objects/SHA256E-s8123--9f2c.nii.gz\n", "a pointer of git-annex", "datalad get"),
        (b"../../.git/annex/objects/X1/p4/MD5E-s8--9f/MD5E-s8--9f.nii.gz", "a pointer of git-annex", "datalad get"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page \\(HTML\\)", "Download the file again"),
        (b"\xef\xbb\xbf<HTML><HEAD>", "a web page \\(HTML\\)", "Download the file again"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document", "Download"),
        (b'{"message": "Not found"}', 'text \\(\'{"message": "Not found"}\'\\)', "Restore"),
        (b"\0" * 128 + b"DICM" + b"\2\0" * 100, "a DICOM file", "dcm2niix"),
        (b"zip", "a zip archive", "Unpack it"),
        (b"tar", "a tar archive", "Unpack it"),
    ],
)
@pytest.mark.parametrize(
    ("name", "packed"), [("a.nii", False), ("a.nii.gz", False), ("a.nii.gz", True), ("a.mgz", False), ("a.mgz", True)]
)
def test_what_is_no_image_is_named_with_its_cure(tmp_path, array, content, what, cure, name, packed):
    if content in (b"zip", b"tar"):
        content = archive(content.decode(), tmp_path, array)
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(CohortError, match=rf"{name}: got {what}, expected an image\. .*{cure}.*or exclude the subject"):
        open_content(tmp_path / name).__enter__()


def test_what_was_compressed_twice_is_a_fault(tmp_path, array):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(gzip.compress(content_of(array, "a.nii"))))
    with pytest.raises(CohortError, match=r"got a stream that was compressed twice, .*\(gunzip\)"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_link_to_content_that_was_not_fetched_is_a_fault(tmp_path):
    os.symlink(".git/annex/objects/xx/yy/MD5E-s8--9f.nii.gz", tmp_path / "a.nii.gz")
    with pytest.raises(CohortError, match=r"a.nii.gz: got a link to a missing file, .*datalad get"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_header_without_voxels_of_its_own_is_a_fault(tmp_path, array):
    """A .hdr that was renamed: its voxels lie in an .img."""
    nibabel.save(nibabel.Nifti1Pair(array, AFFINE), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(CohortError, match=r"a.nii: cannot be read as NIfTI"):
        read_volume(tmp_path / "a.nii")


def test_a_header_that_promises_more_voxels_than_there_are_asks_for_no_memory(tmp_path, array):
    content = bytearray(content_of(array, "a.nii"))
    content[42:48] = np.array([2000, 500, 500], "<i2").tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    with pytest.raises(CohortError, match=r"Expected 1000000000 bytes, got 11628 bytes"):
        read_volume(tmp_path / "a.nii.gz")
