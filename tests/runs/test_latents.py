"""Latents as tables."""

import numpy as np
import pandas as pd
import pytest

from mrigen.errors import CohortError, UsageError
from mrigen.generation.encoding import encode
from mrigen.runs.encoding import latent_names
from mrigen.runs.latents import read_latents


@pytest.mark.parametrize("suffix", [".tsv", ".npz"])
def test_a_table_holds_the_latents_of_the_run_to_the_last_bit(finished_run, tmp_path, suffix):
    (path,) = encode(finished_run).write(tmp_path / f"latents{suffix}")
    latents, table = finished_run.load_latents(), read_latents(path)
    assert list(table.people["scan_id"]) == list(latents["scan_id"])
    assert list(table.people["participant_id"]) == list(finished_run.subjects["participant_id"])
    for name in ("loc", "scale"):
        assert table.latents[name].dtype == np.float32
        np.testing.assert_array_equal(table.latents[name], latents[name])
    if suffix == ".tsv":
        header = path.read_text().splitlines()[0].split("\t")
        assert header == ["participant_id", "scan_id", *latent_names(8), *latent_names(8, "scale")]


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


def test_files_that_are_there_are_kept_unless_forced(finished_run, tmp_path):
    table = encode(finished_run)
    with pytest.raises(UsageError, match=r"path: got .*expected a name that ends in \.tsv or \.npz"):
        table.write(tmp_path / "out" / "a.csv")
    assert not (tmp_path / "out").exists()
    table.write(tmp_path / "a.tsv")
    with pytest.raises(UsageError, match="is there already"):
        table.write(tmp_path / "a.tsv")
    table.write(tmp_path / "a.tsv", force=True)
    assert len(table) == 24 and "8 latent variables" in table._repr_html_()
