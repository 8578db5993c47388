"""Latents as tables, of people of the run and of new ones, and back to heads."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from mrigen.generation.latent_files import decode, encode, encode_people, read_latents

from mrigen.errors import CohortError, MrigenError, UsageError
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents, latent_names


def folder_of(run):
    return Path(run.subjects["path"].iloc[0]).parents[2]


@pytest.mark.parametrize("suffix", [".tsv", ".npz"])
def test_a_table_holds_the_latents_of_the_run_to_the_last_bit(finished_run, tmp_path, suffix):
    path = encode(finished_run, tmp_path / f"latents{suffix}")
    latents, table = finished_run.load_latents(), read_latents(path)
    assert list(table.people["scan_id"]) == list(latents["scan_id"])
    assert list(table.people["participant_id"]) == list(finished_run.subjects["participant_id"])
    for name in ("loc", "scale"):
        assert table.latents[name].dtype == np.float32
        np.testing.assert_array_equal(table.latents[name], latents[name])
    if suffix == ".tsv":
        header = path.read_text().splitlines()[0].split("\t")
        assert header == ["participant_id", "scan_id", *latent_names(8), *latent_names(8, "scale")]


def test_new_people_are_encoded_as_the_own_were(finished_run, tmp_path):
    """Of the run's own folder as new people come the run's latents, with masks and without."""
    latents = finished_run.load_latents()
    for mask in ("phantom", None):
        found = encode_people(finished_run, folder_of(finished_run), mask)
        assert list(found.people["scan_id"]) == list(latents["scan_id"])
        np.testing.assert_allclose(found.latents["loc"], latents["loc"], atol=1e-5)
        np.testing.assert_allclose(found.latents["scale"], latents["scale"], atol=1e-5)


def test_new_people_are_those_of_a_table_and_nothing_of_the_own_selection_holds(finished_run, tmp_path):
    chosen = finished_run.subjects.iloc[[3, 1]]
    table = pd.DataFrame({"participant_id": ["x7", "x5"], "path": chosen["path"], "sex": ["1", "2"]})
    table.to_csv(tmp_path / "people.tsv", sep="\t", index=False)
    run = Run(finished_run.directory)
    with pytest.raises(CohortError, match="sex_codes"):
        encode_people(run, tmp_path / "people.tsv")
    found = encode_people(run, tmp_path / "people.tsv", overrides=["data.sex_codes={F: [2], M: [1]}"])
    assert list(found.people["participant_id"]) == ["x5", "x7"]
    np.testing.assert_allclose(found.latents["loc"], run.load_latents()["loc"][[1, 3]], atol=1e-5)


def test_decoded_latents_are_the_reconstructions_of_the_model(finished_run, tmp_path):
    path = encode(finished_run, tmp_path / "latents.npz")
    paths = decode(finished_run, path, tmp_path / "out")
    scan_ids = finished_run.load_latents()["scan_id"]
    assert [path.name for path in paths] == [f"{scan_id}_desc-decoded_T1w.nii.gz" for scan_id in scan_ids]
    expected = np.clip(decode_latents(finished_run.load_model(), finished_run.load_latents()["loc"]), 0, 1)
    assert np.abs(expected[0] - expected[1]).max() > 0.0
    for number in (0, 9, len(paths) - 1):
        image = nibabel.load(paths[number])
        np.testing.assert_allclose(image.affine, finished_run.affine, atol=1e-4)
        np.testing.assert_allclose(image.get_fdata(), expected[number], atol=1e-6)
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    native = decode(finished_run, path, tmp_path / "native", native_units=True)
    scale = finished_run.grid["median_scale"]
    np.testing.assert_allclose(nibabel.load(native[0]).get_fdata(), scale * expected[0], rtol=1e-5, atol=1e-3)
    with pytest.raises(UsageError, match="is there already"):
        decode(finished_run, path, tmp_path / "out")


def loud(run, tmp_path):
    """Returns a copy of a run whose decoder hears its covariates loud."""
    import shutil

    copy = Run(Path(shutil.copytree(run.directory, tmp_path / "loud")))
    model = copy.load_model()
    kernel = model.expand.layers[0].kernel
    values = kernel.numpy()
    values[-model.condition_size :] = np.random.default_rng(0).normal(size=(model.condition_size, values.shape[1]))
    kernel.assign(values)
    model.to_volume.kernel.assign(model.to_volume.kernel + 0.05)
    model.save_weights(copy.directory / "model.weights.h5", overwrite=True)
    return copy


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
    path = encode(run, tmp_path / f"latents{suffix}")
    assert list(read_latents(path).people) == ["participant_id", "scan_id", "sex", "age", "head_volume_ml"]
    # From the table, and where that says nothing from the run.
    for number, source in enumerate((path, run.directory / "latents.npz")):
        paths = decode(run, source, tmp_path / f"out{number}")
        heads = np.stack([nibabel.load(path).get_fdata() for path in paths])
        np.testing.assert_allclose(heads, expected, atol=1e-4)
    women = decode(run, path, tmp_path / "F", given={"sex": "F"})
    told[:, run.covariates.slices()["sex"]] = -1
    expected = np.clip(decode_latents(run.load_model(), latents["loc"], told), 0, 1)
    np.testing.assert_allclose(nibabel.load(women[-1]).get_fdata(), expected[-1], atol=1e-4)


def written(path, **columns):
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)


LOC = {"loc_001": [0.5, 1.5], "loc_002": [2.0, -1.0]}


def test_a_table_needs_ids_and_means_only_and_columns_may_stand_in_any_order(tmp_path):
    path = tmp_path / "a.tsv"
    written(path, loc_2=[2.0, -1.0], participant_id=["007", "8"], other=["x", "y"], loc_1=[0.5, 1.5])
    table = read_latents(path)
    assert list(table.people["scan_id"]) == list(table.people["participant_id"]) == ["007", "8"]
    np.testing.assert_array_equal(table.latents["loc"], [[0.5, 2.0], [1.5, -1.0]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"person": ["a", "b"], **LOC}, "got neither participant_id nor scan_id"),
        ({"scan_id": ["a", "a"], **LOC}, "got a more than once"),
        ({"scan_id": ["../a", "b"], **LOC}, r"got \.\./a as ids"),
        ({"scan_id": [".a", None], **LOC}, r"got \.a, \(empty\) as ids"),
        ({"scan_id": ["a", "b"]}, "no column loc_001"),
        ({"scan_id": ["a", "b"], "loc_001": [1, 2], "loc_003": [1, 2]}, "missing or double"),
        ({"scan_id": ["a", "b"], "loc_001": [1, "x"]}, "latents of b that are no finite numbers"),
        ({"scan_id": ["a", "b"], "loc_001": [np.inf, 1]}, "latents of a that are no finite numbers"),
        ({"scan_id": [], "loc_001": []}, "got nobody"),
    ],
)
def test_faults_of_a_table_are_told(tmp_path, columns, message):
    written(tmp_path / "a.tsv", **columns)
    with pytest.raises(CohortError, match=message):
        read_latents(tmp_path / "a.tsv")


def test_files_that_are_no_tables_are_told(tmp_path):
    np.savez(tmp_path / "pickled.npz", scan_id=np.array(["a", None], dtype=object), loc=np.zeros((2, 3)))
    np.savez(tmp_path / "numbers.npz", scan_id=np.array([1, 2]), loc=np.zeros((2, 3)))
    np.savez(tmp_path / "short.npz", scan_id=np.array(["a", "b"]), loc=np.zeros((3, 3)))
    np.savez(tmp_path / "none.npz", scan_id=np.array(["a", "b"]))
    (tmp_path / "damaged.npz").write_bytes(b"PK nonsense")
    (tmp_path / "empty.tsv").write_bytes(b"")
    (tmp_path / "binary.tsv").write_bytes(bytes(range(256)))
    for name, message in {
        "pickled.npz": "cannot be read",
        "numbers.npz": "ids are numbers",
        "short.npz": r"got loc \(3, 3\) for 2 ids",
        "none.npz": "no array loc",
        "damaged.npz": "cannot be read",
        "empty.tsv": "cannot be read",
        "binary.tsv": "cannot be read",
        "gone.tsv": "no such file",
        "latents.csv": "got another kind of file",
    }.items():
        with pytest.raises(CohortError, match=message) as error:
            read_latents(tmp_path / name)
        assert len(error.value.faults) == 1 and name in str(error.value)


def test_what_cannot_be_encoded_writes_nothing(finished_run, tmp_path):
    out, folder = tmp_path / "out" / "a.tsv", folder_of(finished_run)
    for options, message in [
        ({"mask": "phantom"}, "--mask: got phantom, expected it beside --data"),
        ({"overrides": ["data.suffix=T2w"]}, "--set: got data.suffix=T2w, expected it beside --data"),
        ({"data": folder, "overrides": ["preprocess.zooms=2"]}, "expected one of data"),
        ({"data": folder, "overrides": ["data.apply_mask=true"]}, "."),
        ({"data": tmp_path / "nowhere"}, "no such folder"),
        ({"data": folder, "mask": "nothing"}, "nothing"),
    ]:
        with pytest.raises(MrigenError, match=message):
            encode(finished_run, out, **options)
    with pytest.raises(UsageError, match=r"expected a name that ends in \.tsv or \.npz"):
        encode(finished_run, tmp_path / "out" / "a.csv")
    assert not out.parent.exists()
    encode(finished_run, tmp_path / "a.tsv")
    with pytest.raises(UsageError, match="is there already"):
        encode(finished_run, tmp_path / "a.tsv")
    encode(finished_run, tmp_path / "a.tsv", force=True)


def test_a_run_of_stripped_brains_asks_for_masks(finished_run, tmp_path):
    import shutil

    run = Run(Path(shutil.copytree(finished_run.directory, tmp_path / "run")))
    recipe = run.directory / "recipe.yaml"
    text = recipe.read_text()
    assert text.count("apply_mask: false") == 1
    recipe.write_text(text.replace("apply_mask: false", "apply_mask: true"))
    with pytest.raises(UsageError, match="--mask: got nothing, expected the masks of the new people"):
        encode_people(run, folder_of(run))
    stripped = encode_people(run, folder_of(run), "phantom").latents["loc"]
    plain = encode_people(run, folder_of(run), overrides=["data.apply_mask=false"]).latents["loc"]
    np.testing.assert_allclose(plain, run.load_latents()["loc"], atol=1e-5)
    assert np.abs(stripped - plain).max() > 1e-4


def test_latents_of_another_model_and_covariates_of_none_are_refused(finished_run, tmp_path):
    written(tmp_path / "a.tsv", scan_id=["a", "b"], **LOC)
    with pytest.raises(CohortError, match="got 2 latent variables, expected 8"):
        decode(finished_run, tmp_path / "a.tsv", tmp_path / "out")
    with pytest.raises(UsageError, match="told nothing"):
        decode(finished_run, tmp_path / "a.tsv", tmp_path / "out", given={"sex": "F"})
    assert not (tmp_path / "out").exists()


def test_an_age_that_is_no_number_is_refused(told_run, tmp_path):
    frame = encode_people(told_run).to_frame().astype({"age": object})
    frame.loc[0, "age"] = "old"
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    with pytest.raises(CohortError, match="age: got old in the table of latents, expected a number"):
        decode(told_run, tmp_path / "a.tsv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
