"""Permutations: of whole families, uniform p-values without a signal, small ones with it."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from scipy import stats

from mrigen.probing.learners import RidgePredictor
from mrigen.probing.permutation import (
    PermutationTest,
    cross_validated_figure,
    deconfounded_permutation_test,
    exchange_beside_confounds,
    exchange_order,
    permutation_test,
    permute_by_group,
)
from mrigen.probing.predictors import LogisticPredictor
from mrigen.probing.protocol import run_probe
from mrigen.probing.targets import SEX, Target

pytestmark = pytest.mark.usefixtures("small_grids")
QUICK = {"num_folds": 3, "num_repeats": 1}


def of_noise(seed, signal=0.0, count=20, num_permutations=19, **options):
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(count) % 2)
    latents = generator.normal(size=(count, 2)) + signal * targets[:, None]
    groups = np.arange(count).astype(str)
    return permutation_test(
        LogisticPredictor(latents), targets, groups, SEX, num_permutations, seed=seed, **{"jobs": 1, **QUICK, **options}
    )


def test_p_values_of_noise_are_uniform():
    values = [of_noise(seed).p_value for seed in range(16)]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert 0.3 < np.mean(values) < 0.7


def test_a_signal_has_the_smallest_p_value_there_is():
    test = of_noise(0, signal=3.0)
    assert test.p_value == 1 / 20
    assert test.observed > 0.9 > np.mean(test.null)
    assert test.as_dict()["p"] == 1 / 20


def test_the_same_seed_gives_the_same_test_whatever_the_jobs():
    calls = []
    first = of_noise(1, num_permutations=5, progress=lambda: calls.append(1))
    assert len(calls) == 5
    with joblib.parallel_config(backend="threading"):
        assert of_noise(1, num_permutations=5, jobs=2) == first
    assert len(set(first.null)) > 1


def test_the_observed_figure_is_that_of_the_probe(make_inputs):
    inputs = make_inputs(num_people=40, signal=0.4)
    settings = {"num_folds": 3, "num_repeats": 2, "seed": 4}
    figure = cross_validated_figure(LogisticPredictor(inputs.latents), inputs.targets, inputs.groups, SEX, **settings)
    row = run_probe(inputs, **settings).rows()[0]
    assert (row["predictor"], row["protocol"]) == ("latents", "transductive")
    assert row["roc_auc"] == pytest.approx(figure, abs=1e-6)


def test_ties_and_missing_figures_count_against_the_finding():
    assert PermutationTest("roc_auc", 0.7, (0.7, 0.6, float("nan"), 0.8)).p_value == 4 / 5


def test_families_stay_together_and_people_alone_among_themselves():
    groups = np.repeat([f"family-{i}" for i in range(20)], 2).tolist() + [f"alone-{i}" for i in range(30)]
    targets = np.concatenate([np.repeat(np.arange(20) % 2, 2), np.full(30, 7)])
    seen = []
    for seed in range(5):
        permuted = permute_by_group(targets, np.array(groups), np.random.default_rng(seed))
        assert sorted(permuted) == sorted(targets)
        assert (permuted[40:] == 7).all()
        assert (permuted[:40:2] == permuted[1:40:2]).all()
        seen.append(tuple(permuted))
    assert len(set(seen)) == 5


def test_numbers_are_tested_by_their_correlation():
    generator = np.random.default_rng(0)
    latents = generator.normal(size=(40, 3))
    age = 40.0 + 10.0 * latents[:, 0] + generator.normal(size=40)
    target = Target("age", None)
    predictor = RidgePredictor(latents, target)
    test = permutation_test(predictor, age, np.arange(40).astype(str), target, 9, jobs=1, **QUICK)
    assert (test.metric, test.p_value) == ("r", 0.1)
    assert test.observed > 0.9


def test_other_processes_need_no_tensorflow():
    code = "import sys, mrigen.probing.permutation; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_test_that_broke_off_goes_on_to_the_same_p_value(make_inputs, tmp_path):
    from mrigen.probing.permutation_cache import PermutationCache

    inputs = make_inputs(num_people=20)
    kept = PermutationCache(tmp_path / "null.json", inputs, 1)
    whole = of_noise(1, num_permutations=12)
    of_noise(1, num_permutations=10, keep=kept.write)
    assert len(kept.read()) == 10
    calls = []
    again = of_noise(1, num_permutations=12, known=kept.read(), keep=kept.write, progress=lambda: calls.append(1))
    assert again == whole
    assert len(calls) == len(kept.read()) == 12
    # What belongs to other latents, or to another seed, is not taken.
    assert PermutationCache(kept.path, make_inputs(num_people=20, seed=9), 1).read() == []
    assert PermutationCache(kept.path, inputs, 2).read() == []


def test_people_exchange_within_sites_and_families():
    groups = np.r_[np.repeat([f"twins-{i}" for i in range(12)], 2), [f"alone-{i}" for i in range(30)]]
    site = np.r_[np.tile(["a", "b"], 12), np.resize(["a", "b", "c"], 30)]
    for seed in range(5):
        order = exchange_order(groups, np.random.default_rng(seed), site)
        assert sorted(order) == list(range(54))
        np.testing.assert_array_equal(site[order], site)
        np.testing.assert_array_equal(groups[order][:24:2], groups[order][1:24:2])
        assert (order != np.arange(54)).mean() > 0.5


def confounded(seed, signal=0.0, count=48):
    """Returns a test of latents that know a size, and a signal beside it."""
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(count) % 2)
    size = 1.5 * targets + generator.normal(size=count)
    latents = generator.normal(size=(count, 3))
    latents[:, 0] += 3.0 * size
    latents[:, 1] += signal * targets
    return deconfounded_permutation_test(
        latents, size[:, None], [1.0], targets, np.arange(count).astype(str), SEX, 9, seed=seed, jobs=1, **QUICK
    )


def test_what_confounds_explain_is_no_finding():
    values = [confounded(seed).p_value for seed in range(14)]
    assert 0.3 < np.mean(values) < 0.8
    assert confounded(0, signal=4.0).p_value == 0.1
    assert confounded(0).as_dict()["predictor"] == "latents_deconfounded"


def test_exchanged_latents_keep_what_confounds_explain():
    generator = np.random.default_rng(0)
    size, beside = generator.normal(size=(200, 1)), generator.integers(0, 2, (200, 1)).astype(float)
    latents = np.hstack([2.0 * size, 3.0 * beside]) + 0.1 * generator.normal(size=(200, 2))
    exchanged = exchange_beside_confounds(latents, size, beside, np.ones(1), generator.permutation(200))
    assert np.corrcoef(exchanged[:, 0], size[:, 0])[0, 1] > 0.99
    assert abs(np.corrcoef(exchanged[:, 1], beside[:, 0])[0, 1]) < 0.25
    # What is known of the confounds is not taken for all that is true of them.
    noisy = exchange_beside_confounds(latents, size, beside, np.full(1, 0.8), np.arange(200))
    np.testing.assert_allclose(noisy, latents)
