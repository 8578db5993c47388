"""A spoiled cohort is told person by person, in one run, by check, qc and fit alike."""

import gzip
import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

import mrigen
from mrigen.data.cohort import index_cohort
from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
from mrigen.errors import CohortError
from mrigen.quality import admit, check_images
from mrigen.recipe import load_recipe, parse_recipe
from mrigen.training import fit, plan_fit, resume

PEOPLE = 24


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """$MRIGEN_CACHE, for the tests of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRIGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("admission") / "clean", PhantomSettings(num_subjects=PEOPLE))


def path_of(root, number):
    name = f"sub-phantom{number:04d}"
    return root / name / "anat" / f"{name}_T1w.nii.gz"


def change(root, number, array=None, affine=None):
    image = nibabel.load(path_of(root, number))
    array = np.asarray(image.dataobj) if array is None else array
    nibabel.save(nibabel.Nifti1Image(array, image.affine if affine is None else affine), path_of(root, number))


@pytest.fixture(scope="module")
def spoiled(clean, tmp_path_factory):
    root = tmp_path_factory.mktemp("admission") / "spoiled"
    shutil.copytree(clean, root)
    image = nibabel.load(path_of(root, 2))
    array = np.asarray(image.dataobj)
    change(root, 2, array.astype(np.complex64))
    content = bytearray(path_of(root, 4).read_bytes())
    content[len(content) // 2] ^= 16
    path_of(root, 4).write_bytes(content)
    path_of(root, 6).write_bytes(gzip.compress(gzip.decompress(path_of(root, 5).read_bytes()), 1))
    change(root, 8, affine=nibabel.load(path_of(root, 8)).affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    wild = np.asarray(nibabel.load(path_of(root, 10)).dataobj).astype(np.float32)
    wild[0, 0, 0] = -12 * wild.max()
    change(root, 10, wild)
    lost = nibabel.load(path_of(root, 12))
    lost.set_sform(None, 0)
    lost.set_qform(None, 0)
    nibabel.save(nibabel.Nifti1Image(np.asarray(lost.dataobj), None, lost.header), path_of(root, 12))
    return root


FAULTS = {2: "complex", 4: "CRC check failed", 5: "got the same voxels under 2 ids (sub-phantom0005, sub-phantom0006"}
TOLD = {8: "voxel size", 10: "wild", 12: "in the header says which way the axes run"}


def recipe_of(root, **keys):
    overrides = [f"data.root={root}", "training.epochs=1", *(f"{key}={value}" for key, value in keys.items())]
    return load_recipe("smoke", ["data.source=files", "data.mask=null", *overrides])


def assert_told(faults, lines):
    assert len(faults) == len(FAULTS)
    for number, words in FAULTS.items():
        assert any(f"sub-phantom{number:04d}" in fault and words in fault for fault in faults), (number, faults)
    for number, words in TOLD.items():
        assert any(line.startswith(f"sub-phantom{number:04d}: ") and words in line for line in lines), (number, lines)


@pytest.mark.parametrize("verb", [lambda recipe, run: plan_fit(recipe), lambda recipe, run: fit(recipe, run)])
def test_check_and_fit_tell_all_of_it_in_one_run(spoiled, tmp_path, caplog, verb):
    caplog.set_level("INFO", logger="mrigen")
    with pytest.raises(CohortError) as caught:
        verb(recipe_of(spoiled), tmp_path / "run")
    assert_told(caught.value.faults, [record.getMessage() for record in caplog.records])
    assert not (tmp_path / "run").exists()


def test_qc_tells_the_same(spoiled):
    found = mrigen.qc(str(spoiled))
    assert_told(found.faults, found.warnings)
    wrong = set(found.table["participant_id"][found.table["verdict"] == "wrong"])
    assert {f"sub-phantom{number:04d}" for number in (2, 4, 5, 6, 8)} <= wrong


def test_without_those_it_is_fitted_and_keeps_the_table(spoiled, tmp_path, caplog):
    caplog.set_level("INFO", logger="mrigen")
    listed = mrigen.qc(str(spoiled)).write(tmp_path / "qc")[-1]
    run = fit(recipe_of(spoiled, **{"data.exclude": listed}), tmp_path / "run")
    table = pd.read_csv(run.directory / "qc.tsv", sep="\t", na_values="n/a")
    assert set(table["scan_id"]) == set(run.subjects["scan_id"])
    assert table.set_index("scan_id")["verdict"]["sub-phantom0010"] == "look"
    assert "wild" in caplog.text
    log = (run.directory / "log.txt").read_text()
    assert "nothing in the header says which way the axes run" in log
    assert "19 images: 0 wrong" in log


def test_check_says_who_is_there(clean):
    plan = plan_fit(recipe_of(clean, **{"data.mask": "phantom"}))
    assert plan.cohort[0] == f"people: {PEOPLE} with {PEOPLE} images"
    names = [line.split(":")[0] for line in plan.cohort]
    assert {"sex", "age", "site", "mask"} <= set(names)
    assert plan.notes[-1] == f"{PEOPLE} images: 0 wrong, 0 to be looked at, {PEOPLE} fine"


def moved(root, target, number=3, like=17):
    shutil.copytree(root, target)
    image = nibabel.load(path_of(target, number))
    array = np.roll(np.asarray(image.dataobj).astype(np.float32), (1, -1), axis=(0, 1)) ** np.float32(0.9)
    change(target, like, array, image.affine)
    return target


def test_a_head_that_was_moved_and_given_another_contrast_is_refused(clean, tmp_path, caplog):
    root = moved(clean, tmp_path / "cohort")
    with pytest.raises(CohortError, match=r"sub-phantom0017_T1w.nii.gz: got the head of sub-phantom0003 again"):
        fit(recipe_of(root), tmp_path / "run")
    run = fit(recipe_of(root, **{"data.copies": "tell"}), tmp_path / "run")
    assert any(
        "The same as sub-phantom0003" in reason
        for reason in pd.read_csv(run.directory / "qc.tsv", sep="\t")["reasons"].dropna()
    )
    caplog.clear()
    mrigen.probe(run)
    assert "got one image as sub-phantom0003 and as sub-phantom0017" in caplog.text


def test_copies_in_one_family_are_told_and_not_refused(clean, tmp_path):
    root = moved(clean, tmp_path / "cohort")
    people = pd.read_csv(root / "participants.tsv", sep="\t")
    people["family"] = ["one" if number in (2, 16) else f"f{number}" for number in range(len(people))]
    people.to_csv(root / "participants.tsv", sep="\t", index=False)
    recipe = recipe_of(root)
    found = check_images(index_cohort(recipe.data), recipe.preprocess)
    admit(found)
    assert list(found.flags["scan_id"][found.flags["flag"] == "duplicate"]) == ["sub-phantom0003", "sub-phantom0017"]


def test_copies_are_looked_for_once(clean, monkeypatch):
    recipe = recipe_of(clean)
    cohort = index_cohort(recipe.data)
    first = check_images(cohort, recipe.preprocess)
    monkeypatch.setattr("mrigen.quality.checking.find_copies", None)
    assert check_images(cohort, recipe.preprocess).flags.equals(first.flags)


def test_a_run_of_before_keeps_the_third_version_and_goes_on(tmp_path, finished_run):
    """What a run was trained with is kept: its recipe names no version of preparing."""
    old = tmp_path / "old"
    shutil.copytree(finished_run.directory, old)
    text = (old / "recipe.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith(("version: 4", "nan_as_background"))]
    assert len(lines) == len(text.splitlines()) - 2
    (old / "recipe.yaml").write_text("\n".join(lines) + "\n")
    facts = json.loads((old / "run.json").read_text())
    del facts["settings"]["preprocess"]["version"]
    (old / "run.json").write_text(json.dumps(facts))
    run = mrigen.Run(old)
    assert run.recipe.preprocess.version == 3
    assert parse_recipe("").preprocess.version == 4
    assert resume(old).directory == old  # It is complete, and its recipe is the one that it began with.
    shipped = run.recipe.model_copy(
        update={
            "preprocess": type(run.recipe.preprocess)(
                **{name: value for name, value in run.recipe.preprocess.model_dump().items() if name != "version"}
            )
        }
    )
    assert resume(old, shipped).directory == old
