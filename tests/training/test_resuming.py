"""A fit that broke off, at whatever moment, becomes the run that it would have been."""

import json
import os
import shutil

import h5py
import keras
import numpy as np
import pytest

from mrigen.errors import Interrupted, RunError
from mrigen.models import VariationalAutoencoder
from mrigen.recipe import load_recipe
from mrigen.runs import Run
from mrigen.system.stopping import StopNow, StopRequest
from mrigen.training import callbacks, epochs, fit, resume
from mrigen.training.callbacks import Checkpoint, Progress, load_progress, restore, save_weights

# Four steps an epoch. Unlearning sex looks back at people of earlier steps.
SETTINGS = ["training.epochs=3", "training.batch_size=4", "training.kl_warmup_epochs=2", "training.schedule=cosine"]
SETTINGS += ["model.condition=[sex]", "model.invariant_to=[sex]"]
# What is being put in place when the process is killed -> whether it is there by then.
MOMENTS = {
    "run.json": True,  # Before training.
    "epoch-00001-step-000002.weights.h5": False,
    "epoch-00002.weights.h5": True,
    "progress.json of 2 epochs": True,  # Stale weights are still there.
    "metrics.json": False,  # After training.
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory, cache_directory):
    """A run with a checkpoint after every step, and by moment a copy of its folder as it was then."""
    base = tmp_path_factory.mktemp("broken")
    replace = os.replace

    def watch(source, target):
        name = os.path.basename(target)
        if name == "progress.json":
            progress = json.loads(source.read_text())
            name += "" if progress["step"] else f" of {progress['epoch']} epochs"
        if MOMENTS.get(name) is False:
            shutil.copytree(base / "run", base / name)
        replace(source, target)
        if MOMENTS.get(name):
            shutil.copytree(base / "run", base / name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", watch)
        patch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
        run = fit(load_recipe("smoke", SETTINGS), base / "run", "smoke")
    assert all((base / moment).is_dir() for moment in MOMENTS)
    return run, base


def assert_same(run, expected):
    with (
        h5py.File(run.directory / "model.weights.h5") as one,
        h5py.File(expected.directory / "model.weights.h5") as two,
    ):
        weights = []
        two.visititems(lambda name, item: weights.append(name) if isinstance(item, h5py.Dataset) else None)
        assert weights
        for name in weights:
            np.testing.assert_array_equal(one[name][()], two[name][()], err_msg=name)
    for name in ("history.csv", "history.jsonl", "run.json", "split.tsv"):
        assert (run.directory / name).read_bytes() == (expected.directory / name).read_bytes()
    assert {**run.metrics, "performance": None} == {**expected.metrics, "performance": None}
    assert {path.name for path in run.directory.iterdir()} == {path.name for path in expected.directory.iterdir()}
    assert not list(run.directory.rglob(".tmp-*"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fit_that_was_killed_resumes_to_the_same_weights(broken, tmp_path, moment):
    whole, base = broken
    run = Run(shutil.copytree(base / moment, tmp_path / "run"))
    if moment == "epoch-00002.weights.h5":  # Half a line, and one that looks like the first epoch's.
        with open(run.directory / "history.csv", "a") as file:
            file.write("0")
    if not MOMENTS[moment]:
        assert list(run.directory.rglob(".tmp-*"))
    assert_same(resume(run.directory), whole)


def test_a_kill_after_the_last_file_leaves_a_complete_run_that_is_cleaned(run_copy):
    (run_copy.directory / "checkpoint").mkdir()
    (run_copy.directory / "checkpoint" / ".tmp-epoch-00002.weights.h5").touch()
    resume(run_copy.directory)
    assert not (run_copy.directory / "checkpoint").exists()


def stop_after(steps, stop, monkeypatch):
    """Has `stop` be asked after so many steps; it is seen at the end of the next."""
    seen = []

    def count(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == steps:
            stop.ask()

    monkeypatch.setattr(callbacks.ProgressLine, "on_train_batch_end", count)
    return seen


@pytest.mark.parametrize(("steps", "epoch", "step"), [(5, 1, 2), (3, 1, 0)])
def test_a_fit_that_is_asked_to_stop_saves_and_goes_on(broken, tmp_path, monkeypatch, steps, epoch, step):
    whole, _ = broken
    stop, directory = StopRequest(), tmp_path / "run"
    seen = stop_after(steps, stop, monkeypatch)
    within = " and 2 of 4 steps" if step else ""
    with pytest.raises(
        Interrupted, match=rf"after {epoch} of 3 epochs{within}; all .*mrigen\.resume\(\'{directory}\'\)"
    ) as error:
        fit(load_recipe("smoke", SETTINGS), directory, "smoke", stop=stop)
    assert error.value.exit_status == 75
    assert len(seen) <= steps + 1
    progress = load_progress(directory / "checkpoint")
    assert (progress.epoch, progress.step) == (epoch, step)
    if step:  # Between epochs it is as after a kill.
        assert_same(resume(directory), whole)


def test_who_asks_where_nobody_listens_ends_the_work_at_once():
    with pytest.raises(StopNow) as error:
        StopRequest().ask()
    assert error.value.code == 75
    stop = StopRequest()
    with pytest.raises(StopNow), stop.heard():
        stop.ask()
        assert stop.asked  # Still here: the loop sees it, unless this was its last step.


def small_model(policy):
    model = VariationalAutoencoder((4, 4, 4), latent_dim=2, channels=(2,), dtype=policy)
    model.build((None, 4, 4, 4, 1))
    model.compile(optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 100)))
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_checkpoint_holds_the_whole_state_of_the_optimizer(tmp_path, policy):
    model, again = small_model(policy), small_model(policy)
    model.optimizer.build(model.trainable_variables)
    for number, variable in enumerate([*model.variables, *model.optimizer.variables]):
        variable.assign(np.full(variable.shape, 3 + number, dtype=variable.dtype))
    names = {variable.name for variable in model.optimizer.variables}
    assert ({"dynamic_scale", "step_counter"} <= names) == (policy == "mixed_float16")
    save_weights(model, tmp_path / "a.weights.h5")
    restore(again, tmp_path / "a.weights.h5")
    for one, other in zip(
        [*model.variables, *model.optimizer.variables], [*again.variables, *again.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


def test_best_and_last_weights_are_kept_and_a_figure_that_is_no_number_is_not_the_best(tmp_path):
    model, progress = small_model("float32"), Progress()
    checkpoint = Checkpoint(tmp_path, progress, 2, "loss", 9, 4)
    checkpoint.set_model(model)
    kept = []
    for epoch, loss in enumerate([np.nan, 3.0, 2.0, 5.0, 5.0]):
        model.stop_training = False
        checkpoint.on_epoch_end(epoch, {"loss": loss})
        assert load_progress(tmp_path) == progress
        kept.append((progress.best_epoch, sorted(int(path.name[6:11]) for path in tmp_path.glob("*.h5"))))
    assert kept == [(0, [1]), (1, [2]), (2, [3]), (2, [3, 4]), (2, [3, 5])]
    assert progress.done and model.stop_training


def test_a_fit_that_stopped_by_itself_is_done(tmp_path):
    model, progress = small_model("float32"), Progress()
    checkpoint = Checkpoint(tmp_path, progress, None, "loss", 9, 4)
    checkpoint.set_model(model)
    model.stop_training = True  # As LatentWatch says it.
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    assert load_progress(tmp_path).done


def test_a_checkpoint_that_is_damaged_is_told(tmp_path):
    (tmp_path / "progress.json").write_text(json.dumps({"epoch": 2, "best_epoch": 1, "best": 0.0}))
    with pytest.raises(RunError, match=r"epoch-00002\.weights\.h5: no such file.*Restore it"):
        load_progress(tmp_path)
    (tmp_path / "progress.json").write_text("{")
    with pytest.raises(RunError, match=r"progress\.json: not the progress of a fit"):
        load_progress(tmp_path)


def test_resuming_with_another_recipe_is_refused_with_each_difference(run_copy):
    directory = run_copy.directory
    resume(directory, load_recipe("smoke"))
    changed = load_recipe("smoke", ["training.epochs=3", "model.channels=[4,9]", "training.augment=null"])
    with pytest.raises(RunError) as error:
        resume(directory, changed)
    faults = error.value.faults
    line = f"the recipe given: training.epochs: got 3, expected 2, with which {directory} began."
    assert any(fault.startswith(line) for fault in faults)
    assert any("model.channels: got [4, 9], expected [4, 8]" in fault for fault in faults)
    assert any("training.augment: got null, expected nothing" in fault for fault in faults)


def test_a_recipe_that_was_edited_in_the_run_is_refused(run_copy):
    path = run_copy.directory / "recipe.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 5", 1))
    with pytest.raises(RunError, match=r"recipe\.yaml: training\.epochs: got 5, expected 2") as error:
        resume(run_copy.directory)
    assert len(error.value.faults) == 1
