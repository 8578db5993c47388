"""What the library says where nobody set up a log: warnings that name the caller's line, and nothing else."""

import logging
import subprocess
import sys
import warnings

import pytest

from mrigen.errors import MrigenWarning
from mrigen.system.notices import noting, warn_of_warnings

LOGGER = logging.getLogger("mrigen.somewhere")


@pytest.fixture
def library_logger(monkeypatch):
    """The library's logger as it is where nobody set one up."""
    logger = logging.getLogger("mrigen")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.manager._clear_cache()
    warn_of_warnings()
    yield logger
    logger.manager._clear_cache()


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_what_matters_becomes_a_warning_at_the_line_of_the_caller(library_logger, tmp_path):
    from mrigen.data.memo import Checked, FileMemo, FileStamp

    (tmp_path / "file").touch()
    memo = FileMemo(tmp_path / "file" / "memo.sqlite")
    with pytest.warns(MrigenWarning, match="files are read again") as caught:
        memo.put_many({"a.nii": Checked(FileStamp(1, 1), "digest")})
    assert [warning.filename for warning in caught] == [__file__]


def test_warnings_of_the_library_can_be_errors(library_logger):
    with warnings.catch_warnings(), pytest.raises(MrigenWarning, match="collapsed"):
        warnings.simplefilter("error", MrigenWarning)
        LOGGER.warning("collapsed")


def test_notes_reach_the_librarys_own_handlers_but_no_log_that_shows_warnings(library_logger, monkeypatch):
    root, own = Kept(), Kept()
    monkeypatch.setattr(logging.getLogger(), "handlers", [root])
    library_logger.addHandler(own)
    with noting(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LOGGER.info("a note")
        LOGGER.warning("a warning")
    LOGGER.info("not kept")
    assert own.lines == ["a note", "a warning"]
    assert root.lines == ["a warning"]
    assert library_logger.propagate and len(library_logger.handlers) == 2


def test_python_without_a_log_says_warnings_once_and_no_notes():
    code = """
import logging, mrigen
logging.getLogger("mrigen.x").info("a note")
logging.getLogger("mrigen.x").warning("a warning")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr.count("a warning") == 1
    assert "MrigenWarning" in done.stderr and "a note" not in done.stderr
