"""Probabilistic PCA against scipy's Gaussian, scikit-learn's components and its own maximum."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

import mrigen.statistics.pca
from mrigen.errors import UsageError
from mrigen.statistics.pca import fit_pca, fit_pca_in_blocks, gram_matrix, gram_scores


def people(num_people, num_values, seed=0, rank=4):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(rank, num_values)) * np.array([4.0, 3.0, 2.0, 1.5])[:rank, None]
    noise = 0.5 * generator.normal(size=(num_people, num_values))
    return (generator.normal(size=(num_people, rank)) @ mixing + noise + 3.0).astype(np.float32)


def covariance(model):
    signal = model.eigenvalues - model.noise_variance
    components = model.components.astype(float)
    return (components.T * signal) @ components + model.noise_variance * np.eye(model.mean.size)


@pytest.fixture(params=[(9, 23), (60, 7)], ids=["n<D", "n>D"])
def matrix(request):
    return people(*request.param)


@pytest.fixture(autouse=True, params=[2**22, 40], ids=["one block", "many blocks"])
def block_size(request, monkeypatch):
    monkeypatch.setattr(mrigen.statistics.pca, "_CHUNK_VALUES", request.param)


def test_log_likelihood_equals_the_full_gaussian(matrix):
    model = fit_pca(matrix, 3)
    others = people(5, matrix.shape[1], seed=1)
    expected = multivariate_normal(model.mean, covariance(model)).logpdf(others)
    np.testing.assert_allclose(model.log_likelihood(others), expected, rtol=1e-5)


def test_components_and_variances_equal_scikit_learn(matrix):
    num_people = len(matrix)
    model, reference = fit_pca(matrix, 3), PCA(3, svd_solver="full").fit(matrix.astype(float))
    np.testing.assert_allclose(
        model.eigenvalues * num_people / (num_people - 1), reference.explained_variance_, rtol=1e-5
    )
    np.testing.assert_allclose(np.abs(np.sum(model.components * reference.components_, axis=1)), 1.0, atol=1e-5)
    signs = np.sign(np.sum(model.components * reference.components_, axis=1))
    np.testing.assert_allclose(model.transform(matrix) * signs, reference.transform(matrix), atol=1e-4)
    restored = reference.inverse_transform(reference.transform(matrix))
    np.testing.assert_allclose(model.reconstruct(matrix), restored, atol=1e-4)


def test_noise_variance_is_the_discarded_variance_over_free_directions(matrix):
    model = fit_pca(matrix, 3)
    variance = np.linalg.eigvalsh(np.cov(matrix.T.astype(float), bias=True))[::-1]
    assert model.noise_variance == pytest.approx(variance[3:].sum() / (matrix.shape[1] - 3), rel=1e-5)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_noise_variance_maximises_the_training_likelihood(matrix, factor):
    model = fit_pca(matrix, 3)
    other = dataclasses.replace(model, noise_variance=model.noise_variance * factor)
    assert other.log_likelihood(matrix).mean() < model.log_likelihood(matrix).mean()


def test_calibrated_raises_the_likelihood_of_new_people_to_its_maximum():
    everyone = people(67, 23, seed=3)
    matrix, validation, test = everyone[:9], everyone[9:17], everyone[17:]
    model = fit_pca(matrix, 6)
    calibrated = model.calibrated(validation)
    assert calibrated.noise_variance > model.noise_variance
    assert calibrated.log_likelihood(test).mean() > model.log_likelihood(test).mean()
    np.testing.assert_allclose(
        calibrated.eigenvalues - calibrated.noise_variance, model.eigenvalues - model.noise_variance, rtol=1e-6
    )
    best = calibrated.log_likelihood(validation).mean()
    for factor in (0.8, 0.99, 1.01, 1.25):
        noise = calibrated.noise_variance * factor
        eigenvalues = calibrated.eigenvalues - calibrated.noise_variance + noise
        other = dataclasses.replace(calibrated, noise_variance=noise, eigenvalues=eigenvalues)
        assert other.log_likelihood(validation).mean() < best


def test_calibrated_recovers_the_noise_of_many_people():
    everyone = people(4000, 30, seed=5)
    assert fit_pca(everyone[:40], 4).calibrated(everyone[40:]).noise_variance == pytest.approx(0.25, rel=0.15)


def test_components_are_capped_and_calibration_gives_a_full_model_a_density():
    everyone = people(30, 40)
    model = fit_pca(everyone[:6], 64)
    assert len(model.components) == 5
    np.testing.assert_allclose(model.reconstruct(everyone[:6]), everyone[:6], atol=1e-4)
    with pytest.raises(UsageError, match=r"noise_variance: got 0, expected .* calibrated"):
        model.log_likelihood(everyone)
    assert np.isfinite(model.calibrated(everyone[6:]).log_likelihood(everyone)).all()


def test_repeated_people_add_no_direction():
    matrix = people(4, 20)
    assert len(fit_pca(np.concatenate([matrix, matrix]), 7).components) == 3


def test_scores_from_the_gram_matrix_equal_a_fit_on_the_training_people():
    matrix, train = people(12, 31), np.array([0, 2, 3, 5, 7, 8, 11])
    model = fit_pca(matrix[train], 4)
    expected, scores = model.transform(matrix), gram_scores(gram_matrix(matrix), train, 4)
    np.testing.assert_allclose(scores * np.sign((scores * expected).sum(axis=0)), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_pca(np.ones((1, 4)), 1), r"matrix: got shape \(1, 4\), expected \(people >= 2"),
        (lambda: fit_pca(np.eye(4), 0), "num_components: got 0, expected an integer >= 1"),
        (lambda: fit_pca(np.full((3, 4), np.nan), 1), "got NaN or infinite values"),
        (lambda: fit_pca(np.ones((3, 4)), 1), "all rows are equal"),
        (lambda: fit_pca(np.eye(4), 2).transform(np.eye(3)), r"got shape \(3, 3\), expected \(people, 4\)"),
        (lambda: fit_pca(np.eye(4), 2).calibrated(np.full((2, 4), 0.25)), "every row equals the mean"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_blocks_give_what_all_rows_at_once_do(matrix, monkeypatch):
    monkeypatch.setattr(mrigen.statistics.pca, "_SPARE_DIRECTIONS", 3)
    blocks = [matrix[:2], matrix[2:3], matrix[3:]]
    expected, found = fit_pca(matrix, 3), fit_pca_in_blocks(iter(blocks), 3)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=0.02)
    assert found.noise_variance == pytest.approx(expected.noise_variance, rel=0.02)
    np.testing.assert_allclose(np.abs((found.components * expected.components).sum(axis=1)), 1.0, atol=0.02)


def test_one_block_gives_fit_pca(matrix):
    expected, found = fit_pca(matrix, 3), fit_pca_in_blocks([matrix], 3)
    np.testing.assert_allclose(found.components, expected.components, atol=1e-4)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-5)
    assert found.noise_variance == pytest.approx(expected.noise_variance, rel=1e-4)


def test_blocks_far_from_zero_lose_no_accuracy(matrix):
    blocks = [matrix[:4] + 1000.0, matrix[4:] + 1000.0]
    np.testing.assert_allclose(fit_pca_in_blocks(blocks, 3).eigenvalues, fit_pca(matrix, 3).eigenvalues, rtol=0.02)


@pytest.mark.parametrize(
    "blocks, message",
    [
        ([], "got 0 rows"),
        ([np.ones((1, 5), np.float32)], "got 1 rows"),
        ([np.ones((2, 5), np.float32)] * 2, "all rows are equal"),
        ([np.full((2, 5), np.nan, np.float32)], "NaN or infinite"),
    ],
)
def test_blocks_that_hold_nothing_to_fit_are_refused(blocks, message):
    with pytest.raises(UsageError, match=message):
        fit_pca_in_blocks(blocks, 2)
