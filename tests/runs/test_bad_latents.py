"""Files of latents that are none, or too much; odd ids that come back as they were written; HTML."""

import io
import os
import zipfile

import bad_files
import numpy as np
import pandas as pd
import pytest

from mrigen.errors import CohortError, UsageError
from mrigen.runs import latents as module
from mrigen.runs.comparison import render_table
from mrigen.runs.images import check_different, name_images
from mrigen.runs.latents import LatentTable, read_latents
from mrigen.system.names import is_safe_name, safe_name


def make_table(names):
    people = pd.DataFrame({"participant_id": names, "scan_id": [safe_name(name) for name in names]})
    return LatentTable(people, {"loc": np.arange(2.0 * len(names), dtype=np.float32).reshape(-1, 2) - 3})


@pytest.mark.parametrize("ending", ["tsv", "npz"])
def test_odd_ids_are_read_back(tmp_path, ending):
    table = make_table(list(bad_files.GOOD_NAMES))
    table.write(tmp_path / f"a.{ending}")
    back = read_latents(tmp_path / f"a.{ending}")
    assert list(back.people["participant_id"]) == list(bad_files.GOOD_NAMES)
    assert list(back.people["scan_id"]) == list(table.people["scan_id"])
    np.testing.assert_array_equal(back.latents["loc"], table.latents["loc"])


def test_html_shows_ids_and_runs_none():
    shown = make_table(["<script>x</script>"])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_table_of_runs_has_no_formula():
    table = pd.DataFrame({"run": ["=cmd|x!A0"], "mse": [-1.5], "paper_mse": [None]})
    assert "'=cmd|x!A0,-1.5" in render_table(table, "csv")


@pytest.mark.parametrize("build", [os.mkfifo, os.mkdir])
def test_latents_that_are_no_file_are_one_line(tmp_path, build):
    build(tmp_path / "a.npz")
    with pytest.raises(CohortError, match=r"a.npz: no such file, expected latents"):
        read_latents(tmp_path / "a.npz")


def test_arrays_that_promise_too_much_are_one_line(tmp_path, monkeypatch):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**60, 64)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("loc.npy", header.getvalue())
    with pytest.raises(CohortError, match=r"a.npz: cannot be read \(.*\), expected latents"):
        read_latents(tmp_path / "a.npz")
    make_table(["a", "b"]).write(tmp_path / "b.npz")
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(CohortError, match=r"b.npz: cannot be read \(it holds \d+ bytes, of 100 at most\)"):
        read_latents(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["-dev_T1w.nii.gz", ".hidden.nii", ".nii.gz", "a b.nii", "..nii"])
def test_what_is_made_of_an_image_has_a_safe_name(name):
    assert is_safe_name(name_images(f"/data/{name}")[0].stem)


def test_images_that_a_table_cannot_name_are_one_line_each():
    names = [bad_files.bad_name(), "a\nb.nii"]
    with pytest.raises(UsageError) as caught:
        name_images(names)
    for line, name in zip(caught.value.faults, names, strict=True):
        assert line.startswith(f"{name}: got an image whose name ")


def test_images_whose_names_differ_in_case_alone_are_refused():
    with pytest.raises(UsageError, match=r"b/P1.nii: another image has the same name"):
        check_different(name_images(["a/p1.nii", "b/P1.nii"]))
