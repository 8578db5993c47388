"""Claims: one holder at a time, on any host; the dead lose them, the silent too, the living never."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mrigen.system import claims
from mrigen.system.claims import RELEASED, STALE_SECONDS, Claim, is_dead, this_process


def take(folder, owner=None):
    return Claim.take(folder, "fit", this_process(folder) if owner is None else owner, is_dead)


def silence(claim, seconds):
    os.utime(claim.path, (time.time() - seconds,) * 2)


@pytest.fixture
def dead_process(tmp_path):
    """What a process said of itself that is dead now."""
    code = (
        "import pathlib, sys; from mrigen.system import claims; print(claims.this_process(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_one_holds_until_it_releases(tmp_path):
    claim = take(tmp_path)
    assert claim.holds and take(tmp_path) is None
    silence(claim, 10 * STALE_SECONDS)
    assert take(tmp_path) is None  # It is silent, but seen to live.
    claim.release()
    again = take(tmp_path)
    assert again.generation == 1 and not claim.holds


def test_the_dead_of_this_host_lose_at_once(tmp_path, dead_process):
    first = take(tmp_path, dead_process)
    assert take(tmp_path) is not None and not first.holds


def test_a_process_number_that_was_given_again_is_no_life(tmp_path):
    owner = json.loads(this_process(tmp_path)) | {"began": "1"}
    take(tmp_path, json.dumps(owner))
    assert take(tmp_path) is not None


def test_of_another_host_silence_decides(tmp_path, monkeypatch, dead_process):
    monkeypatch.setattr(claims, "_host", lambda: "another")
    theirs = take(tmp_path)
    monkeypatch.undo()
    assert take(tmp_path) is None
    silence(theirs, STALE_SECONDS + 1)
    ours = take(tmp_path)
    assert ours is not None and not theirs.holds
    theirs._beat_at = float("-inf")
    assert theirs.beat() is False


def test_another_container_on_this_host_is_another_host(tmp_path, monkeypatch):
    own = this_process(tmp_path)
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]")
    assert is_dead(own) is None


def test_a_copy_of_a_folder_is_nobodys(tmp_path):
    (tmp_path / "own").mkdir()
    take(tmp_path / "own")
    shutil.copytree(tmp_path / "own", tmp_path / "copy")
    assert take(tmp_path / "copy") is not None and take(tmp_path / "own") is None


def test_a_job_that_slurm_begins_again_has_what_it_had(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(claims, "_host", lambda: "node1")
    take(tmp_path)
    monkeypatch.setattr(claims, "_host", lambda: "node2")
    assert take(tmp_path) is None  # Another process of the same job.
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert take(tmp_path) is not None


def test_who_holds_is_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.02)
    claim = take(tmp_path)
    with claim.kept():
        silence(claim, 1000)
        deadline = time.monotonic() + 20
        while time.time() - claim.path.stat().st_mtime > 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - claim.path.stat().st_mtime < 100
    assert claim.path.read_text() == RELEASED


RACE = """
import sys, time
from pathlib import Path
from mrigen.system.claims import Claim, is_dead, this_process
folder, at = Path(sys.argv[1]), float(sys.argv[2])
while time.time() < at:
    pass
print(Claim.take(folder, "fit", this_process(folder), is_dead) is not None)
time.sleep(1)
"""


@pytest.mark.parametrize("is_first", [True, False])
def test_of_many_at_once_one_has_it(tmp_path, dead_process, is_first):
    if not is_first:
        take(tmp_path, dead_process)
    at = str(time.time() + 3.0)
    several = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), at], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in several]
    assert sorted(said) == ["False", "False", "False", "True"]


KILLED = """
import os, signal, sys
from pathlib import Path
from mrigen.system.claims import Claim, is_dead, this_process
folder, events = Path(sys.argv[1]), 0
def hook(event, arguments):
    global events
    if event in ("open", "os.link", "os.remove", "os.rename") and str(folder) in str(arguments[0]):
        events += 1
        if events == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
owner = this_process(folder)
sys.addaudithook(hook)
Claim.take(folder, "fit", owner, is_dead)
"""


@pytest.mark.parametrize("write", [1, 2, 3])
def test_who_is_killed_while_claiming_is_not_waited_for(tmp_path, write):
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(write)])
    assert ended.returncode == -signal.SIGKILL
    assert take(tmp_path) is not None


def test_without_hard_links_one_has_it_all_the_same(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr(claims.os, "link", refuse)
    first = take(tmp_path)
    assert first is not None and take(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]
