"""One process fits a run; others are refused, whatever they want of it, and nothing of two fits is mixed."""

import shutil
import subprocess
import sys
import time

import pytest

from mrigen.errors import RunError, UsageError
from mrigen.recipe import load_recipe
from mrigen.runs import open_run
from mrigen.runs.holding import CLAIMS, check_held, held, is_held
from mrigen.system.claims import Claim, is_dead, this_process
from mrigen.training import fit, resume

HOLD = """
import sys, time
from mrigen.runs.holding import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/run; its folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_that_another_fits_into_is_refused(holder, tmp_path):
    with pytest.raises(UsageError, match=rf"run: is being fitted by process {holder.pid} on .*expected a folder"):
        fit(load_recipe("smoke"), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [CLAIMS]
    with pytest.raises(UsageError, match="is being fitted"):
        fit(load_recipe("smoke"), tmp_path / "run", force=True)


def test_who_was_killed_holds_nothing(holder, tmp_path):
    assert is_held(tmp_path / "run")
    holder.kill()
    holder.wait()
    assert not is_held(tmp_path / "run")
    with held(tmp_path / "run"):
        assert is_held(tmp_path / "run")
    assert not is_held(tmp_path / "run")


def test_a_run_that_is_fitted_anew_is_neither_read_nor_resumed(finished_run, holder, tmp_path):
    others = shutil.ignore_patterns(CLAIMS)
    shutil.copytree(finished_run.directory, tmp_path / "run", dirs_exist_ok=True, ignore=others)
    with pytest.raises(RunError, match=r"is being fitted by process .*expected a finished run"):
        open_run(tmp_path / "run")
    with pytest.raises(RunError, match="is being fitted"):
        resume(tmp_path / "run")
    holder.kill()
    holder.wait()
    assert open_run(tmp_path / "run").directory == tmp_path / "run"


def test_what_was_refused_leaves_no_folder(tmp_path):
    shares = {"train": 0.25, "validation": 0.25, "heldout": 0.5}
    recipe = load_recipe("smoke", ["data.num_subjects=4", *(f"data.split.{name}={v}" for name, v in shares.items())])
    with pytest.raises(UsageError, match="expected at least 2"):
        fit(recipe, tmp_path / "deep" / "run")
    assert not (tmp_path / "deep" / "run").exists()


def test_a_fit_that_was_taken_over_writes_no_more(tmp_path):
    with held(tmp_path / "run") as claim:
        check_held(claim)
        claim.release()
        other = Claim.take(tmp_path / "run" / CLAIMS, "fit", this_process(tmp_path / "run" / CLAIMS), is_dead)
        assert other is not None
        with pytest.raises(RunError, match=r"was taken over by process .*Nothing more is written"):
            check_held(claim)
    assert is_held(tmp_path / "run")  # The other's claim was not released.


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_of_two_fits_at_once_one_trains(tmp_path, offset):
    command = [sys.executable, "-c", "from mrigen_cli.main import main; main()", "fit", "smoke", "--quiet"]
    several = []
    for number in (1, 2):
        settings = ["--set", f"model.latent_dim={number}", "--run", str(tmp_path / "run")]
        several.append(subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True))
        time.sleep(offset)
    said = [process.communicate(timeout=280)[1] for process in several]
    statuses = [process.returncode for process in several]
    assert sorted(statuses) == [0, 2], said
    run, winner = open_run(tmp_path / "run"), 1 + statuses.index(0)
    assert run.recipe.model.latent_dim == winner == run.metrics["latent_dim"]
    assert run.load_latents()["loc"].shape[1] == winner
