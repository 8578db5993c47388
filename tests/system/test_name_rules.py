"""One rule for ids: what is one, what its file is called, and what stands for it in a table."""

import csv
import os

import bad_files
import pandas as pd
import pytest

from mrigen.system.files import read_written_table, write_table
from mrigen.system.names import (
    LONGEST_NAME,
    defuse,
    is_safe_name,
    name_fault,
    path_fault,
    restore,
    safe_name,
)

BAD = [*bad_files.NAMES, *bad_files.NAMES_OF_FILES]
FORMULAS = ("=1", "=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "-dev", "+-", "--", "'=1", "''@x", "'-5")
PLAIN = ("", "-", "=", "-5", "+5.2", "-1e-3", ".5", "-.5", "a=b", "sub-01", "'quoted'", "it's", "'", "''", " =1", "n/a")


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.kind)
def test_what_is_no_id_is_told(bad):
    assert name_fault(bad.name)


@pytest.mark.parametrize("name", bad_files.GOOD_NAMES)
def test_odd_ids_are_ids(name):
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../x", *bad_files.GOOD_NAMES, *(bad.name for bad in BAD), "\u00e9" * 99]
)
def test_a_safe_name_is_one_part_of_a_path_and_stays(name):
    safe = safe_name(name)
    assert is_safe_name(safe)
    assert safe_name(safe) == safe
    assert os.path.basename(safe) == safe and safe not in (".", "..") and safe[0] not in ".-"
    assert len(safe.encode()) <= LONGEST_NAME


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_cell_is_a_formula(cell):
    assert defuse(cell) == f"'{cell}"
    assert restore(defuse(cell)) == cell


@pytest.mark.parametrize("cell", PLAIN)
def test_numbers_and_words_stay(cell):
    assert defuse(cell) == cell == restore(cell)


@pytest.mark.parametrize("cell", ["=1", "'=1", "''=1", "'''=1", "'-5", "''-5", "-5", "'x", "@", "'@"])
def test_marks_are_taken_away_as_often_as_they_were_put(cell):
    assert restore(defuse(cell)) == cell
    assert restore(restore(defuse(defuse(cell)))) == cell


def test_a_table_comes_back_as_it_was_written(tmp_path):
    texts = list(dict.fromkeys([*bad_files.GOOD_NAMES, *FORMULAS]))
    frame = pd.DataFrame({"=id": texts, "number": [-1.5] * len(texts), "none": None})
    before = frame.copy()
    write_table(tmp_path / "a.tsv", frame)
    pd.testing.assert_frame_equal(frame, before)
    back = read_written_table(tmp_path / "a.tsv", ["'=id"])
    assert list(back["=id"]) == texts
    assert list(back["number"]) == [-1.5] * len(texts)
    with open(tmp_path / "a.tsv", newline="") as file:
        cells = [cell for row in csv.reader(file, delimiter="\t") for cell in row]
    assert {cell for cell in cells if cell[:1] in "=+-@" and len(cell) > 1} == {"-1.5", "+7"}


def test_a_cell_stays_in_its_line(tmp_path):
    write_table(tmp_path / "a.tsv", pd.DataFrame({"remark": ["one\ntwo\tthree\0"]}))
    assert (tmp_path / "a.tsv").read_text() == "remark\none two three \n"


def test_a_path_that_a_line_cannot_hold_is_told():
    assert path_fault("/data/sub-01 (2) \u3000.nii") is None
    assert "\\n" in path_fault("/data/a\nb.nii")
    assert "UTF-8" in path_fault(os.fsdecode(b"/data/\xff"))
