"""A sweep's own logic: fits are replaced by a script that writes what a fit would."""

import dataclasses
import os
import sys
import time

import pytest

from mrigen.errors import MrigenError, RecipeError, UsageError
from mrigen.evaluation.parts import Part
from mrigen.evaluation.result import FigureKind
from mrigen.recipe import load_recipe
from mrigen.sweeps import (
    STALE_SECONDS,
    Claim,
    Span,
    Sweep,
    make_plan,
    parse_space,
    plan_sweep,
    resume_sweep,
    share_machine,
    study,
    sweep,
)
from mrigen.sweeps.objectives import parse_objectives

# Latent variables 4 win by their figure, but collapse; the first attempt at 6 is killed; 7 fails.
STUB = """
import json, os, signal, sys
from pathlib import Path
arguments = sys.argv[1:]
value = float(arguments[arguments.index("--set") + 1].partition("=")[2])
run = Path(arguments[-1]); run.mkdir(exist_ok=True)
if value == 6 and not (run / "before").exists():
    (run / "before").touch(); os.kill(os.getpid(), signal.SIGKILL)
if value == 7:
    sys.exit("no good")
(run / "history.csv").write_text(f"epoch,val_elbo_nats,val_mse\\n0,{-value},{value}\\n")
metrics = {"best_epoch": 1, "kl_nats": 1.0, "latent_dim": 8, "active_units": 0 if value == 4 else 8}
(run / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def begin(tmp_path):
    """Returns a function that begins a sweep of the latent variables in tmp_path."""

    def make(over="model.latent_dim=8,4,5,6,7", **options):
        plan = make_plan("smoke", load_recipe("smoke"), parse_space([over]), **options)
        return Sweep.begin(tmp_path / "sweep", plan)

    return make


# What `mrigen evaluate` leaves of such a run: 5 latent variables have too much power, 8 the right one.
EVALUATE_STUB = """
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
run = Path(arguments[arguments.index("--run") + 1])
assert arguments[arguments.index("--only") + 1] == "detail"
value = json.loads((run / "history.csv").read_text().splitlines()[1].split(",")[2])
sizes = {"samples": 0.1, "pca": 9}
rows = [{"figure": "power_16_8", "of": of, "value": 1 + (8 - value) * size} for of, size in sizes.items()]
folder = run / "evaluation" / "validation"
folder.mkdir(parents=True)
part = {"rows": rows, "notes": [], "facts": {}, "seconds": 1.0}
(folder / "evaluation.json").write_text(json.dumps({"settings": {}, "parts": {"detail": part}}))
"""


def work(sweep, **options):
    sweep.work(program=(sys.executable, "-c", STUB), **options)


def test_a_grid_is_made_and_a_collapsed_trial_cannot_win(begin):
    sweep = begin()
    work(sweep, jobs=2, take=2)
    assert len(sweep.waiting()) == 3
    again = Sweep(sweep.directory)
    work(again)
    table = again.table()
    assert table["model.latent_dim"].tolist() == ["5", "6", "8", "4", "7"]
    assert table["state"].tolist() == ["complete"] * 4 + ["fail"]
    assert table["collapse"].tolist()[:4] == ["no", "no", "no", "yes"]
    assert "no good" in table["fault"].iloc[-1]
    assert again.best().directory == again.run_directory(2)
    assert "val_elbo" not in again.render() and "collapse" in again.render("markdown")


def test_that_no_run_is_best_is_put_down_to_what_happened(begin):
    sweep = begin("model.latent_dim=7,4")
    assert "got 2 not made yet of 2 trials" in sweep.explain_no_best()
    work(sweep)
    assert sweep.best() is None
    said = sweep.explain_no_best()
    assert said.startswith(f"{sweep.directory}: got 1 collapsed, 1 failed of 2 trials, expected one that is complete")
    assert "no good" in said and f"`mrigen.diagnose({str(sweep.run_directory(1))!r})`" in said


def test_trials_that_never_started_did_not_collapse(begin):
    sweep = begin("model.latent_dim=7")
    work(sweep)
    said = sweep.explain_no_best()
    assert "collapse" not in said and "diagnose" not in said and "1 failed of 1 trial," in said


def test_spans_are_searched_and_every_worker_draws_its_own(begin, monkeypatch):
    sweep = begin("model.beta=0.5..4:log", trials=5, objective="mse")
    work(sweep, jobs=2)
    values = [trial.params["model.beta"] for trial in sweep.trials()]
    assert len(set(values)) == 5 and all(0.5 <= value <= 4 for value in values)
    assert sweep.best().directory == sweep.run_directory(values.index(min(values)))


@pytest.fixture
def evaluations(monkeypatch):
    """Puts a stub in the place of `mrigen evaluate`, and one figure in that of its parts."""
    figures = {"power_16_8": FigureKind("power", "1"), "contrast": FigureKind("contrast")}
    monkeypatch.setattr(Part, "figures", property(lambda self: figures if self.module == "detail" else {}))
    monkeypatch.setattr(study, "EVALUATE", (sys.executable, "-c", EVALUATE_STUB))


def test_of_several_figures_the_frontier_comes_first(begin, evaluations):
    sweep = begin("model.latent_dim=8,4,5,6", objective="power_16_8,elbo")
    work(sweep)
    table = sweep.table()
    # 8 has the right power, 5 the best ELBO, 6 lies between them; 4 collapsed, which no figure makes up for.
    assert table["model.latent_dim"].tolist() == ["8", "6", "5", "4"]
    assert table["frontier"].tolist() == ["yes", "yes", "yes", "no"]
    assert table["power_16_8"].round(6).tolist() == [1.0, 1.2, 1.3, 1.4] and table["elbo"].tolist()[0] == -8
    assert sweep.best().directory == sweep.run_directory(0)
    assert "power_16_8" in sweep.render() and "frontier" in sweep.render()
    assert Sweep(sweep.directory).plan.objective == "power_16_8,elbo"


def test_one_figure_of_an_evaluation_decides(begin, evaluations):
    sweep = begin("model.latent_dim=5,8,6", objective="power_16_8")
    work(sweep, jobs=2)
    assert sweep.table()["model.latent_dim"].tolist() == ["8", "6", "5"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "contrast"}, "a figure without a better side"),
        ({"objective": "power_16_8", "prune": True}, "only elbo or mse is known while a fit goes on"),
        ({"objective": "elbo,mse", "prune": True}, "only elbo or mse is known"),
        ({"objective": "elbo,power_16"}, "got 'power_16', expected elbo, mse, sex_auc or a figure of an evaluation"),
    ],
)
def test_figures_that_cannot_be_gone_by_are_told(begin, evaluations, options, said):
    with pytest.raises(MrigenError, match=said):
        begin(**options)


def test_sex_is_told_of_validation_people_alone(finished_run):
    [objective] = parse_objectives("sex_auc")
    assert objective.direction == "maximize" and 0.0 <= objective.of(finished_run) <= 1.0
    split = finished_run.split.query("split != 'heldout'")
    sexless = finished_run.subjects.assign(sex=None)
    other = dataclasses.replace(finished_run)
    other.__dict__.update(subjects=sexless, split=split)
    with pytest.raises(MrigenError, match="no sex_auc, expected a figure of validation people"):
        objective.of(other)


def test_a_claim_is_one_workers_until_it_falls_silent(tmp_path):
    claim = Claim.take(tmp_path, 3, "a")
    assert Claim.take(tmp_path, 3, "b") is None
    os.utime(claim.path, (time.time() - STALE_SECONDS - 1,) * 2)
    other = Claim.take(tmp_path, 3, "b")
    assert other is not None and Claim.take(tmp_path, 3, "a") is None
    claim._beat_at = float("-inf")
    assert not claim.beat()
    other.release()
    assert Claim.take(tmp_path, 3, "slurm 1") and Claim.take(tmp_path, 3, "slurm 1")
    assert Claim.take(tmp_path, 3, "slurm 2") is None


def test_the_trial_of_a_dead_worker_is_taken_over(begin):
    sweep = begin("model.latent_dim=8,5")
    _, claim = sweep._claim_next("dead")
    other = Sweep(sweep.directory)
    work(other)
    assert len(other.waiting()) == 1
    os.utime(claim.path, (time.time() - STALE_SECONDS - 1,) * 2)
    work(other)
    assert [t.state.name for t in other.trials()] == ["COMPLETE"] * 2


def test_a_sweep_that_is_there_or_is_not_is_told(begin, tmp_path):
    begin()
    with pytest.raises(UsageError, match="is there already, expected a new folder"):
        begin()
    with pytest.raises(UsageError, match=r"no sweep\.json"):
        Sweep(tmp_path)


def test_a_stop_is_heeded(begin):
    with pytest.raises(MrigenError, match="stopped as asked"):
        work(begin(), should_stop=lambda: True)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("model.latent_dim", "expected KEY=VALUES"),
        ("data.root=a,b", "got a key of data"),
        ("model.beta=4..1", "LOW < HIGH"),
        ("model.beta=0..1:log", "LOW < HIGH"),
        ("model.beta=1,1", "a value twice"),
    ],
)
def test_a_bad_space_is_told(over, message):
    with pytest.raises(RecipeError, match=message):
        parse_space([over])


def test_all_faults_of_a_plan_come_together():
    space = parse_space(["model.latent_dim=-4,8", "training.epoch=1,2", "model.beta=1..2"])
    with pytest.raises(RecipeError) as caught:
        make_plan("smoke", load_recipe("smoke"), space, "grid")
    text = str(caught.value)
    assert "over[model.beta]: got a span" in text and "got -4" in text and "Did you mean 'epochs'" in text


def test_a_space_is_read_from_yaml(tmp_path):
    (tmp_path / "space.yaml").write_text("model.latent_dim: [4, 8]\nmodel.beta: 1..4:log\n")
    space = parse_space([], tmp_path / "space.yaml")
    assert space == {"model.latent_dim": Span((4, 8)), "model.beta": Span((), 1, 4, True, True)}


def test_the_machine_is_shared(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [share["CUDA_VISIBLE_DEVICES"] for share in share_machine(3)] == ["3", "5", "3"]
    assert share_machine(1) == [{}]


def test_several_recipes_are_trials_of_one_sweep(tmp_path):
    recipes = {name: load_recipe(name, ["training.epochs=2"]) for name in ("smoke", "autoencoder")}
    plan = make_plan("recipes", recipes["smoke"], {}, recipes=recipes)
    assert (plan.objective, plan.num_trials) == ("mse", 2)
    sweep = Sweep(Sweep.begin(tmp_path / "sweep", plan).directory)
    assert sweep.plan == plan
    trial = next(trial for trial in (sweep._claim_next("me")[0], sweep._claim_next("me")[0]) if trial.number == 1)
    assert load_recipe(sweep.recipe_path(trial)) == recipes["autoencoder"] and sweep.overrides(trial) == []
    with pytest.raises(RecipeError, match="got beta for kind: autoencoder"):
        make_plan("recipes", recipes["smoke"], parse_space(["model.beta=1,2"]), recipes=recipes)


def test_a_sweep_in_python_is_a_table_and_a_best_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mrigen.sweeps.study.FIT", (sys.executable, "-c", STUB))
    with caplog.at_level("INFO", "mrigen"):
        study = sweep("smoke", {"model.latent_dim": [8, 5, 4]}, directory=tmp_path / "sweep", take=2)
    assert "trial 0: model.latent_dim=8" in caplog.messages and len(study.waiting()) == 1
    study = resume_sweep(tmp_path / "sweep")
    assert study.table()["model.latent_dim"].tolist() == ["5", "8", "4"]
    assert study.best().directory == study.run_directory(1)
    assert repr(study).endswith(f"3 trials, by grid for the best elbo, best {study.run_directory(1)}")
    assert "<td>complete</td>" in study._repr_html_()
    assert not (tmp_path / "sweep" / "trials.csv").exists()


def test_recipes_are_taken_as_names_dictionaries_and_objects():
    synthetic = {"data": {"source": "phantom"}, "model": {"kind": "vae"}}
    recipes = ["smoke", synthetic, load_recipe("vae", ["data.source=phantom"])]
    plan = plan_sweep([*recipes, "smo*"], overrides={"training.epochs": 3})
    assert list(plan.recipes) == ["smoke", "recipe-2", "recipe-3"]
    assert all(recipe.training.epochs == 3 for recipe in plan.recipes.values())
    assert plan_sweep("smoke", {"model.beta": "1..2", "model.latent_dim": [4, 8]}).search == "tpe"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"over": {"model.beta": 3}}, r"over\[model.beta\]: got 3, expected a list of values"),
        ({"over": {"model.beta": []}}, r"over\[model.beta\]: got no values"),
        ({"over": {"model.beta": [1]}, "search": "random"}, "search: got 'random', expected one of grid, tpe"),
        (
            {"over": {"model.beta": [1]}, "objective": "auc"},
            "objective: got 'auc', expected elbo, mse, sex_auc or a figure",
        ),
        ({"over": {"model.beta": "1..2"}, "trials": 0}, "trials: got 0"),
        ({}, r"expected at least one: `over=\{'model.latent_dim': \[16, 32\]\}`"),
        ({"recipes": []}, "recipes: got none"),
        ({"recipes": ["smoke", "recipes/smoke.yaml"], "over": {"model.beta": [1]}}, "two recipes have the same name"),
        ({"recipes": [{}, "recipe-1"]}, "no such file and no shipped recipe"),
    ],
)
def test_what_cannot_be_swept_is_told(options, message):
    options = {"recipes": "smoke"} | options
    with pytest.raises(MrigenError, match=message):
        plan_sweep(**options)


def test_the_command_line_says_it_with_flags():
    from mrigen_cli.main import mrigen
    from mrigen_cli.words import translate_fault

    with pytest.raises(RecipeError) as caught:
        plan_sweep("smoke", {"model.beta": "1..2", "model.latent_dim": [-4]}, search="grid", trials=7)
    said = [translate_fault(fault, mrigen.get_command(None, "sweep")) for fault in caught.value.faults]
    assert said[0].startswith("--over model.beta: got a span") and said[0].endswith("Or --search tpe.")
    assert said[1] == "--trials: got 7, and the grid has 1. Leave it out, or use --search tpe."
    assert said[2].startswith("--over model.latent_dim=-4: model.latent_dim: got -4, expected an integer")
    with pytest.raises(RecipeError) as caught:
        plan_sweep("smoke")
    assert translate_fault(caught.value.faults[0], mrigen.get_command(None, "sweep")) == (
        "sweep: got no keys to search over, expected at least one: --over model.latent_dim=16,32, or --space FILE."
    )


def test_a_worker_that_comes_too_late_for_the_last_trial_goes_without(begin, monkeypatch):
    begun = begin("model.beta=1..2", trials=1)
    before = begun._study.get_trials()
    assert begun._claim_next("first") is not None
    now, seen = begun.trials, iter([before, before])
    monkeypatch.setattr(begun, "trials", lambda: next(seen, None) or now())
    assert begun._claim_next("second") is None
    assert [trial.state.name for trial in now()] == ["RUNNING", "FAIL"]
