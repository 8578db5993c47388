"""A run whose posterior collapsed says so when it is opened."""

import json
import logging

import pytest

from mrigen.recipe import dump_recipe, load_recipe
from mrigen.runs import open_run
from mrigen.runs.listing import describe_run


@pytest.fixture
def make_run(tmp_path):
    def make(*changes, active=0, kind="vae", **figures):
        directory = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        dump_recipe(load_recipe(kind, ["training.epochs=60", *changes]), directory / "recipe.yaml")
        metrics = {"active_units": active, "latent_dim": 64, "kl_nats": 0.1, "num_subjects": {"train": 89}}
        metrics |= {"epochs": 60, "best_epoch": 40, **figures}
        grid = {"zooms": [4.0] * 3, "volume_shape": [48, 56, 48], "centre": [0.0] * 3, "median_scale": 1.0}
        for name, content in (("run.json", {}), ("grid.json", grid), ("metrics.json", metrics)):
            (directory / name).write_text(json.dumps(content))
        (directory / "model.weights.h5").touch()
        return directory

    return make


def test_opening_says_what_collapsed_and_what_to_do(make_run, caplog):
    directory = make_run("model.objective=paper")
    with caplog.at_level(logging.WARNING, "mrigen"):
        open_run(directory)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"{directory}: the posterior collapsed: 0 of 64 latent variables are active")
    assert line.endswith("Use `model.objective=elbo`.")


def test_the_newest_is_told_of_as_one_that_is_named(make_run, caplog):
    directory = make_run("model.beta=100")
    with caplog.at_level(logging.WARNING, "mrigen"):
        assert open_run(root=directory.parent).directory == directory
    assert [record.getMessage().endswith("Use `model.beta=1`.") for record in caplog.records] == [True]


@pytest.mark.parametrize(
    "case", [{"active": 64}, {"kind": "autoencoder", "kl_nats": None}, {"latent_dim": 3360, "active": 89}]
)
def test_nothing_is_said_of_others(make_run, caplog, case):
    directory = make_run(**case)
    with caplog.at_level(logging.WARNING, "mrigen"):
        run = open_run(directory)
    assert not caplog.records and run.collapse is None


def test_lists_of_runs_know_how_many_people_there_were(make_run):
    run = open_run(make_run(active=89, latent_dim=3360))
    assert describe_run(run)["collapse"] == "no"
    assert describe_run(open_run(make_run(active=2)))["collapse"] == "yes"
