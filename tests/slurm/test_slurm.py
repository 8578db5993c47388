"""A real SLURM of two nodes on this machine, where Debian's slurm-wlm and munge are installed and root asks."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.slurm import missing


@pytest.mark.skipif(bool(missing()), reason="needs root, slurm-wlm and munge")
def test_a_fit_whose_task_is_killed_ends_as_if_undisturbed(cache_directory, tmp_path):
    command = [sys.executable, "-m", "benchmarks.slurm", "--only=kill", "--epochs=4", "--at-epoch=1"]
    ended = subprocess.run(
        [*command, f"--folder={tmp_path / 'cluster'}"], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "| kill | COMPLETED |" in ended.stdout and "| equal |" in ended.stdout
    assert "no process, no open port, no lock" in ended.stdout
