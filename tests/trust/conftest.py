"""The page of errors, and a folder to be called in."""

import pytest

from tests.trust.page import Page


@pytest.fixture(scope="session")
def page(request):
    """The page; written in the end with --write-errors."""
    page = Page(request.config.getoption("--write-errors"))
    yield page
    if page.writes:
        page.write()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a case is called."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path
