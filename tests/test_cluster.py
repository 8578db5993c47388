"""Jobs, with commands in the place of SLURM's that say what SLURM would."""

import os

import pytest

from mrigen.cluster import ClusterError, Resources, job_script, last_line, list_jobs, submit
from mrigen.errors import UsageError


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Returns a function that puts a command into PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.chdir(tmp_path)

    def put(name, script):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)

    for name in ("sacct", "scontrol", "squeue"):
        put(name, "exit 1")
    return put


def test_the_script_queues_itself_again():
    text = job_script("a", ["mrigen", "fit", "my recipe"], Resources("gpu", "1:00", 2, 4, "8G", 3), "log-%j.txt")
    for option in ("partition=gpu", "time=1:00", "nodes=2", "gpus-per-node=4", "mem=8G", "requeue", "signal=USR1@120"):
        assert f"#SBATCH --{option}\n" in text
    assert "srun --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 mrigen fit 'my recipe'\n" in text
    assert "--array=0-7%2\n" in job_script("a", ["x"], Resources(), "log", 8, 2)


def test_bad_options_are_told_together():
    with pytest.raises(UsageError) as caught:
        Resources(partition="a b", others=("-x",)).options()
    assert len(caught.value.faults) == 2


def test_a_job_is_submitted_and_listed(slurm, tmp_path):
    slurm("sbatch", "echo '42;cluster'")
    slurm("squeue", "echo '42|RUNNING|None'")
    folder = tmp_path / "jobs" / "a"
    assert submit(folder, "#!/bin/sh\n", {"name": "fit a"}) == "42"
    (folder / "log-42.txt").write_text("one\nFitting 1\rFitting 2\n\n")
    assert list_jobs() == [{"job": "42", "name": "fit a", "state": "RUNNING", "reason": "", "last": "Fitting 2"}]
    slurm("scontrol", "echo 'JobId=42 JobState=COMPLETED ExitCode=0:0'")
    slurm("squeue", "exit 1")
    assert list_jobs()[0]["state"] == "COMPLETED"


def test_what_slurm_refuses_leaves_nothing(slurm, tmp_path):
    slurm("sbatch", "echo 'invalid partition' >&2; exit 1")
    with pytest.raises(ClusterError, match="sbatch refused: invalid partition"):
        submit(tmp_path / "jobs" / "a", "#!/bin/sh\n", {"name": "a"})
    assert not list((tmp_path / "jobs").iterdir())
    with pytest.raises(UsageError, match="no jobs"):
        list_jobs()


def test_a_refused_job_leaves_no_folder_of_its_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    reserved = tmp_path / "runs" / "mine"
    reserved.mkdir(parents=True)
    for run in (reserved, tmp_path / "runs" / "other"):
        with pytest.raises(ClusterError):
            submit(tmp_path / "job", "", {"name": "fit", "run": str(run)})
    assert list((tmp_path / "runs").iterdir()) == []
    (reserved / "more").mkdir(parents=True)
    with pytest.raises(ClusterError):
        submit(tmp_path / "job", "", {"name": "fit", "run": str(reserved)})
    assert (reserved / "more").is_dir()


def test_no_slurm_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no such command, expected SLURM"):
        submit(tmp_path / "jobs", "", {"name": "a"})


def test_the_last_line_of_an_empty_log_is_empty(tmp_path):
    (tmp_path / "log").write_text("\n \n")
    assert last_line(tmp_path / "log") == ""
