"""A run with the verbs as methods, and what it says of itself."""

import inspect
import shutil

import numpy as np
import pandas as pd
import pytest

import mrigen
from mrigen.api.run import CURVES, Run
from mrigen.errors import RunError


@pytest.fixture
def run(finished_run):
    return Run(finished_run.directory)


def test_latents_are_the_posterior_means_in_the_rows_of_the_subjects(run):
    latents = run.latents
    assert list(latents.columns) == [f"loc_{number:03d}" for number in range(1, 9)]
    assert latents.index.equals(run.subjects.index)
    stored = run.load_latents()
    for scan_id, loc in zip(stored["scan_id"], stored["loc"], strict=True):
        row = run.subjects.index[run.subjects["scan_id"] == scan_id]
        np.testing.assert_array_equal(latents.loc[row].to_numpy()[0], loc)


def test_latents_of_a_grid_are_one_row_a_person(autoencoder_run):
    run = Run(autoencoder_run.directory)
    assert run.latents.shape == (len(run.subjects), run.metrics["latent_dim"])
    assert "variables" in repr(run) and "KL" not in repr(run)


def test_history_is_a_table_and_a_figure(run):
    assert list(run.history.index) == [0, 1] and {"loss", "val_loss", "kl_nats"} <= set(run.history)
    axes = run.plot_history().axes
    assert [axis.get_title() for axis in axes] == list(CURVES)
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), run.history["loss"])
    np.testing.assert_allclose(axes[0].lines[0].get_xdata(), [1, 2])


def test_a_run_says_in_five_lines_what_it_is(run):
    lines = repr(run).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Run", "People", "Latents", "Held-out", "Folder"]
    assert "vae" in lines[0] and "24x28x24 voxels of 8 mm" in lines[0]
    assert "24: 17 training, 2 validation, 5 held-out" in lines[1]
    assert f"{run.metrics['active_units']} of 8" in lines[2]
    assert f"MSE {run.metrics['heldout']['mse']:.5f} (PCA {run.metrics['pca']['mse']:.5f}, active" in lines[3]
    assert str(run.directory) in lines[4]
    assert run._repr_html_().count("<tr>") == 5


def test_an_unfinished_run_says_so_and_how_it_goes_on(run_copy):
    (run_copy.directory / "metrics.json").unlink()
    lines = repr(Run(run_copy.directory)).splitlines()
    assert len(lines) == 5
    assert "2 of 2 epochs done" in lines[2]
    assert f"mrigen.resume('{run_copy.directory}')" in lines[3]
    (run_copy.directory / "history.csv").unlink()
    assert "0 of 2 epochs done" in repr(Run(run_copy.directory))
    with pytest.raises(RunError, match=r"no history\.csv"):
        _ = Run(run_copy.directory).history


def test_a_folder_that_is_no_run_says_what_is_missing(tmp_path):
    assert "no recipe.yaml" in repr(Run(tmp_path)) or "no grid.json" in repr(Run(tmp_path))


def test_open_run_returns_a_run_with_verbs(run, tmp_path):
    assert mrigen.open_run(str(run.directory)) == run
    shutil.copytree(run.directory, tmp_path / "runs" / "one")
    newest = mrigen.open_run(root=tmp_path / "runs")
    assert isinstance(newest, mrigen.Run) and newest.directory.name == "one"


def test_html_is_escaped(tmp_path):
    assert "<b>" not in Run(tmp_path / "<b>")._repr_html_()


# Verbs whose method takes what the function takes, or hands the rest on.
VERBS = [
    *("check_samples", "decode", "diagnose", "encode", "explain", "interpolate", "map_latents", "probe"),
    *("probe_external", "probe_nested", "reconstruct", "sample", "segment", "template", "transfer", "traverse"),
]


@pytest.mark.parametrize("verb", VERBS)
def test_methods_take_what_the_functions_take(verb):
    function = inspect.signature(getattr(mrigen, verb)).parameters
    method = dict(inspect.signature(getattr(Run, verb)).parameters)
    assert next(iter(function)) == "run" and next(iter(method)) == "self"
    rest = [each for each in method.values() if each.kind is inspect.Parameter.VAR_KEYWORD]
    named = {name: each for name, each in method.items() if name != "self" and each not in rest}
    for name, parameter in named.items():
        assert name in function, name
        assert parameter.default == function[name].default, name
        assert parameter.kind == function[name].kind, name
    if not rest:
        assert set(named) == set(function) - {"run"}


def test_a_run_takes_nothing_but_a_folder(run):
    assert Run(str(run.directory)) == run and pd.isna(run.history["loss"]).sum() == 0
    with pytest.raises(AttributeError):
        run.directory = "other"
