"""The page of errors, and a folder to be called in."""

import pytest

from tests.trust.page import Page


@pytest.fixture(scope="session")
def page(request):
    """The page, to be compared with or, with --write-errors, to be written."""
    if request.config.getoption("--write-errors") and hasattr(request.config, "workerinput"):
        pytest.fail("--write-errors: got several processes (-n), expected one, which sees everything. Drop -n.")
    return Page(request.config.getoption("--write-errors"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a case is called."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path
