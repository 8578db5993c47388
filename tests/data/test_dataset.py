"""A recipe's people, images and split, opened together: the synthetic cohort from end to end."""

import numpy as np
import pandas as pd
import pytest

from mrigen.data.dataset import Dataset, open_cohort, open_dataset
from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError
from mrigen.imaging.volumes import read_volume, write_volume
from mrigen.recipe import DataRecipe, parse_recipe

TEXT = """
data:
  source: phantom
  num_subjects: 6
  phantom: {zooms: 8}
  split: {train: 0.5, validation: 0.25, heldout: 0.25}
preprocess: {zooms: 8, volume_shape: [22, 26, 24]}
"""
RECIPE = parse_recipe(TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """$MRIGEN_CACHE, for the tests of this module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MRIGEN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def dataset(folder):
    return open_dataset(RECIPE)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_synthetic_cohort_becomes_volumes_and_a_split(dataset, folder):
    table = dataset.cache.table
    assert len(table) == 6
    assert dataset.cache.directory.parent == folder
    volumes = read_volumes(dataset.cache, np.arange(6))
    assert volumes.shape == (6, 22, 26, 24)
    assert all(0.5 < volume.max() <= 1.0 and volume.min() == 0.0 for volume in volumes)
    # The masks of the cohort were found, and the brains are whole.
    np.testing.assert_allclose(table["brain_volume_ml"], table["brain_volume_true_ml"], rtol=0.05)
    assert (table["lost_fraction"] == 0).all()
    assert set(dataset.split["split"]) == {"train", "validation", "heldout"}
    assert dataset.split["participant_id"].tolist() == table["participant_id"].tolist()


def test_the_same_recipe_is_opened_without_making_anything_again(dataset, folder, monkeypatch):
    before = names(folder)

    def fail(*args, **keys):
        raise AssertionError("made again")

    monkeypatch.setattr("mrigen.data.synthetic.write_phantom_cohort", fail)
    monkeypatch.setattr("mrigen.data.cache.prepare_image", fail)
    again = open_dataset(RECIPE)
    pd.testing.assert_frame_equal(again.split, dataset.split)
    assert again.cache.key == dataset.cache.key
    assert names(folder) == before


def test_another_synthetic_cohort_lies_in_another_folder(tmp_path, monkeypatch):
    roots = []

    def write(root, settings, progress):
        roots.append((root, settings.num_subjects, settings.seed))
        raise InterruptedError

    monkeypatch.setattr("mrigen.data.synthetic.write_phantom_cohort", write)
    for keys in ({"seed": 0}, {"seed": 1}, {"seed": 0}):
        with pytest.raises(InterruptedError):
            open_cohort(DataRecipe(source="phantom", num_subjects=5, phantom=keys), tmp_path)
    assert roots[0] == roots[2]
    assert roots[0][0] != roots[1][0]
    assert [root.parent for root, *_ in roots] == [tmp_path] * 3
    assert [rest for _, *rest in roots[:2]] == [[5, 0], [5, 1]]


def test_rows_are_those_of_the_splits_named(dataset):
    splits = dict(zip(dataset.split["participant_id"], dataset.split["split"], strict=True))
    expected = np.array([splits[person] for person in dataset.cache.table["participant_id"]])
    assert dataset.splits_of_rows().tolist() == expected.tolist()
    assert dataset.rows("train").tolist() == np.flatnonzero(expected == "train").tolist()
    both = np.flatnonzero(expected != "heldout")
    assert dataset.rows("train", "validation").tolist() == both.tolist()
    assert dataset.rows().tolist() == list(range(6))


def test_all_visits_of_a_person_are_in_one_split(dataset):
    table = dataset.cache.table.assign(participant_id=["a", "b", "a", "c", "b", "a"])
    cache = type("Cache", (), {"table": table})()
    split = pd.DataFrame({"participant_id": ["a", "b", "c"], "split": ["train", "heldout", "validation"]})
    visits = Dataset(cache, split)
    assert visits.rows("train").tolist() == [0, 2, 5]
    assert visits.rows("heldout").tolist() == [1, 4]
    assert visits.splits_of_rows().tolist() == ["train", "heldout", "train", "validation", "heldout", "train"]


def test_the_split_of_a_run_is_kept(dataset):
    given = dataset.split.assign(split=["heldout", "train", "train", "validation", "train", "train"])
    if "family" in dataset.cache.table:  # siblings stay together
        siblings = dataset.cache.table.groupby("family")["participant_id"].agg(set)
        for people in siblings:
            member = given["participant_id"].isin(people)
            given.loc[member, "split"] = given.loc[member, "split"].iloc[0]
    opened = open_dataset(RECIPE, split=given)
    pd.testing.assert_frame_equal(opened.split, given)


def test_the_split_of_a_run_must_be_of_the_same_people(dataset):
    person = dataset.split["participant_id"][0]
    with pytest.raises(CohortError, match=rf"split: got 1 people who are not in both .*\({person}\).*Restore the data"):
        open_dataset(RECIPE, split=dataset.split.iloc[1:])
    more = pd.concat([dataset.split, pd.DataFrame({"participant_id": ["sub-new"], "split": ["train"]})])
    with pytest.raises(CohortError, match=r"split: got 1 people .*\(sub-new\)"):
        open_dataset(RECIPE, split=more)


def test_a_person_in_two_splits_is_a_fault(dataset):
    person = dataset.split["participant_id"][0]
    other = {"train": "heldout"}.get(dataset.split["split"][0], "train")
    twice = pd.concat([dataset.split, pd.DataFrame({"participant_id": [person], "split": [other]})])
    with pytest.raises(CohortError, match=rf"split: got {person} in .* and .*, expected one split"):
        open_dataset(RECIPE, split=twice)


def test_no_source_is_a_fault(tmp_path):
    with pytest.raises(CohortError, match=r"data.root: got null, expected a cohort. Name a folder"):
        open_dataset(parse_recipe(""), directory=tmp_path)
    assert names(tmp_path) == []


def test_masks_of_the_synthetic_cohort_can_be_applied(dataset):
    stripped = open_dataset(parse_recipe(TEXT, overrides=["data.apply_mask=true"]))
    assert stripped.cache.key != dataset.cache.key
    shown = (read_volumes(stripped.cache, np.arange(6)) > 0.1).sum(axis=(1, 2, 3)) * 8.0**3 / 1000
    np.testing.assert_allclose(shown, stripped.cache.table["brain_volume_ml"], rtol=0.25)


def test_brains_without_a_mask_stand_beside_masked_heads(tmp_path):
    """Of two cohorts, one with masks: the other's images are what they are without masking."""
    for name, seed in (("a", 1), ("b", 2)):
        write_phantom_cohort(tmp_path / name, PhantomSettings(num_subjects=4, zooms=8.0, seed=seed))
    for path in (tmp_path / "a").glob("derivatives/phantom/sub-*/anat/*_mask.nii.gz"):  # smaller than the brain
        mask = read_volume(path)
        mask.array[12:] = 0
        write_volume(path, mask.array, mask.affine)
    cohorts = f"[{{name: a, root: {tmp_path / 'a'}, mask: phantom}}, {{name: b, root: {tmp_path / 'b'}}}]"
    grid = ["preprocess.zooms=8", "preprocess.volume_shape=[24,28,24]"]
    masked, plain = (
        open_dataset(parse_recipe("", overrides=[f"data.cohorts={cohorts}", f"data.apply_mask={apply}", *grid]))
        for apply in ("true", "false")
    )
    assert masked.notes[-1].startswith("4 images without a mask stay as they are")
    assert not any("without a mask" in note for note in plain.notes)
    volumes = [read_volumes(dataset.cache, np.arange(8)) for dataset in (masked, plain)]
    differ = np.array([not np.array_equal(*pair) for pair in zip(*volumes, strict=True)])
    np.testing.assert_array_equal(differ, masked.cache.table["cohort"] == "a")
