"""Prepared volumes on disk: built once, reused, repaired, refused."""

import dataclasses
import gzip
import hashlib
import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from mrigen.data import cache as cache_module
from mrigen.data import preparing
from mrigen.data.cache import FACTS, UnfitImages, encode_record, open_cache
from mrigen.data.cohort import index_cohort
from mrigen.data.memo import file_digest
from mrigen.data.pipeline import read_volumes
from mrigen.data.preprocess import prepare_volume
from mrigen.data.quality import MEASURES
from mrigen.errors import CohortError, MrigenError
from mrigen.imaging.volumes import read_volume, write_volume
from mrigen.recipe import DataRecipe, PreprocessRecipe
from mrigen.system.files import default_cache_directory

SHAPE = (14, 13, 12)
AFFINE = np.array([[5.9, -0.8, 0, -40], [0.8, 5.9, 0, -35], [0, 0, 7, -42], [0, 0, 0, 1.0]])
SETTINGS = PreprocessRecipe(zooms=(8, 9, 10), volume_shape=(11, 10, 9))
NUM_PEOPLE = 5


def picture(seed, shape=SHAPE):
    """A block of another size for each person, and noise."""
    array = np.random.default_rng(seed).normal(100, 5, shape).astype(np.float32)
    array[2 : 8 + seed % 4, 3:10, 2:10] += 400.0
    return array


def inside(seed, shape=SHAPE):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[3 : 7 + seed % 4, 4:9, 3:9] = 2
    return mask


@pytest.fixture
def study(tmp_path):
    """A table of five people (not in the order of their files), with masks and a column that has a fact's name."""
    root = tmp_path / "study"
    lines = ["participant_id\tpath\tmask\tscale"]
    for number in range(NUM_PEOPLE):
        write_volume(root / f"{number}.nii.gz", picture(number), AFFINE)
        write_volume(root / f"{number}m.nii.gz", inside(number), AFFINE)
        lines.append(f"p{9 - number}\t{number}.nii.gz\t{number}m.nii.gz\t{number}")
    (root / "list.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "caches"


@pytest.fixture
def two_a_shard(monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 2 * 11 * 10 * 9 + 1)


@pytest.fixture
def no_preparing(monkeypatch):
    """Returns a function after which no image may be prepared."""

    def fail(*args, **keys):
        raise AssertionError("an image was prepared again")

    return lambda: monkeypatch.setattr(cache_module, "prepare_image", fail)


def cohort(study):
    return index_cohort(DataRecipe(root=str(study / "list.tsv")))


def build(study, folder, settings=SETTINGS, apply_mask=False, **keys):
    return open_cache(cohort(study), settings, apply_mask, folder, num_workers=2, **keys)


def faults(study, folder):
    with pytest.raises(CohortError) as caught:
        build(study, folder)
    return sorted(caught.value.faults)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(cache):
    return {path.name: path.read_bytes() for path in cache.directory.iterdir()}


# ---- built


def test_every_image_becomes_a_record_in_the_order_of_the_table(study, folder):
    cache = build(study, folder)
    assert cache.table["scan_id"].tolist() == ["p5", "p6", "p7", "p8", "p9"]
    assert (cache.volume_shape, len(cache.shards)) == ((11, 10, 9), 1)
    volumes = read_volumes(cache, np.arange(NUM_PEOPLE))
    for row, record in enumerate(cache.table.itertuples()):
        prepared = prepare_volume(read_volume(record.path), read_volume(record.mask_path), SETTINGS, False)
        np.testing.assert_allclose(volumes[row] * 255, prepared.array, atol=1e-4)


def test_facts_stand_beside_their_scans(study, folder, two_a_shard):
    table = build(study, folder).table
    for record in table.itertuples():
        number = 9 - int(record.scan_id[1:])
        prepared = prepare_volume(read_volume(record.path), read_volume(record.mask_path), SETTINGS, False)
        np.testing.assert_allclose((record.centre_x, record.centre_y, record.centre_z), prepared.centre)
        assert record.scale == pytest.approx(prepared.scale)
        assert record.head_volume_ml == pytest.approx(prepared.head_volume)
        voxel = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
        assert record.brain_volume_ml == pytest.approx((inside(number) > 0).sum() * voxel)
        assert record.lost_fraction == pytest.approx(prepared.lost)
    assert table["brain_volume_ml"].nunique() > 1


def test_a_column_with_the_name_of_a_fact_is_kept_under_another(study, folder):
    table = build(study, folder).table
    assert set(FACTS) <= set(table)
    assert table["scale_given"].tolist() == [4, 3, 2, 1, 0]


def test_without_masks_there_is_no_brain_volume(study, folder):
    text = "\n".join("\t".join(line.split("\t")[:2]) for line in (study / "list.tsv").read_text().splitlines())
    (study / "list.tsv").write_text(text + "\n")
    for _ in range(2):
        assert build(study, folder).table["brain_volume_ml"].isna().all()


@pytest.mark.usefixtures("two_a_shard")
def test_several_shards_hold_all_rows_once(study, folder):
    cache = build(study, folder)
    rows = []
    for path in cache.shards:
        records = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
        rows.append([record.features.feature["row"].int64_list.value[0] for record in records])
    assert rows == [[0, 1], [2, 3], [4]]


def test_a_record_is_the_same_bytes_in_every_process():
    # Protocol buffers write the entries of a map in an order that changes from process to process unless told.
    record = encode_record(3, bytes(4))
    assert record.index(b"row") < record.index(b"volume")


def test_progress_is_told_of_every_image(study, folder):
    steps = []
    build(study, folder, progress=steps.append)
    assert steps == [1] * NUM_PEOPLE


def test_caches_lie_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MRIGEN_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_cache_directory() == tmp_path / "a"
    monkeypatch.delenv("MRIGEN_CACHE")
    assert default_cache_directory() == tmp_path / "b" / "mrigen"


# ---- reused


def test_a_finished_cache_is_opened_without_reading_an_image(study, folder, monkeypatch):
    first = build(study, folder)
    before = contents(first)
    monkeypatch.setattr(cache_module, "prepare_image", None)
    second = build(study, folder)
    assert (second.key, second.shards) == (first.key, first.shards)
    assert second.table.equals(first.table)
    assert contents(second) == before


def test_other_columns_of_the_table_do_not_matter(study, folder, no_preparing):
    first = build(study, folder)
    no_preparing()
    (study / "list.tsv").write_text((study / "list.tsv").read_text().replace("\tscale", "\tage"))
    second = build(study, folder)
    assert second.key == first.key
    assert second.table["age"].tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "change",
    [{"zooms": (8, 9, 11)}, {"volume_shape": (11, 10, 10)}, {"centre": "mask"}, {"intensity_percentiles": (0, 98)}],
)
def test_other_settings_are_another_cache(study, folder, change):
    first = build(study, folder)
    second = build(study, folder, SETTINGS.model_copy(update=change))
    assert second.key != first.key
    assert {first.key, second.key} < set(names(folder))
    assert build(study, folder).key == first.key


def test_applied_masks_are_another_cache(study, folder):
    first, second = build(study, folder), build(study, folder, apply_mask=True)
    assert second.key != first.key
    assert (read_volumes(second, [0]) > 0).sum() < (read_volumes(first, [0]) > 0).sum()


@pytest.mark.parametrize("name", ["1.nii.gz", "1m.nii.gz"])
def test_a_changed_file_is_another_cache(study, folder, name):
    first = build(study, folder)
    write_volume(study / name, (picture if name == "1.nii.gz" else inside)(7), AFFINE)
    second = build(study, folder)
    assert second.key != first.key
    different = (read_volumes(first, np.arange(5)) != read_volumes(second, np.arange(5))).any(axis=(1, 2, 3))
    assert different.tolist() == [False, False, False, name == "1.nii.gz", False]


def test_fewer_people_are_another_cache(study, folder):
    first = build(study, folder)
    second = open_cache(index_cohort(DataRecipe(root=str(study / "list.tsv"), exclude=["p7"])), SETTINGS, False, folder)
    assert second.key != first.key
    np.testing.assert_array_equal(read_volumes(second, [2, 3]), read_volumes(first, [3, 4]))


def test_a_forgotten_memo_leads_to_the_same_cache(study, folder):
    first = build(study, folder)
    before = contents(first)
    (folder / "checks.sqlite").unlink()
    second = build(study, folder)
    assert second.key == first.key
    assert contents(second) == before
    assert names(folder) == ["checks.sqlite", first.key]


def test_a_cache_that_another_process_finished_first_is_kept(study, folder, monkeypatch):
    real, inner = cache_module.write_json, []

    def slow(path, value):
        if not inner:  # Just before the first process names its folder, a second one builds and finishes.
            inner.append(None)
            inner[0] = build(study, folder)
            inner.append(inner[0].shards[0].stat().st_ino)
        real(path, value)

    monkeypatch.setattr(cache_module, "write_json", slow)
    cache = build(study, folder)
    assert cache.key == inner[0].key
    assert cache.shards[0].stat().st_ino == inner[1]
    assert names(folder) == ["checks.sqlite", cache.key]


def test_a_folder_without_a_manifest_is_no_cache(study, folder):
    first = build(study, folder)
    before = contents(first)
    (first.directory / "manifest.json").unlink()
    (first.directory / "junk").touch()
    assert contents(build(study, folder)) == before


# ---- repaired


@pytest.mark.usefixtures("two_a_shard")
@pytest.mark.parametrize("harm", ["delete", "flip", "truncate"])
def test_a_damaged_shard_is_built_again_to_the_same_bytes(study, folder, caplog, harm):
    first = build(study, folder)
    before = contents(first)
    path = first.shards[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if harm != "delete":
        path.write_bytes(content if harm == "flip" else content[:-9])
    prepared = []
    second = build(study, folder, progress=prepared.append)
    assert contents(second) == before
    assert prepared == [1, 1]  # the images of that shard alone
    assert "shard-00001.tfrecord is damaged or missing and is built again" in caplog.text
    caplog.clear()
    build(study, folder, progress=prepared.append)
    assert prepared == [1, 1]
    assert caplog.text == ""


# ---- refused


@pytest.mark.usefixtures("two_a_shard")
def test_all_unfit_files_are_named_together_and_the_others_kept(study, folder, no_preparing):
    whole = (study / "0.nii.gz").read_bytes()
    (study / "0.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_volume(study / "1.nii.gz", np.full(SHAPE, 3.0, np.float32), AFFINE)
    write_volume(study / "2.nii.gz", np.where(inside(2), np.nan, picture(2)), AFFINE)
    write_volume(study / "3m.nii.gz", inside(3, (14, 13, 11)), AFFINE)
    found = faults(study, folder)
    assert len(found) == 4
    for fault, (name, words) in zip(
        found,
        [
            ("0.nii.gz", "truncated or damaged gzip stream"),
            ("1.nii.gz", "got the value 3 in all voxels"),
            ("2.nii.gz", "voxels that are not finite"),
            ("3m.nii.gz", "got a mask of shape 14 x 13 x 11, expected 14 x 13 x 12"),
        ],
        strict=True,
    ):
        assert fault.startswith(f"{study / name}: ")
        assert words in fault
    _, kept = names(folder)
    no_preparing()
    assert faults(study, folder) == found
    # Without the others, nothing is read again.
    people = cohort(study)
    with pytest.raises(UnfitImages) as caught:
        open_cache(people, SETTINGS, False, folder)
    assert set(caught.value.unfit) == {"p6", "p7", "p8", "p9"}
    rest = dataclasses.replace(people, table=people.table[people.table["scan_id"] == "p5"])
    cache = open_cache(rest, SETTINGS, False, folder)
    assert cache.key == kept
    assert read_volumes(cache, np.arange(1)).shape == (1, 11, 10, 9)


@pytest.mark.usefixtures("two_a_shard")
def test_the_cache_of_the_fit_images_is_mended_like_any_other(study, folder):
    write_volume(study / "1.nii.gz", np.full(SHAPE, 3.0, np.float32), AFFINE)
    faults(study, folder)
    (study / "list.tsv").write_text("".join(line for line in (study / "list.tsv").open() if "1.nii.gz" not in line))
    first = build(study, folder)
    expected = read_volumes(first, np.arange(4))
    assert [path.name for path in first.shards] == [
        "shard-00000.tfrecord",
        "shard-00001.tfrecord",
        "shard-00002.tfrecord",
    ]
    for path in first.shards:
        path.write_bytes(path.read_bytes()[:-5])
        np.testing.assert_array_equal(read_volumes(build(study, folder), np.arange(4)), expected)


def test_what_is_raised_about_one_image_names_it_and_the_others_are_prepared(study, folder, monkeypatch):
    real = preparing.prepare_volume

    def raise_for_one(volume, *args):
        if volume.array[2:8, 3:10, 2:10].std() and np.array_equal(volume.array, read_volume(study / "3.nii.gz").array):
            raise ValueError("Too many bins\nfor data range")
        return real(volume, *args)

    monkeypatch.setattr(preparing, "prepare_volume", raise_for_one)
    (found,) = faults(study, folder)
    assert found == (
        f"{study / '3.nii.gz'}: cannot be prepared (ValueError: Too many bins for data range). "
        "Convert the image again, or exclude the subject with data.exclude."
    )


def test_voxels_that_are_not_a_number_are_background_where_the_recipe_says_so(study, folder):
    array = picture(2)
    array[0] = np.nan
    write_volume(study / "2.nii.gz", array, AFFINE)
    assert "voxels that are not finite" in faults(study, folder)[0]
    settings = SETTINGS.model_copy(update={"nan_as_background": True})
    cache = build(study, folder, settings)
    assert len(cache.table) == NUM_PEOPLE
    assert np.isfinite(cache.quality.drop(columns="scan_id").to_numpy(float)).any()
    # And again refused without the key, though the file is known by now.
    assert "voxels that are not finite" in faults(study, folder)[0]
    assert build(study, folder, settings).key == cache.key
    array[3, 3, 3] = np.inf
    write_volume(study / "2.nii.gz", array, AFFINE)
    with pytest.raises(CohortError, match="not finite"):
        build(study, folder, settings)


def test_measures_and_doubts_of_each_image_are_kept(study, folder):
    for name, array in (("1.nii.gz", picture(1)), ("1m.nii.gz", inside(1))):
        image = nibabel.Nifti1Image(array, AFFINE)
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        nibabel.save(image, study / name)
    cache = build(study, folder)
    assert cache.quality["scan_id"].tolist() == cache.table["scan_id"].tolist()
    assert set(MEASURES) < set(cache.quality)
    head = cache.quality.set_index("scan_id")["head_volume_ml"]
    np.testing.assert_allclose(head, cache.table.set_index("scan_id")["head_volume_ml"], rtol=1e-6)
    doubts = cache.table.set_index("scan_id")["doubts"]
    assert "orientation" in doubts["p8"]
    assert doubts.drop("p8").isna().all()


def test_a_cache_of_before_is_measured_when_it_is_opened(study, folder):
    first = build(study, folder)
    expected, before = first.quality, contents(first)
    (first.directory / "quality.tsv").unlink()
    second = build(study, folder)
    pd.testing.assert_frame_equal(second.quality, expected)
    assert contents(second) == before


@pytest.mark.parametrize("how", ["gzip", "plain", "float", "turned"])
def test_the_same_voxels_in_another_container_are_a_fault(study, folder, how):
    array = np.rint(picture(1)).astype(np.int16)
    image = nibabel.Nifti1Image(array, AFFINE)
    nibabel.save(image, study / "1.nii.gz")
    if how == "turned":
        image = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    if how == "float":
        image = nibabel.Nifti1Image(array.astype(np.float64), AFFINE)
    content = image.to_bytes()
    (study / "4.nii.gz").unlink()
    name = "4.nii" if how == "plain" else "4.nii.gz"
    (study / name).write_bytes(content if how == "plain" else gzip.compress(content, 1))
    nibabel.save(nibabel.Nifti1Image(inside(1), AFFINE), study / "4m.nii.gz")
    (study / "list.tsv").write_text((study / "list.tsv").read_text().replace("4.nii.gz", name))
    found = faults(study, folder)
    if how == "turned":  # Its mask does not lie as it does.
        found = [fault for fault in found if "got a mask" not in fault]
    assert any("under 2 ids (p5, p8;" in fault for fault in found), found


def test_runs_made_before_find_the_cache_they_were_fitted_on(study, folder):
    """The name is part of a run (data_fingerprint), and is what it was before there were versions of preparing."""
    settings = SETTINGS.model_copy(update={"version": 3})
    cache = build(study, folder, settings)
    table = cohort(study).table
    dumped = {"zooms": [8.0, 9.0, 10.0], "volume_shape": [11, 10, 9], "centre": "auto"}
    content = {
        "format": [1, 3],
        "settings": {**dumped, "intensity_percentiles": [0.0, 99.5]},
        "apply_mask": False,
        "images": [[row.scan_id, file_digest(row.path), file_digest(row.mask_path)] for row in table.itertuples()],
    }
    expected = hashlib.blake2b(json.dumps(content).encode(), digest_size=10).hexdigest()
    assert cache.key == f"volumes-{expected}"
    assert build(study, folder).key != cache.key


def test_the_same_image_under_two_ids_is_a_fault_every_time(study, folder, no_preparing):
    shutil.copy(study / "1.nii.gz", study / "3.nii.gz")
    (found,) = faults(study, folder)
    assert "got the same content under 2 ids (p6, p8;" in found
    no_preparing()
    assert faults(study, folder) == [found]


def test_files_that_vanished_are_named_and_come_back(study, folder):
    people = cohort(study)
    away = study / "away"
    away.mkdir()
    gone = ["0.nii.gz", "1.nii.gz", "2m.nii.gz"]
    for name in gone:
        (study / name).rename(away / name)
    with pytest.raises(CohortError) as caught:
        open_cache(people, SETTINGS, False, folder)
    assert sorted(caught.value.faults) == [
        f"{study / name}: no such file. Restore it, or exclude the subject with data.exclude." for name in gone
    ]
    for name in gone:
        (away / name).rename(study / name)
    assert len(open_cache(people, SETTINGS, False, folder).table) == NUM_PEOPLE


def test_a_mended_image_is_taken(study, folder):
    write_volume(study / "1.nii.gz", np.full(SHAPE, 3.0, np.float32), AFFINE)
    assert len(faults(study, folder)) == 1
    write_volume(study / "1.nii.gz", picture(1), AFFINE)
    assert len(build(study, folder).table) == NUM_PEOPLE


def test_a_mask_that_did_not_fit_is_taken_when_its_image_is_mended(study, folder):
    other = (13, 14, 12)
    write_volume(study / "1.nii.gz", picture(1, other), AFFINE)
    assert "1m.nii.gz: got a mask of shape 14 x 13 x 12" in faults(study, folder)[0]
    write_volume(study / "1.nii.gz", picture(1), AFFINE)
    assert len(build(study, folder).table) == NUM_PEOPLE


def test_masks_that_stood_in_the_wrong_rows_are_taken_when_they_are_put_right(study, folder):
    other = (13, 14, 12)
    write_volume(study / "1.nii.gz", picture(1, other), AFFINE)
    write_volume(study / "1m.nii.gz", inside(1, other), AFFINE)
    right = (study / "list.tsv").read_text()
    wrong = right.replace("1m.nii", "xm.nii").replace("2m.nii", "1m.nii").replace("xm.nii", "2m.nii")
    (study / "list.tsv").write_text(wrong)
    assert len(faults(study, folder)) == len(faults(study, folder)) == 2
    (study / "list.tsv").write_text(right)
    assert len(build(study, folder).table) == NUM_PEOPLE


def test_a_full_disk_is_said_before_the_work(study, folder, monkeypatch, no_preparing):
    no_preparing()
    usage = shutil.disk_usage(study)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(MrigenError, match=r"caches: got 0 MB of free space, expected at least 0 MB .*MRIGEN_CACHE"):
        build(study, folder)


def test_a_disk_that_fills_up_while_writing_is_said_in_words(study, folder, monkeypatch):
    class Full(tf.io.TFRecordWriter):
        def write(self, record):
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(cache_module.tf.io, "TFRecordWriter", Full)
    with pytest.raises(MrigenError, match=r"cannot be written \(No space left on device\). Is the disk full\?"):
        build(study, folder)
    assert not [name for name in names(folder) if name != "checks.sqlite"]


def test_an_interrupted_build_leaves_nothing(study, folder):
    def stop(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(study, folder, progress=stop)
    assert names(folder) == []
