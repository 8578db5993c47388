"""The list of runs: how far each is, and its validation figures."""

import json
import shutil

import pytest

from mrigen.errors import RunError
from mrigen.runs.listing import list_runs, read_history, render_runs


def test_states_and_figures_of_runs(finished_run, tmp_path):
    names = ("whole", "half", "bare", "older")
    whole, half, bare, older = (shutil.copytree(finished_run.directory, tmp_path / name) for name in names)
    before = {name: value for name, value in finished_run.metrics.items() if name != "validation"}
    (older / "metrics.json").write_text(json.dumps(before))
    for directory in (half, bare):
        (directory / "metrics.json").unlink()
    (half / "checkpoint").mkdir()
    (half / "checkpoint" / "progress.json").write_text(json.dumps({"epoch": 1, "best_epoch": 0}))
    table = list_runs(tmp_path).set_index("run")
    assert table.loc[str(whole), "state"] == "finished"
    assert table.loc[str(half), "state"] == "waiting to resume"
    assert table.loc[str(bare), "state"] == "unfinished"
    history = read_history(whole)
    best = finished_run.metrics["best_epoch"] - 1
    assert table.loc[str(older), "validation_elbo"] == history[best]["val_elbo_nats"]
    assert table.loc[str(whole), "validation_elbo"] == finished_run.metrics["validation"]["elbo_nats"]
    assert finished_run.metrics["validation"]["mse"] == pytest.approx(history[best]["val_mse"], rel=0.2)
    assert table.loc[str(half), "validation_mse"] == history[0]["val_mse"]
    assert "1/2" in render_runs(list_runs(half))


def test_a_folder_without_runs_is_told(tmp_path):
    with pytest.raises(RunError, match="no run, expected at least one"):
        list_runs(tmp_path)
    with pytest.raises(RunError, match="no such folder, expected a folder of runs"):
        list_runs(tmp_path / "none")


def test_half_a_line_of_a_history_is_left_out(tmp_path):
    (tmp_path / "history.csv").write_bytes(b"epoch,loss\r\n0,2.5\r\n1,2")
    assert read_history(tmp_path) == [{"epoch": 0.0, "loss": 2.5}]


@pytest.mark.parametrize(
    "content",
    [
        b"\xf4\xff\n0\n",
        b"epoch,lo\xacss\n0,2.5\n",
        b"epoch,loss\n0,much\n",
        b"epoch,loss\n0\n",
        b"epoch\n0,1\n",
        b"loss\n1\n",
    ],
    ids=["noise", "not UTF-8", "text", "too few", "too many", "no epochs"],
)
def test_what_is_no_history_is_told(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"history.csv: not the history of a fit \(.*Restore the file, or fit again"):
        read_history(tmp_path)


def test_a_history_with_a_field_without_end_is_told(tmp_path):
    (tmp_path / "history.csv").write_bytes(b"epoch,loss\n0," + b"1" * 200_000 + b"\n")
    with pytest.raises(RunError, match=r"not the history of a fit \(field larger than"):
        read_history(tmp_path)
