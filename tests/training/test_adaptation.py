"""What is found of a model once, after its last step."""

import itertools

import numpy as np
import pytest

from mrigen.data.pipeline import read_volumes
from mrigen.recipe import load_recipe
from mrigen.training import callbacks, fit, fitting
from mrigen.training.epochs import people_batches


def squared_residual(model, dataset, split):
    """Returns the mean squared residual of a draw of everyone in `split`, for one voxel."""
    volumes = read_volumes(dataset.cache, dataset.rows(split))[..., None]
    parts = [model(volumes[start : start + 8]) for start in range(0, len(volumes), 8)]
    return np.square(volumes - np.concatenate([part["reconstruction"] for part in parts])).mean()


def test_an_optimal_sigma_is_that_of_people_whom_the_weights_were_not_fitted_to(finished_run):
    model, dataset = finished_run.load_model(), finished_run.open_dataset()
    model.likelihood.log_sigma.assign(0.0)
    model.adapt_inference(people_batches(dataset, "train"), people_batches(dataset, "validation"))
    found = float(model.likelihood.decoder_sigma) ** 2
    expected, others = (squared_residual(model, dataset, split) for split in ("validation", "train"))
    assert found == pytest.approx(expected, rel=0.01)
    assert found != pytest.approx(others, rel=0.02)


def test_without_validation_people_it_is_that_of_the_training_people(finished_run, monkeypatch):
    model, dataset = finished_run.load_model(), finished_run.open_dataset()
    expected = squared_residual(model, dataset, "train")
    rows = type(dataset).rows
    monkeypatch.setattr(
        type(dataset), "rows", lambda self, *of: rows(self, *of)[: 0 if of == ("validation",) else None]
    )
    model.adapt_inference(people_batches(dataset, "train"), people_batches(dataset, "validation"))
    assert float(model.likelihood.decoder_sigma) ** 2 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("figures", "steps", "best"), [((5.0, 7.0), 2, 3), ((7.0, 5.0), 2, 1), ((5.0, 7.0), 0, 1)])
def test_of_a_refined_model_the_last_epoch_may_be_the_best(tmp_path, monkeypatch, figures, steps, best):
    """Whatever the encoder alone was best in: here it is made to be the first epoch."""
    seen, told, epochs = [], iter(figures), itertools.count(1.0)

    def elbo_of(model, *_):
        seen.append(model.get_weights())
        return {"elbo_nats": next(told)}

    monkeypatch.setattr(fitting, "score_validation", elbo_of)
    monkeypatch.setattr(callbacks, "watched_figure", lambda logs, watched: -next(epochs))
    recipe = load_recipe(
        "smoke", ["training.epochs=3", f"model.refinement_steps={steps}", "training.precision=float32"]
    )
    run = fit(recipe, tmp_path / "run")
    assert run.metrics["best_epoch"] == best
    if steps:
        chosen = seen[figures.index(max(figures))]
        for weight, expected in zip(run.load_model().get_weights(), chosen, strict=True):
            np.testing.assert_array_equal(weight, expected)
