"""Mean heads of a run."""

import nibabel
import numpy as np
import pytest

from mrigen.errors import UsageError
from mrigen.generation.templates import template


def test_the_template_is_the_decoded_mean_of_the_training_people(finished_run, tmp_path):
    (path,) = template(finished_run).write(tmp_path)
    assert path == tmp_path / "template.nii.gz"
    image = nibabel.load(path)
    np.testing.assert_allclose(image.affine, finished_run.affine)
    latents = finished_run.load_latents()
    people = finished_run.split.query("split == 'train'")["participant_id"]
    train = finished_run.subjects.set_index("scan_id").loc[latents["scan_id"], "participant_id"].isin(people).to_numpy()
    mean = latents["loc"][train].mean(axis=0, keepdims=True)
    expected = np.clip(finished_run.load_model().decode(mean)[0, ..., 0], 0, 1)
    np.testing.assert_allclose(image.get_fdata(), expected, atol=1e-2)
    assert (tmp_path / "template.png").is_file()


def test_the_template_of_a_morphing_model_is_the_one_it_learned(morph_run, tmp_path):
    (path,) = template(morph_run).write(tmp_path)
    learned = morph_run.load_model().template
    np.testing.assert_allclose(nibabel.load(path).get_fdata(), np.clip(learned, 0, 1), atol=1e-6)


def test_a_template_of_each_group(morph_run, tmp_path):
    paths = template(morph_run, by="sex").write(tmp_path)
    assert [path.name for path in paths] == ["template_sex-F.nii.gz", "template_sex-M.nii.gz"]
    female, male = (nibabel.load(path).get_fdata() for path in paths)
    assert np.abs(female - male).max() > 0
    images = template(morph_run, by="sex")
    np.testing.assert_array_equal(images[1].get_fdata(), male)
    training = morph_run.subjects.merge(morph_run.split.query("split == 'train'"), on="participant_id")
    assert list(images.to_frame()["num_people"]) == [(training["sex"] == sex).sum() for sex in "FM"]


def test_files_that_are_there_are_kept_unless_forced(finished_run, tmp_path):
    (path,) = template(finished_run).write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        template(finished_run).write(tmp_path)
    template(finished_run).write(tmp_path, force=True)
    assert path.read_bytes() == before


def test_a_column_that_is_not_there_is_refused(finished_run):
    with pytest.raises(UsageError, match=r"by: got gender, expected a column of .*Known: .*sex"):
        template(finished_run, by="gender")


def test_a_column_without_values_makes_no_groups(finished_run):
    with pytest.raises(UsageError, match="by: column session_id has 0 values among the training people"):
        template(finished_run, by="session_id")
