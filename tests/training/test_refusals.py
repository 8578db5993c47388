"""One set of refusals for all that begin fits. What they refuse is said in processes of their own: without TensorFlow,
as a person would see it."""

import json
import os
import subprocess
import sys

import pytest

from mrigen.cluster import fit_job
from mrigen.errors import RunError, UsageError
from mrigen.recipe import load_recipe
from mrigen.training.refusals import check_size, find_refusals, refuse_fit, refuse_resume

VERBS = {
    "check": ["check"],
    "fit": ["fit"],
    "sweep": ["sweep", "--over", "training.learning_rate=1e-3,2e-3"],
    "submit fit": ["submit", "fit"],
    "submit sweep": ["submit", "sweep", "--over", "training.learning_rate=1e-3,2e-3"],
}
TOO_LARGE = ["model.channels=[4096,4096]", "model.latent_dim=65536", "preprocess.volume_shape=200"]
NOBODY = ["data.split={train: 0.01, validation: 0.01, heldout: 0.98}", "data.num_subjects=4"]
# Name -> (settings of the smoke recipe, how each line begins).
BAD = {
    "a start that is not there": (["training.start_from=nowhere"], ["training.start_from: nowhere: no such folder"]),
    "a start that is no run": (["training.start_from=."], ["training.start_from: .: no recipe.yaml"]),
    "trackers": (
        ["training.trackers=[wandb,mlflow]"],
        ["training.trackers: got wandb", "training.trackers: got mlflow"],
    ),
    "a split that leaves one": (NOBODY, ["data: got 1 training images, expected at least 2"]),
    "too few people": (
        ["data.num_subjects=3"],
        ["--set data.num_subjects=3: data.num_subjects: got 3, expected an integer from 4"],
    ),
    "a split that is not there": (["data.split.file=nowhere.tsv"], ["nowhere.tsv: no such file"]),
    "float16 on several": (
        ["training.precision=float16", "training.devices=2"],
        ["training.precision: got float16 (with loss scaling) on several devices"],
    ),
    "a batch that cannot be divided": (
        ["training.devices=2", "training.batch_size=5"],
        ["training.batch_size: got 5, expected a multiple of the 2 devices"],
    ),
    "a model that no machine holds": (TOO_LARGE, ["model: got at least 1,180,872,458,752 weights"]),
    "a grid without end": (
        ["preprocess.volume_shape=4000"],
        ["--set preprocess.volume_shape=4000: preprocess: got volume_shape [4000, 4000, 4000]"],
    ),
    "voxels of nothing": (
        ["preprocess.zooms=1e-300"],
        ["--set preprocess.zooms=1e-300: preprocess: got zooms [1e-300"],
    ),
    "one site to tell apart": (
        ["data.phantom.num_sites=1", "model.condition=[site]"],
        ["covariate site: got "],
    ),
    "no such cohort": (
        ["data.source=files", "data.root=/nowhere"],
        ["/nowhere: no such folder or table"],
    ),
    "four at once": (
        [*NOBODY, "training.start_from=nowhere", "training.trackers=[wandb]", *TOO_LARGE],
        ["data: got 1", "training.trackers: got wandb", "model: got at least", "training.start_from: nowhere"],
    ),
}
# Each case with each verb, as the command line does it; what became of it goes out as JSON.
DRIVER = """
import contextlib, io, json, sys
from mrigen_cli.main import main
verbs, cases, tensorflow = json.loads(sys.argv[1]), json.loads(sys.argv[2]), "tensorflow"
said = {}
for case, settings in cases.items():
    for verb, words in verbs.items():
        err, status = io.StringIO(), None
        options = [part for setting in settings for part in ("--set", setting)]
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(err):
            try:
                main([*words, "smoke", *options])
            except SystemExit as end:
                status = end.code
        said.setdefault(case, {})[verb] = [status, err.getvalue().splitlines()]
print(json.dumps([said, tensorflow in sys.modules]))
"""


def say(cases, folder, **environment):
    """Returns case -> verb -> (status, lines) of refusals, all of which have to come without TensorFlow."""
    sbatch = folder.parent / "tools" / "sbatch"
    sbatch.parent.mkdir(exist_ok=True)
    sbatch.write_text("#!/bin/sh\ntouch submitted\necho 1\n")
    sbatch.chmod(0o755)
    folder.mkdir()
    path = f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "MRIGEN_CACHE": str(folder.parent / "cache"), **environment}
    command = [sys.executable, "-c", DRIVER, json.dumps(VERBS), json.dumps(cases)]
    ended = subprocess.run(command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said, has_tensorflow = json.loads(ended.stdout.splitlines()[-1])
    assert not has_tensorflow
    return said


def test_check_fit_sweep_and_submit_refuse_the_same_with_the_same_lines_and_write_nothing(tmp_path):
    folder = tmp_path / "here"
    said = say({case: settings for case, (settings, _) in BAD.items()}, folder)
    for case, (_, beginnings) in BAD.items():
        assert all(status == 2 for status, _ in said[case].values()), (case, said[case])
        (_, lines), *others = said[case].values()
        assert [other for _, other in others] == [lines] * len(others), (case, said[case])
        assert len(lines) == len(beginnings), lines
        for line, beginning in zip(lines, beginnings, strict=True):
            assert line.startswith(f"mrigen: {beginning}")
    assert not list(folder.iterdir())
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_made_is_told_by_all(tmp_path):
    (tmp_path / "file").write_text("")
    said = say({"a file": []}, tmp_path / "here", MRIGEN_CACHE=str(tmp_path / "file" / "cache"))
    lines = {line for _, own in said["a file"].values() for line in own}
    assert len(lines) == 1
    assert f"({tmp_path}/file is a file), expected a folder for the cache. Set MRIGEN_CACHE" in lines.pop()


def test_too_little_space_is_a_fault_only_while_there_is_no_cache(finished_run, monkeypatch, tmp_path):
    recipe = load_recipe("smoke")
    usage = os.statvfs(tmp_path)
    full = type("Usage", (), {"free": 1000, "total": usage.f_blocks})
    monkeypatch.setattr("mrigen.data.contents.shutil.disk_usage", lambda path: full)
    refuse_fit(recipe)  # The cache of the finished run.
    with pytest.raises(UsageError, match="got 0 MB of free space, expected at least 1 MB for the cache"):
        refuse_fit(load_recipe("smoke", ["preprocess.volume_shape=32"]))


def test_where_a_fit_cannot_write_is_told_with_the_rest(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "other").write_text("")
    recipe = load_recipe("smoke", ["training.trackers=[wandb]"])
    for directory, said in (("file/run", "is a file, expected a folder"), ("folder", "exists and is no run")):
        lines = [line for error in find_refusals([recipe], tmp_path / directory) for line in error.faults]
        assert len(lines) == 2 and said in lines[0] and "wandb" in lines[1]
    with pytest.raises(UsageError, match="exists and is no run"):
        fit_job("smoke", tmp_path / "folder")


def test_what_this_machine_cannot_hold_may_be_sent_to_another():
    recipe = load_recipe("smoke", ["model.latent_dim=65536", "preprocess.volume_shape=200", "model.channels=256"])
    check_size(recipe, is_here=False)
    with pytest.raises(UsageError, match="GiB that this machine has"):
        check_size(recipe)


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "morph"])
def test_a_model_has_no_fewer_weights_than_it_was_said_to_have(kind):
    from mrigen.models import build_model, model_recipe

    keys = {"channels": [4, 6], "blocks": 2, "latent_dim": 5}
    keys |= {"linear_fields": True, "appearance_modes": 2, "field_channels": 4} if kind == "morph" else {}
    recipe = model_recipe(kind, **keys)
    count = build_model(recipe, (16, 20, 17)).count_params()
    assert 0.4 * count <= recipe.least_weights((16, 20, 17)) <= count


def test_a_job_that_goes_on_with_a_run_of_another_recipe_is_refused(finished_run):
    fit_job("smoke", finished_run.directory)
    with pytest.raises(RunError, match=r"the recipe given: training\.epochs: got 9, expected 2"):
        fit_job("smoke", finished_run.directory, ["training.epochs=9"])
    with pytest.raises(RunError, match="no such folder"):
        refuse_resume(finished_run.directory / "nothing")
