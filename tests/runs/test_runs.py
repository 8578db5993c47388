import json

import numpy as np
import pytest

from mrigen.errors import RunError
from mrigen.imaging.volumes import apply_affine
from mrigen.recipe import load_recipe
from mrigen.runs import Run, newest_run, open_run


def test_a_run_describes_itself(finished_run):
    names = {path.name for path in finished_run.directory.iterdir()}
    expected = {"recipe.yaml", "run.json", "split.tsv", "subjects.tsv", "grid.json", "history.csv", "log.txt"}
    expected |= {"tensorboard", "model.weights.h5", "latents.npz", "metrics.json"}
    assert expected <= names
    assert {name for name in names if name.startswith(".") or name == "checkpoint"} == {".claims"}
    assert finished_run.recipe == load_recipe("smoke")
    assert {"python", "mrigen", "keras", "tensorflow"} <= set(finished_run.facts["versions"])


def test_the_affine_puts_the_middle_of_the_grid_at_the_training_heads(finished_run):
    subjects = finished_run.subjects.merge(finished_run.split, on="participant_id").query("split == 'train'")
    expected = [subjects[f"centre_{axis}"].median() for axis in "xyz"]
    middle = (np.array(finished_run.grid["volume_shape"]) - 1) / 2
    np.testing.assert_allclose(apply_affine(finished_run.affine, middle), expected, atol=1e-6)


def test_loaded_weights_reproduce_the_latents_of_the_fit(finished_run):
    from mrigen.data.dataset import open_dataset
    from mrigen.runs.encoding import encode_cache

    dataset = open_dataset(finished_run.recipe, finished_run.split)
    again = encode_cache(finished_run.load_model(), dataset.cache)
    stored = finished_run.load_latents()
    for name in ("scan_id", "loc", "scale"):
        np.testing.assert_array_equal(stored[name], again[name])


def test_the_newest_complete_run_is_found(tmp_path):
    for index, name in enumerate(["old", "new", "unfinished"]):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "model.weights.h5").touch()
        if name != "unfinished":
            (directory / "metrics.json").write_text("{}")
            import os

            os.utime(directory / "metrics.json", (1000 + index, 1000 + index))
    assert newest_run(tmp_path) == Run(tmp_path / "new")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run.directory / "model.weights.h5").unlink(), r"no model\.weights\.h5.*mrigen\.resume"),
        (lambda run: (run.directory / "recipe.yaml").unlink(), r"no recipe\.yaml, expected a run folder"),
        (lambda run: (run.directory / "run.json").write_text("{"), r"run\.json: not valid JSON"),
        (lambda run: (run.directory / "grid.json").unlink(), r"no grid\.json"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(run_copy, damage, message):
    damage(run_copy)
    with pytest.raises(RunError, match=message) as error:
        open_run(run_copy.directory)
    assert len(error.value.faults) == 1


def test_damaged_weights_and_latents_are_told(run_copy):
    weights = run_copy.directory / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(RunError, match=r"model\.weights\.h5: cannot be loaded"):
        run_copy.load_model()
    (run_copy.directory / "latents.npz").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"latents\.npz: cannot be read"):
        run_copy.load_latents()


def test_weights_of_another_model_are_told(run_copy):
    recipe = run_copy.directory / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("latent_dim: 8", "latent_dim: 9"))
    with pytest.raises(RunError, match=r"expected weights of the model in recipe\.yaml"):
        run_copy.load_model()


def test_no_run_at_all(tmp_path):
    with pytest.raises(RunError, match="no complete run"):
        newest_run(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        open_run(tmp_path / "missing")


def test_metrics_are_plain_json(finished_run):
    text = (finished_run.directory / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=pytest.fail)
    assert set(metrics["heldout"]) == {"mse", "psnr", "explained_variance", "elbo_nats", "shuffled_gap_nats"}
    assert {"mse", "loglik_nats", "num_components"} <= set(metrics["pca"])
    assert {"kl_nats", "active_units", "latent_dim", "decoder_sigma", "residual_rmse", "precision"} <= set(metrics)
    assert set(metrics["performance"]) == {"volumes_per_second", "data_wait_share", "peak_rss_mb", "seconds"}
