"""Progress bars: drawn in a terminal, silent elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from mrigen.system.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work():
    with progress_bar("Preparing", 3, unit="images") as advance:
        advance()
        print("a line meanwhile", file=sys.stderr)
        advance(0, completed=3, total=3)


def test_progress_is_silent_without_a_terminal(capfd):
    work()
    assert capfd.readouterr() == ("", "a line meanwhile\n")


def test_progress_is_drawn_on_stderr_of_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    work()
    drawn = terminal.getvalue()
    for text in ("Preparing", "3/3", "images/s", "a line meanwhile"):
        assert text in drawn
    assert capsys.readouterr().out == ""


def test_progress_ends_with_the_error_of_its_block(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ValueError, match="stop"), progress_bar("Preparing", 3):
        raise ValueError("stop")


def test_progress_is_drawn_as_html_in_a_notebook(monkeypatch, capfd):
    shown = []

    def display(picture, display_id):
        shown.append(picture)
        return SimpleNamespace(update=shown.append)

    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    monkeypatch.setattr("mrigen.system.progress._REDRAW", 0.0)
    work()
    assert "Preparing" in shown[0] and "0/3" in shown[0]
    assert 'value="1" max="3"' in shown[1] and "images/s" in shown[1]
    assert "3/3" in shown[2] and shown[-1] == ""
    assert capfd.readouterr() == ("", "a line meanwhile\n")


def test_progress_is_silent_when_asked_to_be(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("MRIGEN_QUIET", "1")
    work()
    assert terminal.getvalue() == "a line meanwhile\n"
