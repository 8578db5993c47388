"""What makes an image or a mask unfit, and the memory of what was checked."""

import hashlib
import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pandas as pd
import pytest

from mrigen.data.checking import (
    DOUBTS,
    doubt_notes,
    find_duplicates,
    find_faults,
    mask_faults,
    voxel_digest,
)
from mrigen.data.memo import Checked, FileMemo, FileStamp, file_digest
from mrigen.imaging import headers
from mrigen.imaging.volumes import Volume, read_volume, write_volume

SHAPE = (11, 12, 13)
# Oblique and anisotropic: 9, 10 and 11 mm along the array axes.
ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


def duplicate_faults(*args):
    return [found.fault for found in find_duplicates(*args)]


def affine(*zooms):
    matrix = np.eye(4)
    matrix[:3, :3] = ROTATION @ np.diag(zooms)
    matrix[:3, 3] = (-40.0, 25.0, 10.0)
    return matrix


def volume(array=None, matrix=None):
    if array is None:
        array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return Volume(array, affine(9.0, 8.0, 7.0) if matrix is None else matrix)


def test_a_sound_image_has_no_faults():
    assert find_faults("a.nii", volume()) == []


def test_voxels_that_are_not_finite_are_counted():
    array = volume().array.copy()
    array[1, 2, 3], array[4, 5, 6], array[0, 0, 1] = np.nan, np.inf, -np.inf
    (fault,) = find_faults("a.nii", volume(array))
    assert fault.startswith(f"a.nii: got 3 of {array.size} voxels that are not finite, expected none.")


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_an_image_of_one_value_is_a_fault(value):
    (fault,) = find_faults("a.nii", volume(np.full(SHAPE, value, np.float32)))
    assert f"got the value {value:g} in all voxels" in fault


def test_an_image_without_a_finite_voxel_is_one_fault():
    (fault,) = find_faults("a.nii", volume(np.full(SHAPE, np.nan, np.float32)))
    assert f"got {np.prod(SHAPE)} of {np.prod(SHAPE)} voxels" in fault


def test_too_few_voxels_are_a_fault():
    array = np.arange(11 * 7 * 13, dtype=np.float32).reshape(11, 7, 13)
    (fault,) = find_faults("a.nii", volume(array, affine(9.0, 9.5, 9.0)))
    assert "got the shape 11 x 7 x 13, expected at least 8 voxels" in fault


@pytest.mark.parametrize(("zooms", "shown"), [((9, 12, 8), "9 x 12 x 8"), ((0.1, 8, 7), "0.1 x 8 x 7")])
def test_absurd_voxels_are_a_fault(zooms, shown):
    faults = find_faults("a.nii", volume(matrix=affine(*zooms)))
    assert f"a.nii: got voxels of {shown} mm, expected 0.2 to 10 mm" in faults[0]


@pytest.mark.parametrize(("zooms", "axis", "extent"), [((5, 8, 7), "x", "55"), ((9, 8, 4.5), "z", "58.5")])
def test_a_small_field_of_view_names_its_axis(zooms, axis, extent):
    (fault,) = find_faults("a.nii", volume(matrix=affine(*zooms)))
    assert f"field of view of {extent} mm along {axis}, expected 60 to 600 mm" in fault


def test_a_large_field_of_view_names_its_axis():
    array = np.arange(11 * 70 * 13, dtype=np.float32).reshape(11, 70, 13)
    (fault,) = find_faults("a.nii", volume(array, affine(9, 9, 9)))
    assert "field of view of 630 mm along y" in fault


def test_a_degenerate_affine_is_one_fault():
    singular = affine(9, 8, 7)
    singular[:3, 2] = singular[:3, 1]
    (fault,) = find_faults("a.nii", volume(matrix=singular))
    assert "got a singular affine" in fault
    (fault,) = find_faults("a.nii", volume(matrix=np.diag([9.0, 0.0, 7.0, 1.0])))
    assert "got a singular affine" in fault
    infinite = affine(9, 8, 7)
    infinite[0, 3] = np.nan
    (fault,) = find_faults("a.nii", volume(matrix=infinite))
    assert "got an affine with values that are not finite" in fault


def test_small_voxels_are_no_singular_affine():
    assert (
        find_faults("a.nii", volume(np.arange(300.0 * 301 * 9).reshape(300, 301, 9), affine(0.2001, 0.2001, 9))) == []
    )


# ---- masks


def mask_array():
    array = np.zeros(SHAPE, np.float32)
    array[3:8, 2:9, 4:7] = 5
    return array


def test_a_mask_on_the_grid_of_its_image_fits():
    nudged = affine(9.0, 8.0, 7.0)
    nudged[:3, 3] += 0.01
    assert mask_faults("m.nii", volume(mask_array(), nudged), volume()) == []


def test_a_written_mask_fits(tmp_path):
    write_volume(tmp_path / "a.nii.gz", volume().array, volume().affine)
    write_volume(tmp_path / "m.nii.gz", mask_array().astype(np.uint8), volume().affine)
    assert mask_faults("m", read_volume(tmp_path / "m.nii.gz"), read_volume(tmp_path / "a.nii.gz")) == []


def test_a_mask_of_another_shape_is_a_fault():
    (fault,) = mask_faults("m.nii", volume(mask_array()[:-1]), volume())
    assert fault.startswith("m.nii: got a mask of shape 10 x 12 x 13, expected 11 x 12 x 13")


def test_a_shifted_mask_is_a_fault():
    shifted = affine(9.0, 8.0, 7.0)
    shifted[1, 3] += 3
    (fault,) = mask_faults("m.nii", volume(mask_array(), shifted), volume())
    assert "whose grid lies 3 mm off its image's" in fault


def test_a_slightly_stretched_mask_is_a_fault():
    # Each voxel is off by little, the far corner by 12 x 0.1 mm.
    (fault,) = mask_faults("m.nii", volume(mask_array(), affine(9.0, 8.0, 7.1)), volume())
    assert "1.2 mm off" in fault


def test_a_mask_with_an_affine_that_is_not_finite_is_a_fault():
    (fault,) = mask_faults("m.nii", volume(mask_array(), affine(9.0, np.nan, 7.0)), volume())
    assert "off its image's" in fault


@pytest.mark.parametrize(("value", "words"), [(0, "no voxel"), (-1, "no voxel"), (2, "every voxel")])
def test_an_empty_or_full_mask_is_a_fault(value, words):
    (fault,) = mask_faults("m.nii", volume(np.full(SHAPE, value, np.float32)), volume())
    assert f"got a mask with {words} above 0" in fault


# ---- the same content twice


def test_digest_is_blake2b_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert file_digest(tmp_path / "a") == hashlib.blake2b(b"abc" * 100_000, digest_size=16).hexdigest()


def test_the_same_content_under_two_ids_is_a_fault():
    table = pd.DataFrame({"scan_id": ["c", "a", "b", "d", "e"], "path": ["/c", "/a", "/b", "/d", "/e"]})
    faults = duplicate_faults(table, {"/a": "1", "/b": "2", "/c": "1", "/d": "1"})
    assert len(faults) == 1
    assert faults[0].startswith("/a: got the same content under 3 ids (a, c, d; also /c, /d)")


def test_different_content_is_no_fault():
    table = pd.DataFrame({"scan_id": ["a", "b"], "path": ["/a", "/b"]})
    assert duplicate_faults(table, {"/a": "1", "/b": "2"}) == []


def saved(path, array, matrix, kind=nibabel.Nifti1Image):
    nibabel.save(kind(array, matrix), path)
    return voxel_digest(read_volume(path))


def test_the_same_voxels_have_one_digest_whatever_they_are_stored_in(tmp_path):
    array = np.random.default_rng(0).integers(-300, 300, SHAPE).astype(np.int16)
    turned = array[::-1].transpose(2, 0, 1)
    matrix = affine(2.0, 3.0, 4.0)
    turned_matrix = (matrix @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))[
        :, [2, 0, 1, 3]
    ]
    digests = {
        saved(tmp_path / "a.nii", array, matrix),
        saved(tmp_path / "a.nii.gz", array, matrix),
        saved(tmp_path / "b.nii.gz", array.astype(np.float64), matrix),
        saved(tmp_path / "c.nii.bz2", array.astype(np.int32), matrix),
        saved(tmp_path / "d.nii.gz", turned, turned_matrix),
        saved(tmp_path / "e.mgz", array, matrix, nibabel.MGHImage),
        saved(tmp_path / "f.nii", array, affine(1.0, 1.5, 2.0)),  # The voxel size was lost.
        voxel_digest(Volume(array, matrix)),
        voxel_digest(Volume(np.where(array == 0, np.float32(-0.0), array), matrix)),
    }
    assert len(digests) == 1
    assert file_digest(tmp_path / "a.nii") != file_digest(tmp_path / "a.nii.gz")


def test_other_voxels_have_another_digest():
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    one = array.copy()
    one[3, 4, 5] = np.nextafter(one[3, 4, 5], np.float32(9))
    others = [one, array[::-1], array[[1, 0, *range(2, SHAPE[0])]], array.reshape(SHAPE[::-1]), array * 2, array[1:]]
    digests = {voxel_digest(Volume(other, np.eye(4))) for other in (array, *others)}
    assert len(digests) == 1 + len(others)


def test_the_same_voxels_in_other_files_are_a_fault_told_once():
    table = pd.DataFrame({"scan_id": list("abcdef"), "path": [f"/{name}" for name in "abcdef"]})
    files = {"/a": "1", "/b": "1", "/c": "2", "/d": "3", "/e": "4", "/f": "4"}
    voxels = {"/a": "x", "/b": "x", "/c": "x", "/d": "y", "/e": "z", "/f": "z"}
    faults = duplicate_faults(table, files, voxels)
    assert [fault.partition(", expected")[0] for fault in faults] == [
        "/a: got the same voxels under 3 ids (a, b, c; also /b, /c)",
        "/e: got the same content under 2 ids (e, f; also /f)",
    ]
    assert len(duplicate_faults(table, files)) == 2


# ---- what headers left open


def test_notes_of_doubts_count_and_name_images():
    table = pd.DataFrame({"path": [f"/{number}.nii" for number in range(6)]})
    doubts = {f"/{number}.nii": ("orientation", "units") for number in range(5)}
    doubts |= {"/5.nii": ("shear",), "/elsewhere.nii": ("zooms",)}
    notes = doubt_notes(table, doubts)
    assert [note.partition(":")[0] for note in notes] == [
        "5 of 6 images (/0.nii, /1.nii, /2.nii and 2 more)",
        "5 of 6 images (/0.nii, /1.nii, /2.nii and 2 more)",
        "1 of 6 images (/5.nii)",
    ]
    assert "which way the axes run" in notes[0]
    assert doubt_notes(table, {}) == []


def test_every_kind_of_doubt_has_words():
    kinds = {value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)}
    assert set(DOUBTS) == kinds


# ---- memory


@pytest.fixture
def memo(tmp_path):
    return FileMemo(tmp_path / "cache" / "memo.sqlite", timeout=5)


@pytest.fixture
def files(tmp_path):
    paths = [str(tmp_path / f"{number}.nii") for number in range(3)]
    for number, path in enumerate(paths):
        with open(path, "wb") as file:
            file.write(b"x" * (10 + number))
    return paths


def checked(path, **facts):
    return Checked(FileStamp.of(path), file_digest(path), facts, (f"{path}: got nothing.",))


def test_memo_gives_back_what_was_put(memo, files):
    entries = {path: checked(path, zooms=[1.0, 2.0, 3.5], stripped=True) for path in files[:2]}
    assert memo.get_many(files) == {}
    memo.put_many(entries)
    assert memo.get_many(files) == entries
    assert FileMemo(memo.path).get_many(files[:1]) == {files[0]: entries[files[0]]}


def test_memo_answers_under_the_names_it_was_asked(memo, files, monkeypatch, tmp_path):
    memo.put_many({files[0]: checked(files[0])})
    monkeypatch.chdir(tmp_path)
    assert list(memo.get_many(["0.nii"])) == ["0.nii"]


def test_memo_forgets_changed_and_missing_files(memo, files):
    memo.put_many({path: checked(path) for path in files})
    with open(files[0], "ab") as file:
        file.write(b"y")
    os.utime(files[1], ns=(1, 1))
    os.unlink(files[2])
    assert memo.get_many(files) == {}


def test_memo_keeps_the_stamp_from_before_the_file_was_read(memo, files):
    entry = checked(files[0])
    os.utime(files[0], ns=(1, 1))
    memo.put_many({files[0]: entry})
    assert memo.get_many(files) == {}


def test_memo_replaces_older_entries(memo, files):
    memo.put_many({files[0]: checked(files[0], n=1)})
    memo.put_many({files[0]: checked(files[0], n=2)})
    assert memo.get_many(files)[files[0]].facts == {"n": 2}


@pytest.mark.parametrize("damage", ["text", "middle"])
def test_memo_begins_anew_where_its_file_is_damaged(memo, files, damage):
    memo.put_many({path: checked(path, text="z" * 3000) for path in files})
    content = bytearray(memo.path.read_bytes())
    if damage == "text":
        content = bytearray(b"no database at all " * 100)
    else:
        content[100:] = b"\x55" * (len(content) - 100)
    memo.path.write_bytes(content)
    assert memo.get_many(files) == {}
    memo.put_many({files[0]: checked(files[0])})
    assert list(memo.get_many(files)) == files[:1]


def test_memo_of_another_version_is_begun_anew(memo, files):
    memo.put_many({files[0]: checked(files[0])})
    with sqlite3.connect(memo.path) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    assert memo.get_many(files) == {}


def test_memo_that_cannot_be_used_is_logged_and_does_not_stop(tmp_path, files, caplog):
    (tmp_path / "memo.sqlite").mkdir()
    memo = FileMemo(tmp_path / "memo.sqlite")
    memo.put_many({files[0]: checked(files[0])})
    assert memo.get_many(files) == {}
    assert "files are read again" in caplog.text


def test_memo_that_is_locked_is_kept(memo, files, caplog):
    memo.put_many({files[0]: checked(files[0])})
    busy = sqlite3.connect(memo.path)
    busy.execute("BEGIN EXCLUSIVE")
    FileMemo(memo.path, timeout=0.05).put_many({files[1]: checked(files[1])})
    busy.rollback()
    busy.close()
    assert "locked" in caplog.text
    assert list(memo.get_many(files)) == files[:1]


def test_memo_uses_no_write_ahead_log_and_leaves_no_files(memo, files):
    memo.put_many({files[0]: checked(files[0])})
    assert os.listdir(memo.path.parent) == ["memo.sqlite"]


def test_memo_holds_ten_thousand_files(memo, files):
    stamp = FileStamp.of(files[0])
    names = [f"/nowhere/{number}.nii.gz" for number in range(10_000)]
    memo.put_many({name: Checked(stamp, "0" * 32, {"volume_ml": 1.5}) for name in [*names, files[0]]})
    assert list(memo.get_many([*names, files[0]])) == [files[0]]


def test_memo_is_shared_by_threads(memo, files):
    def work(number):
        memo.put_many({files[number % 3]: checked(files[number % 3])})
        return len(memo.get_many(files))

    with ThreadPoolExecutor(8) as pool:
        assert all(count >= 1 for count in pool.map(work, range(40)))
    assert sorted(memo.get_many(files)) == files


def put_some(path, files):
    for _ in range(10):
        FileMemo(path).put_many({name: checked(name) for name in files})


def test_memo_is_shared_by_processes(memo, files):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=put_some, args=(memo.path, [name])) for name in files]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(memo.get_many(files)) == files
