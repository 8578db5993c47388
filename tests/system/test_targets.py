"""What a killed command left of its own is no obstacle to the next; what anybody finished is."""

import json
import subprocess
import sys

import pytest

from mrigen.errors import UsageError
from mrigen.system.targets import refuse_taken, writing

KILLED = """
import os, signal, sys
from pathlib import Path
from mrigen.system.targets import writing
paths = [Path(name) for name in sys.argv[1:]]
with writing(paths):
    paths[0].write_text("first")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_files_of_a_command_that_was_killed_may_be_written_again_and_no_others(tmp_path):
    mine, hers, later = (tmp_path / name for name in ("mine", "hers", "later"))
    hers.write_text("precious")
    subprocess.run([sys.executable, "-c", KILLED, mine, later, hers], check=False)
    assert mine.read_text() == "first"
    refuse_taken([mine, later], force=False)
    with pytest.raises(UsageError, match="hers: is there already"):
        refuse_taken([mine, hers], force=False)
    with writing([mine]):
        mine.write_text("second")
    with pytest.raises(UsageError, match="mine: is there already"):
        refuse_taken([mine], force=False)
    refuse_taken([mine, hers], force=True)
    (note,) = tmp_path.glob(".tmp-*")
    assert json.loads(note.read_text())["files"] == [str(later)]
    with writing([later]):
        later.write_text("")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hers", "later", "mine"]


def test_files_that_are_being_written_are_taken(tmp_path):
    path = tmp_path / "file"
    with writing([path]):
        path.write_text("")
        code = "import sys; from pathlib import Path; from mrigen.system.targets import refuse_taken\n"
        code += "refuse_taken([Path(sys.argv[1])], False)"
        ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        assert "is there already" in ended.stderr


def test_what_failed_halfway_may_be_written_again(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError), writing([path]):
        path.write_text("half")
        raise OSError("full")
    refuse_taken([path], force=False)
