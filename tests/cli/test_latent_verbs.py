"""The verbs around latents, from the command line."""

from pathlib import Path

import nibabel
import pytest
from mrigen_cli.main import main


@pytest.fixture
def call(capfd, monkeypatch):
    """Returns a function that runs the command line and returns (status, stdout, stderr)."""
    monkeypatch.setenv("MRIGEN_QUIET", "")

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return exit_info.value.code, captured.out, captured.err

    return run


def test_a_session_around_latents(call, finished_run, tmp_path):
    run, people = ("--run", finished_run.directory), finished_run.subjects
    root = Path(people["path"].iloc[0]).parents[2]
    table = tmp_path / "latents.tsv"
    assert call("encode", *run, "--data", root, "--mask", "phantom", "-o", table)[:2] == (0, f"{table}\n")
    status, out, _ = call("decode", table, *run, "-o", tmp_path / "decoded")
    assert status == 0 and all(nibabel.load(path).shape == (24, 28, 24) for path in out.split())
    assert len(out.split()) == len(people)
    status, out, _ = call("reconstruct", *people["path"].iloc[:2], *run, "-o", tmp_path / "own")
    assert status == 0 and len([Path(path).is_file() for path in out.split()]) == 4
    status, out, _ = call("interpolate", *people["participant_id"].iloc[:2], *run, "--steps", 3, "-o", tmp_path / "i")
    assert status == 0 and nibabel.load(out.strip()).shape[-1] == 3
    status, out, err = call("latents", *run, "-o", tmp_path / "maps")
    assert status == 0 and all(Path(path).is_file() for path in out.split())
    assert "age: " in err and "latent variables go with it (q < 0.05)" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode"], "Missing option"),
        (["encode", "-o", "a.csv"], "expected a name that ends in .tsv or .npz"),
        (["encode", "-o", "a.tsv", "--data", "nowhere"], "nowhere: no such folder or table"),
        (["decode", "nowhere.tsv"], "nowhere.tsv: no such file"),
        (["decode", "nowhere.tsv", "--given", "sex=F"], "for a model that is told nothing"),
        (["reconstruct"], "Missing argument"),
        (["reconstruct", "nowhere.nii"], "nowhere.nii: no such file"),
        (["interpolate", "nobody", "nothing"], "nobody: got neither a participant"),
        (["interpolate", "a", "b", "--steps", "1"], "--steps: got 1"),
    ],
)
def test_bad_usage_exits_with_2_and_writes_nothing(call, finished_run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(finished_run.directory.iterdir())
    status, out, err = call(*arguments, "--run", finished_run.directory)
    assert (status, out) == (2, "")
    assert message in err and "Traceback" not in err
    assert not list(tmp_path.iterdir()) and sorted(finished_run.directory.iterdir()) == before
