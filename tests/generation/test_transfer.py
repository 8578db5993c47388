"""Images under other covariates, and samples of people one asks for."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from conditional import loud

from mrigen.data.pipeline import read_volumes
from mrigen.errors import UsageError
from mrigen.generation.sampling import Samples, sample
from mrigen.generation.templates import template
from mrigen.generation.transfers import transfer
from mrigen.generation.traversals import traverse
from mrigen.imaging.volumes import write_volume
from mrigen.probing import check_samples


def read(path):
    return nibabel.load(path).get_fdata()


def test_a_told_model_is_rebuilt_from_its_run(told_run):
    model = told_run.load_model()
    assert model.condition_size == told_run.covariates.size == 5
    assert model.invariant == (0,)
    history = pd.read_csv(told_run.directory / "history.csv")
    assert "predictability" in history and history["predictability"].between(0, 1).all()
    train = told_run.open_dataset().rows("train")
    loc, sex = told_run.load_latents()["loc"][train], told_run.subjects["sex"].to_numpy()[train]
    gap = loc[sex == "F"].mean(axis=0) - loc[sex == "M"].mean(axis=0)
    np.testing.assert_allclose(gap, 0.0, atol=1e-4 * loc.std())


def test_samples_have_the_covariates_that_were_given(told_run, tmp_path):
    paths = sample(told_run, 4, given={"sex": "F", "age": 33.0}).write(tmp_path / "out")
    manifest = pd.read_csv(tmp_path / "out" / "manifest.tsv", sep="\t")
    assert len(paths) == 4
    assert set(manifest["sex"]) == {"F"} and set(manifest["age"]) == {33.0} and manifest["head_size"].notna().all()
    training = told_run.split.query("split == 'train'")["participant_id"]
    people = told_run.subjects[told_run.subjects["participant_id"].isin(training)]
    women = people.loc[people["sex"] == "F", "head_volume_ml"]
    assert np.isclose(manifest["head_size"].to_numpy()[:, None], women.to_numpy()).any(axis=1).all()
    with pytest.raises(UsageError, match="holds samples with given"):
        Samples(told_run, 4, given={"sex": "M"}).write(tmp_path / "out")
    with pytest.raises(UsageError, match=r"given=\{'site': 'site01'\}: got site, expected one of sex, age, head_size"):
        sample(told_run, 1, given={"site": "site01"})


def test_samples_are_judged_by_what_learned_from_real_volumes(told_run, tmp_path):
    paths = sample(told_run, 6, given={"sex": "F"}).write(tmp_path / "out")
    sex, age, size = checks = check_samples(told_run, paths)
    assert checks.write() == [tmp_path / "out" / "check.json"]
    assert (sex.name, age.name, size.name) == ("sex", "age", "head_size")
    assert 0.0 <= sex.share_right <= 1.0 and sex.num_samples == 6 and sex.correlation is None
    assert size.correlation is not None and size.correlation_real > 0.5  # Of real people's own volumes.
    assert "are called rightly by a linear SVM on real voxels" in sex.in_words()
    assert set(json.loads((tmp_path / "out" / "check.json").read_text())) == {"sex", "age", "head_size"}
    # Real heads in the place of the samples are called what they are.
    dataset = told_run.open_dataset()
    training = dataset.cache.table.iloc[dataset.rows("train")]
    rows = dataset.rows("train")[(training["sex"] == "F").to_numpy()][:6]
    for path, volume in zip(paths, read_volumes(dataset.cache, rows), strict=True):
        write_volume(path, volume, told_run.affine)
    manifest = tmp_path / "out" / "manifest.tsv"
    frame = pd.read_csv(manifest, sep="\t")
    frame["head_size"] = dataset.cache.table["head_volume_ml"].iloc[rows].to_numpy()
    frame.to_csv(manifest, sep="\t", index=False)
    assert check_samples(told_run, paths)[2].correlation > 0.9
    pd.read_csv(manifest, sep="\t")[["participant_id"]].to_csv(manifest, sep="\t", index=False)
    with pytest.raises(UsageError, match="got samples without sex, age or head size"):
        check_samples(told_run, paths)


def test_a_fit_says_what_latents_still_tell(told_run):
    told = told_run.metrics["told_by_latents"]
    assert set(told) == {"sex", "age", "head_size"}
    assert told["sex"]["chance"] == 0.5 and 0.0 <= told["sex"]["balanced_accuracy"] <= 1.0
    assert told["age"]["r2"] <= 1.0


def test_the_decoder_hears_what_was_given(told_run, tmp_path):
    run = loud(told_run, tmp_path)
    given = {"sex": "F", "age": 30.0, "head_size": 1000.0}
    one, other, again = (
        read(sample(run, 1, given={**given, "sex": sex}, density="prior").write(tmp_path / name)[0])
        for name, sex in (("one", "F"), ("other", "M"), ("again", "F"))
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_a_transfer_changes_what_was_given_and_lies_where_the_person_lies(told_run, tmp_path):
    run = loud(told_run, tmp_path)
    paths = transfer(run, {"sex": "F"}).write(tmp_path / "F")
    table = pd.read_csv(tmp_path / "F" / "transfer.tsv", sep="\t")
    assert list(table["path"]) == [path.name for path in paths]
    assert set(table["sex_after"]) == {"F"} and set(table["sex_before"]) == {"F", "M"}
    others = transfer(run, {"sex": "M"}).write(tmp_path / "M")
    person = run.subjects.set_index("scan_id").loc[table["scan_id"].iloc[0]]
    image = nibabel.load(paths[0])
    centre = nibabel.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    np.testing.assert_allclose(centre, [person[f"centre_{axis}"] for axis in "xyz"], atol=1e-3)
    assert np.abs(read(paths[0]) - read(others[0])).max() > 0.01
    assert (tmp_path / "F" / "transfer.png").is_file()
    images = transfer(run, {"sex": "F"})
    np.testing.assert_array_equal(images[-1].get_fdata(), read(paths[-1]))
    np.testing.assert_allclose(images[0].affine, image.affine)
    pd.testing.assert_frame_equal(images.to_frame(), table)
    assert len(images.plot().axes) == 3 * len(images) * 3
    with pytest.raises(UsageError, match="transferred_T1w"):
        transfer(run, {"sex": "F"}).write(tmp_path / "F")


def test_mean_heads_and_walks_are_those_of_people_as_they_are(told_run, tmp_path):
    run = loud(told_run, tmp_path)
    men, women = (read(path) for path in reversed(template(run, by="sex").write(tmp_path / "templates")))
    assert np.abs(men - women).max() > 0.01
    traverse(run, num_directions=1, num_steps=3).write(tmp_path / "walks")
    middle = read(tmp_path / "walks" / "traversal_pc01.nii.gz")[..., 1]
    np.testing.assert_allclose(middle, read(template(run).write(tmp_path / "all")[0]), atol=1e-4)


def test_nothing_changed_keeps_the_image_where_detail_is_kept(told_run, tmp_path):
    run = loud(told_run, tmp_path)
    paths = transfer(run, {"sex": "F"}, keep_detail=True).write(tmp_path / "kept")
    table = pd.read_csv(tmp_path / "kept" / "transfer.tsv", sep="\t")
    dataset = run.open_dataset()
    for path, person in zip(paths, table.itertuples(), strict=True):
        row = np.flatnonzero(dataset.cache.table["scan_id"] == person.scan_id)
        change = np.abs(read(path) - read_volumes(dataset.cache, row)[0]).max()
        assert (change < 1e-5) == (person.sex_before == "F")


def test_a_model_that_was_told_nothing_is_moved_in_its_latents(finished_run, tmp_path):
    paths = transfer(finished_run, {"sex": "F"}).write(tmp_path / "out")
    assert len(paths) == finished_run.metrics["num_subjects"]["heldout"]
    manifest = sample(finished_run, 2, given={"sex": "F"}).write(tmp_path / "samples")[0].parents[2] / "manifest.tsv"
    assert set(pd.read_csv(manifest, sep="\t")["sex"]) == {"F"}
    with pytest.raises(UsageError, match="given: got nothing, expected a covariate to change"):
        transfer(finished_run, {})
    with pytest.raises(UsageError, match="split: got test, expected train, validation or heldout"):
        transfer(finished_run, {"sex": "F"}, split="test")
