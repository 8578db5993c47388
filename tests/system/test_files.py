"""Files and folders that appear whole or not at all."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from mrigen.errors import MrigenError
from mrigen.system.files import atomic_directory, atomic_path, read_json, temporary_directory, write_json, write_table


@pytest.fixture
def umask():
    """Sets an unusual umask for the test: files 640, folders 750."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_atomic_path_replaces_the_file_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    for text in ("old", "new"):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            assert (temporary.parent, temporary.name[0]) == (path.parent, ".")
            assert temporary.name.endswith(".nii.gz")
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == text
    assert names(path.parent) == ["a.nii.gz"]


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_atomic_path_leaves_nothing_when_there_was_nothing(tmp_path):
    with pytest.raises(ValueError, match="stop"), atomic_path(tmp_path / "a.txt"):
        raise ValueError("stop")
    assert names(tmp_path) == []


def test_files_and_folders_get_the_modes_that_the_umask_allows(tmp_path, umask):
    with atomic_path(tmp_path / "file"), atomic_directory(tmp_path / "folder"):
        pass
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == (0o640, 0o750)


def test_the_umask_is_not_touched(tmp_path, monkeypatch):
    """To ask for the umask is to set it; two threads that do so at once would leave it at 0."""
    monkeypatch.setattr(os, "umask", None)
    with atomic_path(tmp_path / "file"), atomic_directory(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_one_file_written_by_many_threads_is_one_of_theirs(tmp_path):
    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_json(path, [number] * 1000), range(50)))
    assert len(set(read_json(path))) == 1
    assert names(tmp_path) == ["a.json"]


def test_temporary_directory_is_removed_unless_it_was_renamed(tmp_path):
    with temporary_directory(tmp_path / "deep" / "parent", "name") as temporary:
        (temporary / "a").touch()
        assert (temporary.name[0], temporary.name[-5:]) == (".", "-name")
    with temporary_directory(tmp_path / "deep" / "parent") as temporary:
        os.rename(temporary, temporary.parent / "kept")
    assert names(tmp_path / "deep" / "parent") == ["kept"]


def test_atomic_directory_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(ValueError, match="stop"), atomic_directory(path) as temporary:
        (temporary / "half").touch()
        raise ValueError("stop")
    assert names(tmp_path) == []
    with atomic_directory(path) as temporary:
        (temporary / "a").touch()
        assert not path.exists()
    assert (names(path), names(tmp_path)) == (["a"], ["run"])


def test_atomic_directory_replaces_an_empty_one(tmp_path):
    (tmp_path / "run").mkdir()
    with atomic_directory(tmp_path / "run") as temporary:
        (temporary / "a").touch()
    assert names(tmp_path / "run") == ["a"]


def test_atomic_directory_keeps_what_another_process_finished_first(tmp_path):
    path = tmp_path / "run"
    with atomic_directory(path) as slow:
        (slow / "slow").touch()
        with atomic_directory(path) as fast:
            (fast / "fast").touch()
    assert (names(path), names(tmp_path)) == (["fast"], ["run"])


def test_atomic_directory_does_not_replace_a_file(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(NotADirectoryError), atomic_directory(tmp_path / "run"):
        pass
    assert (tmp_path / "run").read_text() == "mine"
    assert names(tmp_path) == ["run"]


def test_json_comes_back_and_holds_no_nan(tmp_path):
    value = {"b": [1, 2.5, None], "a": "Ångström"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert list(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))) == ["b", "a"]
    with pytest.raises(MrigenError, match="got figures that are NaN or infinite"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == value


def test_tables_say_na_for_what_is_missing(tmp_path):
    write_table(tmp_path / "a.tsv", pd.DataFrame({"id": ["01", None], "age": [np.nan, 0.1]}))
    assert (tmp_path / "a.tsv").read_text() == "id\tage\n01\tn/a\nn/a\t0.1\n"
