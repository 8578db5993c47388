"""Trackers, with modules in the place of theirs that write down what they are told."""

import sys

import pytest

from mrigen.errors import RecipeError, UsageError
from mrigen.recipe import load_recipe
from mrigen.training import fit
from mrigen.training.trackers import tracked

MLFLOW = """
from types import SimpleNamespace
told = []
class exceptions: MlflowException = RuntimeError
set_tracking_uri = lambda uri: told.append(uri)
get_experiment_by_name = lambda name: None
def create_experiment(name, location): raise RuntimeError("is there")
set_experiment = lambda name: told.append(name)
def start_run(run_id=None, run_name=None):
    told.append((run_id, run_name))
    return SimpleNamespace(info=SimpleNamespace(run_id="m1"))
log_dict = lambda facts, name: told.append(facts)
set_tags = lambda tags: told.append(tags["recipe"])
end_run = lambda status: told.append(status)
"""
WANDB = """
from types import SimpleNamespace
told = []
class errors: Error = RuntimeError
def init(**options):
    if options["project"] == "no":
        raise RuntimeError("no such project")
    told.append((options["id"], options["resume"]))
    return SimpleNamespace(id="w1", finish=lambda exit_code: told.append(exit_code))
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Puts both packages in place, and returns a function that gives what one of them was told."""
    files = {"mlflow/__init__": MLFLOW, "mlflow/keras": "class MlflowCallback: pass", "wandb/__init__": WANDB}
    files["wandb/integration/__init__"] = ""
    files["wandb/integration/keras"] = "class WandbMetricsLogger:\n    def __init__(self, log_freq): pass"
    for name, content in files.items():
        path = tmp_path / "packages" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    yield lambda name: sys.modules[name].told
    for name in [name for name in sys.modules if name.split(".")[0] in ("mlflow", "wandb")]:
        del sys.modules[name]


def test_a_fit_that_goes_on_is_one_run_of_its_trackers(modules, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    facts = {"recipe": "smoke"}
    with pytest.raises(KeyboardInterrupt), tracked(["mlflow", "wandb"], run, facts) as callbacks:
        assert [type(callback).__name__ for callback in callbacks] == ["MlflowCallback", "WandbMetricsLogger"]
        raise KeyboardInterrupt
    store = f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    assert modules("mlflow") == [store, "mrigen", (None, "run"), facts, "smoke", "KILLED"]
    with tracked(["mlflow", "wandb"], run, facts):
        pass
    assert modules("mlflow")[6:] == [store, "mrigen", ("m1", None), "FINISHED"]
    assert modules("wandb") == [(None, None), 1, ("w1", "allow"), 0]


def test_what_a_tracker_refuses_is_one_line(modules, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "no")
    with pytest.raises(Exception, match=r"wandb cannot begin \(no such project\)"), tracked(["wandb"], tmp_path, {}):
        pass


def test_a_package_that_is_missing_is_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    recipe = load_recipe("smoke", ["training.trackers=[mlflow,wandb]"])
    with pytest.raises(UsageError, match=r"mrigen\[wandb\]") as caught:
        fit(recipe, tmp_path / "run")
    assert len(caught.value.faults) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecipeError, match="trackers"):
        load_recipe("smoke", ["training.trackers=[tensorbord]"])
