"""The densities that samples are drawn from."""

import numpy as np
import pytest
from scipy import integrate, stats

from mrigen.distributions import NormalPrior
from mrigen.errors import RunError, UsageError
from mrigen.generation.densities import (
    FlowDensity,
    GaussianDensity,
    MixtureDensity,
    PriorDensity,
    TwoStageDensity,
    choose_density,
    posterior_draws,
    trained,
)

FITTED = (MixtureDensity, FlowDensity, TwoStageDensity)
NOTHING = np.zeros((0, 2))


def many(density, count, **options):
    return np.stack([density.draw(np.random.default_rng([0, k]), **options) for k in range(count)])


def two_clouds(count, seed=0):
    """Returns points of two clouds around (-3, 0) and (3, 0), (count, 2)."""
    generator = np.random.default_rng(seed)
    return generator.choice([-3.0, 3.0], (count, 1)) * [1.0, 0.0] + generator.normal(scale=0.5, size=(count, 2))


def with_latents(run, loc, scale=0.1):
    """Puts `loc` in the place of a copied run's latents."""
    names = run.load_latents()["scan_id"]
    loc = np.asarray(loc, np.float32)
    run.save_latents({"scan_id": names, "loc": loc, "scale": np.full_like(loc, scale)})
    return run


def test_the_gaussian_has_the_mean_and_spread_of_people():
    generator = np.random.default_rng(0)
    loc = np.arange(8.0) + np.linspace(0.5, 2.0, 8) * generator.standard_normal((40, 8))
    density = GaussianDensity.fit(loc, np.full((40, 8), 0.1))
    np.testing.assert_allclose(density.loc, loc.mean(axis=0), rtol=1e-5)
    assert np.trace(density.covariance) == pytest.approx(loc.var(axis=0).sum() + 8 * 0.01, rel=1e-4)
    draws = many(density, 4000)
    np.testing.assert_allclose(draws.mean(axis=0), density.loc, atol=0.15)
    np.testing.assert_allclose(np.cov(draws.T), density.covariance, atol=0.25)
    cold = many(density, 10, temperature=0.5)
    np.testing.assert_allclose(cold - density.loc, (draws[:10] - density.loc) / 2, atol=1e-5)


@pytest.mark.parametrize("kind", FITTED)
def test_a_fitted_density_integrates_to_one_and_has_its_draws_where_people_are(kind):
    people = two_clouds(200)
    density = kind.fit(people, None, people, two_clouds(100, 1))
    grid = np.linspace(-7.0, 7.0, 41)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    mass = np.exp(density.log_density(points.reshape(-1, 2))).reshape(41, 41)
    tolerance = 0.05 if kind is TwoStageDensity else 0.01  # By importance sampling.
    assert integrate.simpson(integrate.simpson(mass, x=grid), x=grid) == pytest.approx(1.0, abs=tolerance)
    draws = many(density, 300)
    np.testing.assert_allclose(draws.mean(axis=0), people.mean(axis=0), atol=0.6)
    np.testing.assert_allclose(draws.std(axis=0), people.std(axis=0), rtol=0.25)
    # What a single Gaussian cannot do: leave the middle empty.
    fresh = two_clouds(300, 2)
    gain = density.log_density(fresh).mean() - GaussianDensity.fit(people).log_density(fresh).mean()
    assert gain > (0.5 if kind is MixtureDensity else 0.1)


@pytest.mark.parametrize("kind", [FlowDensity, TwoStageDensity])
def test_a_trained_density_is_kept_in_the_run_and_trained_again_for_other_latents(run_copy, monkeypatch, kind):
    monkeypatch.setattr(trained, "NUM_STEPS", 2)
    monkeypatch.setattr(trained, "STEPS_BETWEEN_LOOKS", 1)
    model = run_copy.load_model()
    first = choose_density(run_copy, model, kind.name)
    (path,) = (run_copy.directory / "densities").iterdir()
    fit = kind.fit
    monkeypatch.setattr(kind, "fit", None)
    np.testing.assert_array_equal(many(choose_density(run_copy, model, kind.name), 3), many(first, 3))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"npz: cannot be read .*Remove it"):
        choose_density(run_copy, model, kind.name)
    monkeypatch.setattr(kind, "fit", fit)
    with_latents(run_copy, run_copy.load_latents()["loc"] + 1.0)
    assert not np.allclose(many(choose_density(run_copy, model, kind.name), 3), many(first, 3))
    choose_density(run_copy, model, kind.name, seed=1)
    assert len(list((run_copy.directory / "densities").iterdir())) == 3


@pytest.mark.parametrize("kind", FITTED)
def test_a_fit_is_the_same_again_and_does_without_validation_people(kind):
    people = two_clouds(60)
    one, other = (kind.fit(people, None, people, NOTHING, seed=3) for _ in range(2))
    np.testing.assert_array_equal(many(one, 3), many(other, 3))
    assert np.isfinite(one.log_density(people)).all()


def test_of_many_latents_the_mixture_keeps_the_principal_components(monkeypatch):
    monkeypatch.setattr("mrigen.generation.densities.fitted.MOST_LATENTS", 10)
    loc = np.random.default_rng(0).standard_normal((30, 12)) * np.linspace(3.0, 0.1, 12) + 1.0
    density = MixtureDensity.fit(loc, None, loc, np.zeros((0, 12)))
    assert density.whitening.factor.shape == (12, 12) or not density.whitening.is_invertible
    draws = many(density, 1000)
    np.testing.assert_allclose(draws.mean(axis=0), loc.mean(axis=0), atol=0.4)
    assert 0.5 < draws.var(axis=0).sum() / loc.var(axis=0, ddof=1).sum() < 1.2


@pytest.mark.parametrize(("shift", "chosen"), [(0.0, {"prior"}), (5.0, {"gaussian", "gmm"})])
def test_auto_takes_the_density_under_which_validation_people_are_likelier(run_copy, shift, chosen):
    count = len(run_copy.load_latents()["scan_id"])
    loc = shift + np.random.default_rng(0).standard_normal((count, 8))
    if shift:
        run = with_latents(run_copy, loc)
    else:  # Posteriors that are the prior, but for those of the validation people, who lie where no other does.
        validation = np.isin(run_copy.load_latents()["scan_id"], run_copy.load_latents("validation")["scan_id"])
        run = with_latents(run_copy, np.where(validation[:, None], 1.0, 0.0) * np.ones(8), scale=0.3)
    assert choose_density(run, run.load_model()).name in chosen
    for name in ("prior", "gaussian", "gmm"):
        assert choose_density(run, run.load_model(), name).name == name


def test_posterior_draws_have_the_mean_and_spread_of_the_posteriors(run_copy):
    count = len(run_copy.load_latents()["scan_id"])
    run = with_latents(run_copy, np.arange(count)[:, None] * np.ones((count, 8)), scale=0.2)
    draws, condition = posterior_draws(run, run.load_model(), "train")
    loc = run.load_latents("train")["loc"]
    assert condition is None and draws.shape == (8 * len(loc), 8)
    residual = draws - np.repeat(loc, 8, axis=0)
    assert residual.std() == pytest.approx(0.2, rel=0.1) and abs(residual.mean()) < 0.03


def test_covariates_move_a_fitted_density(run_copy):
    run = run_copy
    from mrigen.data.covariates import Covariates

    table = run.subjects.set_index("scan_id").loc[run.load_latents()["scan_id"]]
    sign = np.where(table["sex"] == "M", 1.0, -1.0)[:, None]
    noise = 0.1 * np.random.default_rng(0).standard_normal((len(table), 8))
    run = with_latents(run, sign * np.arange(8.0) + noise)
    covariates = Covariates.of(run.subjects, run.split, ["sex"])
    model = run.load_model()
    density = choose_density(run, model, "gaussian", covariates=covariates)
    for value in (1.0, -1.0):
        draws = np.stack([density.draw(np.random.default_rng(k), 1.0, np.array([value])) for k in range(50)])
        np.testing.assert_allclose(draws.mean(axis=0), value * np.arange(8.0), atol=0.6)
        assert (
            density.log_density(draws, np.full((50, 1), value)).mean()
            > density.log_density(draws, np.full((50, 1), -value)).mean()
        )
    with pytest.raises(UsageError, match="expected one of auto, gaussian, gmm, flow, two-stage for kind vae that was"):
        choose_density(run, model, "prior", covariates=covariates)


@pytest.mark.parametrize("density", [PriorDensity(NormalPrior(3)), GaussianDensity(np.zeros(3), np.eye(3))])
def test_log_densities_are_in_nats(density):
    expected = stats.norm.logpdf([[1, 1, 1], [2, -2, 2]]).sum(axis=1)
    np.testing.assert_allclose(density.log_density(np.array([[1, 1, 1], [2, -2, 2]], np.float32)), expected, rtol=1e-6)


def test_an_unknown_density_is_refused(finished_run):
    with pytest.raises(UsageError, match="density: got best, expected one of auto, prior, gaussian, gmm, flow, two-"):
        choose_density(finished_run, finished_run.load_model(), "best")
