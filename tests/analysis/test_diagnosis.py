"""What a diagnosis says, and that its likelihood is one."""

import json

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from mrigen.analysis import diagnose, diagnosis
from mrigen.analysis.diagnosis import forecast_of, importance_weighted
from mrigen.distributions import DiagonalGaussianPosterior, GaussianLikelihood, NormalPrior
from mrigen.errors import UsageError
from mrigen.generation.densities import choose_density
from mrigen.recipe import load_recipe
from mrigen.training import fit


class LinearModel:
    """x = 2 z + noise, one voxel and one latent variable; the posterior may be off."""

    latent_size = 1
    sigma = 0.5

    def __init__(self, widening=1.0):
        self.widening = widening
        self.likelihood = GaussianLikelihood(self.sigma)
        self.prior = NormalPrior(1)
        self.to_posterior = DiagonalGaussianPosterior(1)

    def posterior(self, volumes):
        x = tf.reshape(volumes, [-1, 1])
        precision = 1.0 + 4.0 / self.sigma**2
        loc = 2.0 * x / self.sigma**2 / precision
        return {"loc": loc, "scale": tf.fill(tf.shape(loc), self.widening * precision**-0.5)}

    def decode(self, z, condition=None):
        return tf.reshape(2.0 * z, [-1, 1, 1, 1, 1])


@pytest.fixture
def people(monkeypatch):
    values = np.array([-1.0, 0.2, 3.0], dtype="float32")
    batches = [(number, value.reshape(1, 1, 1, 1, 1)) for number, value in enumerate(values)]
    monkeypatch.setattr(diagnosis, "inference_dataset", lambda *_: [(n, tf.constant(v)) for n, v in batches])

    class AnyDataset:
        cache = None

        def conditions(self, rows):
            return None

    return AnyDataset(), stats.norm.logpdf(values, scale=np.sqrt(4.0 + 0.25))


def test_with_the_true_posterior_one_draw_gives_the_likelihood(people):
    dataset, expected = people
    got = importance_weighted(LinearModel(), dataset, np.arange(3), 1)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_with_a_wrong_posterior_more_draws_come_closer_from_below(people):
    dataset, expected = people
    few, many = (importance_weighted(LinearModel(3.0), dataset, np.arange(3), count, 1) for count in (1, 4000))
    assert few.mean() < many.mean() - 0.1
    np.testing.assert_allclose(many, expected, atol=0.1)


def test_a_diagnosis_is_written(finished_run, tmp_path):
    found = diagnose(finished_run, num_draws=8)
    assert not (finished_run.directory / "diagnosis.json").exists()
    assert found.write(tmp_path / "out") == [tmp_path / "out" / name for name in ("diagnosis.json", "diagnosis.png")]
    assert found.findings == diagnose(finished_run, num_draws=8).findings
    assert 5 <= len(found.findings) <= 10
    assert found.findings[-1].startswith("Verdict: ")
    chosen = choose_density(finished_run, finished_run.load_model()).name
    assert any(f"drawn from the density {chosen}" in line for line in found.findings)
    assert str(found) == "\n".join(found.findings)
    content = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert content["log_likelihood"] == found.log_likelihood
    assert sum(content["kl_per_dimension"]) == pytest.approx(finished_run.metrics["kl_nats"], rel=1e-3)
    assert content["kl_per_dimension"] == sorted(content["kl_per_dimension"], reverse=True)
    assert (tmp_path / "out" / "diagnosis.png").stat().st_size > 10_000
    # The ELBO is a lower bound, and so is its importance-weighted form, but closer.
    assert found.log_likelihood > finished_run.metrics["heldout"]["elbo_nats"]


def test_a_collapse_is_explained(finished_run, tmp_path):
    recipe = load_recipe("smoke", ["model.objective=paper", "training.epochs=6", "training.on_collapse=stop"])
    run = fit(recipe, tmp_path / "paper", "smoke")
    assert run.metrics["active_units"] == 0
    assert run.metrics["epochs"] == 5  # Nothing for a fifth of the epochs, five at least.
    assert abs(run.metrics["heldout"]["shuffled_gap_nats"]) < 5.0
    assert "Stopping here." in (run.directory / "log.txt").read_text()
    found = diagnose(run, num_draws=8)
    assert found.forecast.num_directions == 0
    assert "collapsed, as it must" in found.findings[-1]
    history = (run.directory / "history.csv").read_text().splitlines()
    assert "active_units" in history[0] and "shuffled_gap_nats" in history[0]


def test_what_cannot_be_diagnosed_is_refused(finished_run, autoencoder_run):
    with pytest.raises(UsageError, match="num_draws: got 0"):
        diagnose(finished_run, num_draws=0)
    with pytest.raises(UsageError, match="kind autoencoder, expected a VAE"):
        diagnose(autoencoder_run)


def test_a_forecast_is_of_what_counts_and_is_not_told():
    generator = np.random.default_rng(0)
    told, hidden = generator.normal(size=(40, 1)).astype(np.float32), generator.normal(size=40).astype(np.float32)
    volumes = generator.normal(scale=0.01, size=(40, 4, 5, 6)).astype(np.float32)
    volumes[:, :2] += told[:, :, None, None]
    volumes[:, :, :2] += hidden[:, None, None, None]
    counted = np.ones((4, 5, 6), bool)
    counted[:2] = False
    recipe = load_recipe("vae", ["model.decoder_sigma=0.1"]).model
    cases = ((None, None), (counted, None), (None, told), (counted, hidden[:, None]))
    assert [forecast_of(recipe, volumes, 8, *case)[0].num_directions for case in cases] == [2, 1, 1, 0]
