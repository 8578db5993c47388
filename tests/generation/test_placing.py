"""Images that a run writes claim no more of their place than the images that they are made of."""

import gzip

import nibabel
import numpy as np
import pandas as pd
import pytest

from mrigen.generation.reconstruction import reconstruct
from mrigen.generation.sampling import sample
from mrigen.generation.templates import template
from mrigen.generation.transfers import transfer
from mrigen.generation.traversals import traverse
from mrigen.imaging.volumes import read_volume
from mrigen.runs import Run


def codes(image):
    return int(image.header["sform_code"]), int(image.header["qform_code"])


def without_codes(person, path):
    """Writes a person's image without orientation, and returns the path."""
    image = nibabel.load(person["path"])
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    path.write_bytes(gzip.compress(image.to_bytes()))
    return path


def doubt(run, doubts):
    """Says in a copy of a run what the headers of its images left open: person by person, the last for all others."""
    table = pd.read_csv(run.directory / "subjects.tsv", sep="\t", keep_default_na=False)
    table["doubts"] = [*doubts, *doubts[-1:] * len(table)][: len(table)]
    table.to_csv(run.directory / "subjects.tsv", sep="\t", index=False)
    return Run(run.directory)


def test_a_reconstruction_of_an_image_without_orientation_has_none(finished_run, tmp_path, caplog):
    path = without_codes(finished_run.subjects.iloc[0], tmp_path / "lost_T1w.nii.gz")
    with caplog.at_level("WARNING"):
        paths = reconstruct(finished_run, [path]).write(tmp_path / "out")
    assert f"1 of 1 image ({path}): nothing in the header says which way the axes run" in caplog.text
    given = read_volume(path)
    for written in paths:
        assert codes(nibabel.load(written)) == (0, 0)
        volume = read_volume(written)
        np.testing.assert_allclose(volume.affine, given.affine, atol=1e-4)
        assert volume.doubts == given.doubts
    parts = [read_volume(written).array for written in paths]
    np.testing.assert_allclose(parts[0] + parts[1], given.array, atol=1e-3 * given.array.max())


def test_a_cohort_in_memory_keeps_what_its_headers_leave_open(finished_run, tmp_path):
    from mrigen.api.cohorts import write_cohort

    path = without_codes(finished_run.subjects.iloc[0], tmp_path / "lost_T1w.nii.gz")
    _, folder = write_cohort(pd.DataFrame({"path": [nibabel.load(path)]}), finished_run.recipe, tmp_path / "run")
    (written,) = folder.rglob("*.nii.gz")
    assert read_volume(written).doubts == read_volume(path).doubts == ("orientation",)
    np.testing.assert_array_equal(read_volume(written).array, read_volume(path).array)


def test_images_of_a_run_without_orientation_have_none_and_lie_the_right_way_round(finished_run, run_copy, tmp_path):
    lost = doubt(run_copy, ["orientation,units"])
    assert finished_run.is_oriented() and not lost.is_oriented()
    for images in (sample, template):
        known, open_ = images(finished_run)[0], images(lost)[0]
        assert (codes(known), codes(open_)) == ((1, 1), (0, 0))
        nibabel.save(known, tmp_path / "a.nii")
        nibabel.save(open_, tmp_path / "b.nii")
        first, second = read_volume(tmp_path / "a.nii"), read_volume(tmp_path / "b.nii")
        np.testing.assert_array_equal(first.array, second.array)
        np.testing.assert_allclose(first.zooms, second.zooms)
    assert codes(traverse(lost)[0].image) == (0, 0)


@pytest.mark.parametrize(
    ("doubts", "is_oriented"), [(["units,shear"], True), ([""], True), (["identity"], False), (["identity", ""], True)]
)
def test_a_run_has_the_orientation_that_most_of_its_images_have(run_copy, doubts, is_oriented):
    run = doubt(run_copy, doubts)
    assert run.is_oriented() == is_oriented
    assert run.is_oriented(run.subjects["scan_id"].iloc[:1]) == (doubts[0] != "identity")


def test_a_transferred_person_has_the_orientation_of_their_image(run_copy):
    people = pd.read_csv(run_copy.directory / "subjects.tsv", sep="\t")["scan_id"]
    held_out = set(run_copy.load_latents("heldout")["scan_id"])
    first = next(name for name in people if name in held_out)
    run = doubt(run_copy, ["orientation" if name == first else "" for name in people])
    images = transfer(run, {"sex": "F"})
    for index, name in enumerate(images.people["scan_id"]):
        assert codes(images[index]) == ((0, 0) if name == first else (1, 1))


def test_samples_with_fields_lie_in_one_world_of_their_own(morph_run, tmp_path):
    import shutil
    from pathlib import Path

    run = doubt(Run(Path(shutil.copytree(morph_run.directory, tmp_path / "copy"))), ["orientation"])
    samples = sample(run, 1, fields=True)
    for image in (samples[0], samples.displacement(0), samples.log_jacobian(0)):
        assert codes(image) == (2, 0)
        np.testing.assert_allclose(image.affine, run.affine, atol=1e-5)
