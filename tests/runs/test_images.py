"""New images, prepared as those of a run."""

import shutil

import numpy as np
import pytest

from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.volumes import read_volume, write_volume
from mrigen.runs import Run
from mrigen.runs.images import check_different, check_given, conditions_of, name_images, prepare_images


def test_own_images_become_what_the_run_was_fitted_on(finished_run):
    heads = prepare_images(finished_run, list(finished_run.subjects["path"].iloc[:2]))
    expected = read_volumes(finished_run.open_dataset().cache, np.arange(2))
    np.testing.assert_array_equal(heads.volumes / np.float32(255), expected)
    own = finished_run.subjects.iloc[1]
    centre = heads.affine(1)[:3] @ [*((np.array(expected.shape[1:]) - 1) / 2), 1]
    np.testing.assert_allclose(centre, [own[f"centre_{axis}"] for axis in "xyz"], atol=1e-6)
    assert heads.prepared[1].scale == pytest.approx(own["scale"])


def test_own_images_are_stripped_where_the_run_was(finished_run, caplog, tmp_path):
    run = Run(finished_run.directory)
    stripped = run.recipe.data.model_copy(update={"apply_mask": True})
    vars(run)["recipe"] = run.recipe.model_copy(update={"data": stripped})
    image = finished_run.subjects["path"].iloc[0]
    # The synthetic images are stripped: only a smaller mask changes them.
    mask = read_volume(finished_run.subjects["mask_path"].iloc[0])
    half = mask.array.copy()
    half[half.shape[0] // 2 :] = 0
    write_volume(tmp_path / "mask.nii.gz", half, mask.affine)
    vars(run)["subjects"] = run.subjects.assign(mask_path=str(tmp_path / "mask.nii.gz"))
    foreign = tmp_path / "copy.nii.gz"
    shutil.copyfile(image, foreign)
    plain = prepare_images(finished_run, [image]).volumes[0]
    own, other = prepare_images(run, [image, foreign]).volumes
    assert np.count_nonzero(own) < np.count_nonzero(plain)
    np.testing.assert_array_equal(other, plain)
    assert [record.args[0] for record in caplog.records if "taken as it is" in record.msg] == [str(foreign)]


def test_a_told_model_hears_what_is_known_of_images(told_run, tmp_path):
    person = told_run.subjects.iloc[0]
    foreign = tmp_path / "someone.nii.gz"
    shutil.copyfile(person["path"], foreign)
    heads = prepare_images(told_run, [person["path"], foreign])
    own, other = conditions_of(told_run, heads.people)
    np.testing.assert_allclose(own, told_run.conditions([person["scan_id"]])[0], atol=1e-5)
    places = told_run.covariates.slices()
    assert other[places["sex"]] == 0 and not other[places["age"]].any()
    np.testing.assert_allclose(other[places["head_size"]], own[places["head_size"]], atol=1e-5)
    given = conditions_of(told_run, heads.people, {"sex": "M"})
    assert (given[:, places["sex"]] == 1).all()


def test_covariates_that_a_model_is_not_told_are_refused(finished_run, told_run):
    with pytest.raises(UsageError, match="given: got sex for a model that is told nothing"):
        check_given(finished_run, {"sex": "F"})
    with pytest.raises(UsageError, match="expected one of sex, age, head_size"):
        check_given(told_run, {"site": "A"})
    assert conditions_of(finished_run, finished_run.subjects) is None


def test_all_unfit_images_are_told(finished_run, tmp_path):
    (tmp_path / "b.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(CohortError) as error:
        prepare_images(finished_run, [tmp_path / "a.nii", tmp_path / "b.nii.gz"])
    assert len(error.value.faults) == 2


def test_images_of_one_name_are_refused():
    with pytest.raises(UsageError, match=r"b/sub-01_T1w\.nii: another image has the same name"):
        check_different(name_images(["a/sub-01.nii.gz", "b/sub-01_T1w.nii"]))


def test_what_no_head_has_is_said_of_new_images(finished_run, tmp_path, caplog):
    own = finished_run.subjects["path"].iloc[0]
    volume = read_volume(own)
    write_volume(tmp_path / "half.nii.gz", volume.array, volume.affine @ np.diag([0.5, 0.5, 0.5, 1.0]))
    prepare_images(finished_run, [own])
    assert not caplog.records
    prepare_images(finished_run, [tmp_path / "half.nii.gz"])
    assert "half.nii.gz: Width of the head (mm)" in caplog.text
    assert "The voxel size in the header is probably wrong" in caplog.text
