import csv
import json
import shutil

import numpy as np
import pytest

from mrigen.errors import RunError, TrainingError, UsageError
from mrigen.models import build_model
from mrigen.recipe import load_recipe
from mrigen.training import callbacks, fit, resume
from mrigen.training.callbacks import Progress
from mrigen.training.history import History


def read_history(run):
    with open(run.directory / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_history_has_one_line_an_epoch(finished_run):
    rows = read_history(finished_run)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[0]["val_elbo_nats"]) == pytest.approx(-float(rows[0]["val_loss"]), rel=1e-5)
    assert {"loss", "nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma"} <= set(rows[0])


def test_resuming_a_finished_run_changes_nothing(run_copy):
    before = {path: path.read_bytes() for path in run_copy.directory.rglob("*") if path.is_file()}
    resume(run_copy.directory)
    assert {path: path.read_bytes() for path in run_copy.directory.rglob("*") if path.is_file()} == before


def test_resume_refuses_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        resume(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"no recipe\.yaml"):
        resume(tmp_path / "empty")


def test_a_loss_that_is_no_number_stops_the_fit_and_names_the_step(tmp_path):
    recipe = load_recipe("smoke", ["training.learning_rate=10", "model.decoder_sigma=learned", "training.epochs=9"])
    with pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf|-inf), expected a number"):
        fit(recipe, tmp_path / "run")


def test_a_run_is_not_overwritten_without_force(run_copy):
    with pytest.raises(UsageError, match=r"a run is there already.*force=True"):
        fit(load_recipe("smoke"), run_copy.directory)


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="exists and is no run"):
        fit(load_recipe("smoke"), tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_faulty_cohort_leaves_no_run_behind(tmp_path):
    from mrigen.errors import CohortError

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.nii.gz").write_bytes(b"no image")
    for name in "bcd":
        shutil.copy(tmp_path / "data" / "a.nii.gz", tmp_path / "data" / f"{name}.nii.gz")
    with pytest.raises(CohortError) as error:
        fit(load_recipe("vae", [f"data.root={tmp_path / 'data'}"]), tmp_path / "run")
    assert len([fault for fault in error.value.faults if "got text" in fault]) == 4
    assert not (tmp_path / "run").exists()


def test_early_stopping_ends_a_fit_and_keeps_the_best_epoch(finished_run, tmp_path, monkeypatch):
    figures = iter([1.0, 3.0, 2.0, 2.5, 4.0])
    kinds = set()
    monkeypatch.setattr(callbacks, "watched_figure", lambda logs, watched: kinds.add(watched) or next(figures))
    settings = ["training.epochs=30", "training.early_stopping_epochs=2", "training.seed=1", "model.objective=paper"]
    run = fit(load_recipe("smoke", settings), tmp_path / "run")
    assert run.metrics["best_epoch"] == 2
    assert run.metrics["epochs"] == len(read_history(run)) == 4
    assert kinds == {"loss"}  # The ELBO is not what the paper's objective improves.
    assert run.split.equals(finished_run.split)  # The split has a seed of its own.


def test_a_seed_gives_the_weights_at_the_start():
    def weights(seed):
        model = build_model(load_recipe("smoke").model, (8, 8, 8), "float32", seed)
        return np.concatenate([weight.numpy().ravel() for weight in model.trainable_variables])

    np.testing.assert_array_equal(weights(0), weights(0))
    assert np.abs(weights(0) - weights(1)).max() > 0.01


def test_the_optimal_sigma_is_the_residual_of_the_validation_people(finished_run):
    # Under one draw from each posterior the residual is a little larger than that of the posterior means.
    residual = finished_run.metrics["validation"]["mse"] ** 0.5
    assert residual <= finished_run.metrics["decoder_sigma"] < 1.1 * residual


def test_history_keeps_earlier_epochs_and_drops_those_to_be_repeated(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss\n0,3\n1,2\n2,1\n")
    history = History(path, Progress(epoch=2))
    history.on_train_begin()
    history.on_epoch_end(2, {"loss": 0.5})
    assert path.read_text().split() == ["epoch,loss", "0,3", "1,2", "2,0.5"]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate((3.0, 2.0, 0.5))]
