"""A real SLURM of two nodes on this machine, where Debian's slurm-wlm and munge are installed and root asks."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.slurm import NO_CLUSTER, missing


@pytest.mark.skipif(bool(missing()), reason="needs root, slurm-wlm and munge")
def test_a_fit_whose_task_is_killed_goes_on_and_leaves_nothing(cache_directory):
    command = [sys.executable, "-m", "benchmarks.slurm", "--only=kill", "--epochs=3", "--at-epoch=1", "--no-compare"]
    # In a temporary folder of its own: paths of sockets may not be as long as those of pytest's folders.
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    if ended.returncode == NO_CLUSTER:
        pytest.skip(f"no SLURM can be started here: {ended.stderr}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "| kill | COMPLETED |" in ended.stdout
    assert "no process, no open port, no lock" in ended.stdout
