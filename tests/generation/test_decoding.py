"""From latents back to images."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from conditional import loud

from mrigen.errors import CohortError, UsageError
from mrigen.generation.decoding import decode
from mrigen.generation.encoding import encode
from mrigen.runs.encoding import decode_latents
from mrigen.runs.latents import read_latents


def test_decoded_latents_are_the_reconstructions_of_the_model(finished_run, tmp_path):
    (path,) = encode(finished_run).write(tmp_path / "latents.npz")
    paths = decode(finished_run, path).write(tmp_path / "out")
    scan_ids = finished_run.load_latents()["scan_id"]
    assert [path.name for path in paths] == [f"{scan_id}_desc-decoded_T1w.nii.gz" for scan_id in scan_ids]
    expected = np.clip(decode_latents(finished_run.load_model(), finished_run.load_latents()["loc"]), 0, 1)
    assert np.abs(expected[0] - expected[1]).max() > 0.0
    for number in (0, 9, len(paths) - 1):
        image = nibabel.load(paths[number])
        np.testing.assert_allclose(image.affine, finished_run.affine, atol=1e-4)
        np.testing.assert_allclose(image.get_fdata(), expected[number], atol=1e-6)
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    native = decode(finished_run, path, native_units=True).write(tmp_path / "native")
    low, scale = finished_run.grid["median_low"], finished_run.grid["median_scale"]
    wanted = np.maximum(low + scale * expected[0], 0.0)  # The synthetic brains were cut out, with 0 around.
    np.testing.assert_allclose(nibabel.load(native[0]).get_fdata(), wanted, rtol=1e-4, atol=1e-2)
    with pytest.raises(UsageError, match="is there already"):
        decode(finished_run, path).write(tmp_path / "out")


def test_latents_in_memory_are_as_good_as_a_file(finished_run, tmp_path):
    table = encode(finished_run)
    (path,) = decode(finished_run, table).write(tmp_path)[8:9]
    written, frame = nibabel.load(path).get_fdata(), table.to_frame()
    indexed = frame.set_index(["participant_id", "scan_id"])
    for latents in (table, frame, indexed, table.latents["loc"]):
        images = decode(finished_run, latents)
        assert len(images) == len(table)
        np.testing.assert_array_equal(images[8].get_fdata(), written)
    assert images.names[:2] == ["image-001", "image-002"]
    assert list(decode(finished_run, indexed).names) == list(frame["scan_id"])
    with pytest.raises(CohortError, match=r"latents: got an array of shape \(8,\), expected \(n, latent\)"):
        decode(finished_run, table.latents["loc"][0])
    with pytest.raises(CohortError, match="latents: it has no column loc_001"):
        decode(finished_run, frame[["scan_id"]])


@pytest.mark.parametrize("suffix", [".tsv", ".npz"])
def test_a_told_model_decodes_people_as_they_are(told_run, tmp_path, suffix):
    run = loud(told_run, tmp_path)
    run.subjects.loc[0, "sex"] = None
    run.subjects.loc[1, "age"] = np.nan
    latents = run.load_latents()
    told = run.conditions(latents["scan_id"])
    expected = np.clip(decode_latents(run.load_model(), latents["loc"], told), 0, 1)
    untold = np.clip(decode_latents(run.load_model(), latents["loc"]), 0, 1)
    assert np.abs(expected - untold).max() > 0.01
    (path,) = encode(run).write(tmp_path / f"latents{suffix}")
    assert list(read_latents(path).people) == ["participant_id", "scan_id", "sex", "age", "head_volume_ml"]
    # From the table, and where that says nothing from the run.
    for number, source in enumerate((path, run.directory / "latents.npz")):
        paths = decode(run, source).write(tmp_path / f"out{number}")
        heads = np.stack([nibabel.load(path).get_fdata() for path in paths])
        np.testing.assert_allclose(heads, expected, atol=1e-4)
    women = decode(run, path, given={"sex": "F"}).write(tmp_path / "F")
    told[:, run.covariates.slices()["sex"]] = -1
    expected = np.clip(decode_latents(run.load_model(), latents["loc"], told), 0, 1)
    np.testing.assert_allclose(nibabel.load(women[-1]).get_fdata(), expected[-1], atol=1e-4)


def test_latents_of_another_model_and_covariates_of_none_are_refused(finished_run, tmp_path):
    table = pd.DataFrame({"scan_id": ["a", "b"], "loc_001": [0.5, 1.5], "loc_002": [2.0, -1.0]})
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    with pytest.raises(CohortError, match="got 2 latent variables, expected 8"):
        decode(finished_run, tmp_path / "a.tsv")
    with pytest.raises(UsageError, match="told nothing"):
        decode(finished_run, tmp_path / "a.tsv", given={"sex": "F"})


def test_an_age_that_is_no_number_is_refused(told_run, tmp_path):
    frame = encode(told_run).to_frame().astype({"age": object})
    frame.loc[0, "age"] = "old"
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    with pytest.raises(CohortError, match="age: got old in the table of latents, expected a number"):
        decode(told_run, tmp_path / "a.tsv")
