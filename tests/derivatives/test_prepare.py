"""Raw scans made ready: what is written, what is made anew, what a bad scan does to the others."""

import gzip
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from mrigen_cli.main import main

from mrigen.data.cohort import index_cohort
from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
from mrigen.data.preparing import prepare_image
from mrigen.derivatives import prepare
from mrigen.errors import UsageError
from mrigen.imaging.volumes import read_grid, read_volume, write_volume
from mrigen.recipe import DataRecipe, PreprocessRecipe

pytest.importorskip("SimpleITK", reason="comes with the extra prepare")

# Masks that are there: the tests need no network that finds brains.
GIVEN = {"mask": "phantom"}
TILTED, DEGREES = "sub-phantom0002", 20.0


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three synthetic brains; the second lies aslant in its scanner."""
    root = write_phantom_cohort(tmp_path_factory.mktemp("raw"), PhantomSettings(num_subjects=3, zooms=6.0))
    turn = np.eye(4)
    cosine, sine = np.cos(np.deg2rad(DEGREES)), np.sin(np.deg2rad(DEGREES))
    turn[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    for path in root.rglob(f"{TILTED}_*.nii.gz"):
        volume = read_volume(path)
        write_volume(path, volume.array.astype(np.int16), turn @ volume.affine)
    return root


@pytest.fixture(scope="module")
def one(raw, tmp_path_factory):
    """One of the three alone."""
    root = tmp_path_factory.mktemp("one")
    _copy(raw, root)
    for path in root.rglob("sub-phantom000[13]"):
        shutil.rmtree(path)
    return root


@pytest.fixture(scope="module")
def made(raw, tmp_path_factory):
    return prepare(raw, tmp_path_factory.mktemp("prepared") / "out", **GIVEN)


def test_prepared_folder_is_a_cohort_with_masks_that_a_fit_takes(made, raw):
    cohort = index_cohort(DataRecipe(root=str(made.directory), mask="."))
    people = pd.read_csv(raw / "participants.tsv", sep="\t")
    assert cohort.table["participant_id"].tolist() == people["participant_id"].tolist()
    assert cohort.table["age"].tolist() == people["age"].tolist()
    for row in cohort.table.itertuples():
        preparation = prepare_image(row.path, row.mask_path, PreprocessRecipe(), apply_mask=True)
        assert not preparation.faults and not preparation.mask_faults
        assert preparation.prepared.lost < 0.001


def test_aligned_images_lie_on_one_grid_and_heads_in_one_place(made):
    grids = [read_grid(made.directory / path) for path in made.table["image"]]
    assert {grid.shape for grid in grids} == {grids[0].shape}
    assert all(np.array_equal(grid.affine, grids[0].affine) for grid in grids)
    brains = [read_volume(made.directory / path).array > 0 for path in made.table["mask"]]
    centres = np.array([np.argwhere(brain).mean(axis=0) for brain in brains])
    assert np.ptp(centres, axis=0).max() < 1.0  # voxels of 6 mm
    assert (made.table["template_overlap"] > 0.9).all()


def test_rigid_alignment_turns_a_head_back_and_keeps_its_size(made):
    table = made.table.set_index("scan")
    turned = table["rotation_degrees"]
    assert turned[TILTED] - turned.drop(TILTED).median() == pytest.approx(DEGREES, abs=8.0)
    assert (table["log_determinant"] == 0.0).all()
    # The template is larger than everybody, so brains are enlarged to it.
    assert (table["log_determinant_to_template"] > 0.0).all()
    for row in table.itertuples():
        sidecar = json.loads((made.directory / row.image.replace("desc-preproc_T1w.nii.gz", "x")).parent.joinpath(
            f"{row.Index}_from-T1w_to-MNIrigid_mode-image_xfm.json"
        ).read_text())  # fmt: skip
        matrix = np.array(sidecar["Matrix"])
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
        volumes = [
            (read_volume(path).array > 0).sum() * np.prod(read_volume(path).zooms)
            for path in (
                made.directory / row.mask,
                made.directory / row.participant_id / "anat" / f"{row.Index}_desc-brain_mask.nii.gz",
            )
        ]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.02)


def test_transform_leads_from_the_scan_to_the_aligned_image(made, raw):
    row = made.table.set_index("scan").loc[TILTED]
    sidecar = made.directory / TILTED / "anat" / f"{TILTED}_from-T1w_to-MNIrigid_mode-image_xfm.json"
    matrix = np.array(json.loads(sidecar.read_text())["Matrix"])
    centres = []
    for path in (raw / "derivatives/phantom" / TILTED / "anat" / f"{TILTED}_desc-brain_mask.nii.gz",
                 made.directory / row["mask"]):  # fmt: skip
        volume = read_volume(path)
        centre = np.append(np.argwhere(volume.array > 0).mean(axis=0), 1.0)
        centres.append(volume.affine @ centre)
    np.testing.assert_allclose(matrix @ centres[0], centres[1], atol=1.0)


def test_same_command_again_makes_only_what_is_missing_or_damaged(made, raw):
    path = made.directory / made.table["image"].iloc[1]
    content = path.read_bytes()
    stamps = {other: other.stat().st_mtime_ns for other in made.directory.rglob("*_T1w.nii.gz") if other != path}
    path.write_bytes(content[:-1])
    again = prepare(raw, made.directory, **GIVEN)
    assert again.num_new == 1
    assert path.read_bytes() == content
    assert all(other.stat().st_mtime_ns == stamp for other, stamp in stamps.items())
    figures = made.table.columns.drop("seconds")
    pd.testing.assert_frame_equal(again.table[figures], made.table[figures])


def test_other_settings_are_refused_and_nothing_is_touched(made, raw):
    before = {path: path.stat().st_mtime_ns for path in made.directory.rglob("*")}
    with pytest.raises(UsageError, match=r"was made with steps bias,rigid, expected the same settings as now.*force"):
        prepare(raw, made.directory, steps="bias", **GIVEN)
    assert {path: path.stat().st_mtime_ns for path in made.directory.rglob("*")} == before


def test_forced_other_settings_leave_no_file_of_the_earlier_ones(one, tmp_path):
    prepare(one, tmp_path / "out", steps="rigid", zooms=8.0, **GIVEN)
    made = prepare(one, tmp_path / "out", steps=(), force=True, **GIVEN)
    assert not list(made.directory.rglob("*space-*"))
    for row in made.table.itertuples():
        own, written = read_grid(row.source), read_grid(made.directory / row.image)
        assert own.shape == written.shape
        np.testing.assert_array_equal(own.affine, written.affine)
        np.testing.assert_allclose(read_volume(made.directory / row.image).array, read_volume(row.source).array, atol=1)


def test_one_bad_scan_is_one_line_and_stops_no_other(raw, tmp_path, capsys):
    cohort = tmp_path / "cohort"
    _copy(raw, cohort)
    bad = next(cohort.glob("sub-phantom0001/anat/*_T1w.nii.gz"))
    bad.write_bytes(gzip.compress(gzip.decompress(bad.read_bytes())[:5000]))
    with pytest.raises(SystemExit) as exit:
        main(["prepare", str(cohort), str(tmp_path / "out"), "--mask", "phantom", "--steps", "none", "-q"])
    said = capsys.readouterr()
    assert exit.value.code == 1
    assert said.out.startswith("3 scans: 2 prepared, 0 were there; 2 fine, 0 to be looked at, 1 failed")
    assert said.err.count("\n") == 1 and str(bad) in said.err
    table = pd.read_csv(tmp_path / "out" / "prepare.tsv", sep="\t").set_index("scan")
    assert table["verdict"].to_dict() == {
        "sub-phantom0001": "failed", "sub-phantom0002": "fine", "sub-phantom0003": "fine",
    }  # fmt: skip
    assert len(list((tmp_path / "out").rglob("*_T1w.nii.gz"))) == 2


def test_another_process_makes_the_same_bytes(made, one, tmp_path):
    other = prepare(one, tmp_path / "out", jobs=2, **GIVEN)
    for name in other.table["image"]:
        assert (other.directory / name).read_bytes() == (made.directory / name).read_bytes()


def test_folder_with_other_files_is_refused(raw, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt, expected a new folder"):
        prepare(raw, tmp_path, **GIVEN)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_folder_of_the_scans_is_refused(raw):
    with pytest.raises(UsageError, match="holds the scans, expected another folder"):
        prepare(raw, raw, **GIVEN)


def test_plain_folder_gets_names_and_a_table_of_people(raw, tmp_path):
    (tmp_path / "scans").mkdir()
    for number, path in enumerate(sorted(raw.glob("sub-*/anat/*_T1w.nii.gz"))[:2]):
        (tmp_path / "scans" / f"Ward 3-{number}.nii.gz").write_bytes(path.read_bytes())
        person = path.name.partition("_")[0]
        mask = raw / "derivatives/phantom" / person / "anat" / f"{person}_desc-brain_mask.nii.gz"
        write_volume(tmp_path / f"Ward 3-{number}.nii.gz", read_volume(mask).array, read_volume(mask).affine)
    made = prepare(tmp_path / "scans", tmp_path / "out", steps=(), mask=str(tmp_path / "{id}.nii.gz"))
    assert made.table["participant_id"].tolist() == ["sub-Ward30", "sub-Ward31"]
    assert len(index_cohort(DataRecipe(root=str(made.directory), mask=".")).table) == 2
    people = pd.read_csv(made.directory / "participants.tsv", sep="\t")
    assert people["source_id"].tolist() == ["Ward 3-0", "Ward 3-1"]


def _copy(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
