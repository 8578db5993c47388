"""Each predictor learns from the training people of the fold, and from nobody else."""

import functools

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mrigen.probing import predictors
from mrigen.probing.confounds import AmongPredictor, deconfounded
from mrigen.probing.harmonise import harmonised
from mrigen.probing.learners import ClassifierPredictor
from mrigen.probing.plan import CLASSIFIERS
from mrigen.probing.predictors import (
    MAX_DEVIATION,
    KernelSVMPredictor,
    LogisticPredictor,
    MajorityPredictor,
    PrincipalComponents,
    StandardizedVoxels,
    _logistic_path,
    inner_folds,
    stratified_group_folds,
)


def _classifier(name, matrix):
    return ClassifierPredictor(name, matrix, 2)


PREDICTORS = {
    "logistic": lambda matrix: LogisticPredictor(matrix),
    "pca": lambda matrix: LogisticPredictor(PrincipalComponents(matrix, 6)),
    "linear": lambda matrix: KernelSVMPredictor(StandardizedVoxels(matrix), "linear"),
    "rbf": lambda matrix: KernelSVMPredictor(StandardizedVoxels(matrix), "rbf"),
    "majority": lambda matrix: MajorityPredictor(),
    "deconfounded": lambda matrix: LogisticPredictor(deconfounded(matrix[:, 2:], matrix[:, :2])),
    "harmonised": lambda matrix: LogisticPredictor(harmonised(matrix, SITE)),
    "among": lambda matrix: AmongPredictor(LogisticPredictor(matrix), np.arange(40)),
} | {f"classifier {name}": functools.partial(_classifier, name) for name in CLASSIFIERS}
SITE = np.array(["here", "there"])[np.arange(40) // 3 % 2]
GROUPS = np.array([f"sub-{i}" for i in range(40)])
TARGET = np.random.default_rng(0).permutation(np.arange(40) % 2)
TRAIN, TEST = np.arange(30), np.arange(30, 40)


@pytest.fixture
def matrix():
    generator = np.random.default_rng(1)
    return (generator.normal(size=(40, 130)) + 0.3 * TARGET[:, None]).astype(np.float32)


@pytest.fixture(params=PREDICTORS)
def score(request, small_grids):
    """Returns a function: (matrix, target) -> scores and predictions of the test people."""

    def run(matrix, targets=TARGET, train=TRAIN):
        result = PREDICTORS[request.param](matrix).fit_score(targets, GROUPS, train, TEST, seed=0)
        return np.stack([result.score, result.prediction])

    return run


def test_a_gigantic_test_person_moves_nobody_elses_score(score, matrix):
    before = score(matrix)
    matrix[TEST[3]] = 1e4 * (1.0 + np.arange(130) % 7)
    np.testing.assert_allclose(np.delete(score(matrix), 3, axis=1), np.delete(before, 3, axis=1), rtol=1e-9)


def test_labels_of_test_people_are_not_read(score, matrix):
    flipped = TARGET.copy()
    flipped[TEST] = 1 - flipped[TEST]
    np.testing.assert_array_equal(score(matrix, flipped), score(matrix))


def test_two_fits_with_one_seed_are_equal(score, matrix):
    np.testing.assert_array_equal(score(matrix), score(matrix))


def test_too_few_training_people_for_an_inner_choice_still_give_scores(score, matrix):
    train = np.array([int(np.flatnonzero(TARGET == 0)[0]), *np.flatnonzero(TARGET[:30] == 1)[:4]])
    assert np.isfinite(score(matrix, train=train)).all()


def test_volumes_without_any_difference_still_give_scores(score):
    assert np.isfinite(score(np.ones((40, 20), np.float32))).all()


def test_features_are_fitted_on_training_people_of_inner_folds_too(matrix, small_grids):
    asked = []

    def features(train):
        asked.append(set(train))
        return matrix[:, :4]

    LogisticPredictor(features).fit_score(TARGET, GROUPS, TRAIN, TEST, seed=0)
    assert asked[-1] == set(TRAIN)
    assert len(asked) == 3
    assert all(rows < set(TRAIN) for rows in asked[:-1])


def test_standardised_voxels_equal_a_scaler_fitted_on_the_training_people(matrix):
    matrix[:, 5] = 0.1
    matrix[TEST, 5] = 9.0  # constant among the training people: dropped
    kept = np.delete(matrix, 5, axis=1).astype(float)
    standardized = StandardScaler().fit(kept[TRAIN]).transform(kept).clip(-MAX_DEVIATION, MAX_DEVIATION)
    expected = standardized @ standardized.T / kept.shape[1]
    voxels = StandardizedVoxels(matrix)
    np.testing.assert_allclose(voxels.gram(TRAIN), expected, atol=1e-5)
    others = np.arange(5, 35)
    assert not np.allclose(voxels.gram(others), expected)  # the kept result belongs to one training part
    np.testing.assert_allclose(voxels.gram(TRAIN), expected, atol=1e-5)


def test_principal_components_equal_scikit_learn_and_are_capped_below_the_training_people(matrix):
    reference = PCA(6, svd_solver="full").fit(matrix[TRAIN].astype(float)).transform(matrix)
    scores = PrincipalComponents(matrix, 6)(TRAIN)
    np.testing.assert_allclose(np.abs(scores), np.abs(reference), atol=1e-4)
    assert PrincipalComponents(matrix, 64)(TRAIN).shape == (40, 29)


@pytest.mark.parametrize("seed", range(4))
def test_folds_keep_families_whole_and_classes_in_proportion(seed):
    generator = np.random.default_rng(seed)
    groups = np.repeat([f"family-{i}" for i in range(50)], 2)
    targets = generator.integers(0, 2, 100)
    folds = stratified_group_folds(targets, groups, 5, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(100))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert abs(targets[test].mean() - targets.mean()) < 0.12
        for inner_train, inner_test in inner_folds(targets, groups, train, seed):
            assert not set(inner_train) & set(inner_test)
            assert set(inner_train) | set(inner_test) == set(train)
            assert not set(groups[inner_train]) & set(groups[inner_test])


@pytest.mark.parametrize(("num_rare", "num_folds"), [(9, 5), (3, 3), (2, 2), (1, 0), (0, 0)])
def test_folds_are_reduced_to_the_rarer_class(num_rare, num_folds):
    targets = np.array([1] * num_rare + [0] * 20)
    folds = stratified_group_folds(targets, np.arange(len(targets)).astype(str), 5, seed=0)
    assert len(folds) == num_folds
    assert all(len(np.unique(targets[train])) == 2 for train, _ in folds)


def test_one_large_family_does_not_leave_a_training_part_with_one_class():
    groups = np.array(["a"] * 6 + ["b"] * 2 + [f"c{i}" for i in range(9)])
    targets = np.array([1] * 8 + [0] * 9)
    for seed in range(5):
        for train, _ in stratified_group_folds(targets, groups, 5, seed):
            assert len(np.unique(targets[train])) == 2


@pytest.mark.parametrize(("share", "num_features"), [(0.5, 12), (0.2, 12), (0.5, 300)])
def test_log_odds_are_those_of_scikit_learn(share, num_features):
    generator = np.random.default_rng(4)
    inputs, outputs = generator.normal(size=(40, num_features)), generator.normal(size=(9, num_features))
    targets = (inputs[:, 0] + generator.normal(size=40) > np.quantile(inputs[:, 0], 1 - share)).astype(int)
    values_of_c = (1e-4, 1e-1, 10.0)
    for c, found in zip(values_of_c, _logistic_path(inputs, targets, outputs, values_of_c), strict=True):
        model = LogisticRegression(C=c, class_weight="balanced", tol=1e-10, max_iter=10_000)
        expected = model.fit(inputs, targets).decision_function(outputs)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_thousands_of_latents_take_no_longer_than_there_are_people(monkeypatch):
    """A spatial latent, such as the term paper's, has thousands; a Newton step of all of them takes a second."""
    sizes, newton = [], predictors._newton
    monkeypatch.setattr(predictors, "_newton", lambda first, *rest: sizes.append(first.shape) or newton(first, *rest))
    generator = np.random.default_rng(5)
    _logistic_path(generator.normal(size=(40, 3000)), TARGET, generator.normal(size=(3, 3000)), (1.0,))
    assert sizes == [(40, 41)]
