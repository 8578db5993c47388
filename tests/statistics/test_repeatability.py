"""Agreement of two measurements of one person: published numbers, and what is known to be good or bad."""

import numpy as np
import pytest

from mrigen.statistics import repeatability as module
from mrigen.statistics.repeatability import (
    cka_interval,
    discriminate,
    identify,
    intraclass,
    intraclass_whole,
    linear_cka,
    repeatability,
)

# Six targets, four judges: Shrout and Fleiss 1979, table 2.
SHROUT = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def scans(icc, people=60, each=2, variables=8, seed=0, shift=0.0):
    """Returns values (people * each, variables) of a known ICC, and whose they are."""
    rng = np.random.default_rng(seed)
    own = np.sqrt(icc) * rng.standard_normal((people, 1, variables))
    noise = np.sqrt(1 - icc) * rng.standard_normal((people, each, variables))
    values = own + noise + shift * np.arange(each)[None, :, None]
    return values.reshape(people * each, variables), np.repeat([f"p{n:03d}" for n in range(people)], each)


def test_icc_is_the_published_one():
    # They print .29 for ICC(2,1).
    assert intraclass(SHROUT[:, :, None])[0] == pytest.approx(0.2898, abs=1e-4)
    assert intraclass_whole(SHROUT[:, :, None]) == pytest.approx(0.2898, abs=1e-4)


def test_mean_squares_are_the_published_ones():
    squares = module._mean_squares(SHROUT[:, :, None], np.ones((1, 6)))
    assert [float(part[0, 0]) for part in squares] == pytest.approx([11.24, 32.49, 1.02], abs=0.01)


def test_counting_a_person_twice_is_having_the_person_twice():
    weights = np.array([2.0, 1, 0, 1, 3, 1])
    twice = np.repeat(SHROUT, weights.astype(int), axis=0)
    assert intraclass(SHROUT[:, :, None], weights)[0] == pytest.approx(intraclass(twice[:, :, None])[0])


@pytest.mark.parametrize("icc", [0.0, 0.35, 0.8, 0.97])
def test_simulated_correlations_are_found(icc):
    values, persons = scans(icc, people=400, each=3)
    result = repeatability(values, persons)
    assert result.median.value == pytest.approx(icc, abs=0.05)
    assert result.whole.value == pytest.approx(icc, abs=0.03)
    assert result.whole.low < icc < result.whole.high


def test_intervals_hold():
    covered = []
    for seed in range(60):
        values, persons = scans(0.7, people=30, variables=4, seed=seed)
        whole = repeatability(values, persons).whole
        covered.append(whole.low <= 0.7 <= whole.high)
    assert np.mean(covered) > 0.87


def test_a_shift_of_all_second_scans_counts_against_agreement():
    still, persons = scans(0.9, people=200)
    shifted, _ = scans(0.9, people=200, shift=2.0)
    assert repeatability(shifted, persons).whole.value < repeatability(still, persons).whole.value - 0.3


def test_measures_that_repeat_exactly_are_one():
    values, persons = scans(1.0, people=12)
    result = repeatability(values, persons)
    for name in ("median", "worst", "whole", "discriminability", "identified", "identified_mahalanobis"):
        assert getattr(result, name).value == pytest.approx(1.0)
    assert result.identified.high == 1.0
    # Nothing but successes in twelve: Clopper and Pearson's lower bound.
    assert result.identified.low == pytest.approx(0.025 ** (1 / 12))


def test_shuffled_scans_have_no_agreement():
    values, persons = scans(0.95, people=100)
    order = np.random.default_rng(1).permutation(len(values))
    result = repeatability(values[order], persons)
    assert abs(result.whole.value) < 0.1
    assert result.discriminability.value == pytest.approx(0.5, abs=0.05)
    assert result.identified.value < 0.05
    assert result.whole.low < 0 < result.whole.high


def test_size_alone_agrees_and_finds_nobody():
    size, persons = scans(0.98, people=100, variables=1)
    result = repeatability(size, persons)
    assert result.whole.value > 0.95
    assert result.discriminability.value > 0.9
    assert result.identified.value < 0.5
    assert result.identified_mahalanobis.value is None
    many, _ = scans(0.98, people=100, variables=16)
    assert repeatability(many, persons).identified.value == 1.0


def test_constant_measures_are_undefined():
    _, persons = scans(0.5, people=8)
    result = repeatability(np.ones((16, 3)), persons)
    assert np.isnan(result.icc).all()
    assert {getattr(result, name).value for name in ("median", "worst", "whole", "identified")} == {None}


def test_constant_variables_are_left_out_of_median_and_worst():
    values, persons = scans(0.9, people=40, variables=4)
    values[:, 2] = 3.0
    result = repeatability(values, persons)
    assert np.isnan(result.icc).tolist() == [False, False, True, False]
    assert result.worst.value > 0.7
    assert result.worst.low <= result.worst.value


def test_turning_vectors_changes_nothing_of_the_whole():
    values, persons = scans(0.6, variables=5)
    values *= [1, 2, 3, 4, 5]
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    first, second = repeatability(values, persons), repeatability(values @ turn, persons)
    for name in ("whole", "discriminability", "identified", "identified_mahalanobis"):
        assert getattr(first, name).value == pytest.approx(getattr(second, name).value)


def test_unequal_numbers_of_scans_are_used_as_far_as_everyone_has_them():
    values, persons = scans(0.9, people=20, each=3)
    kept = np.ones(len(values), bool)
    kept[2] = False
    result = repeatability(values[kept], persons[kept])
    assert (result.scans_each, result.num_scans, result.num_people) == (2, 59, 20)
    assert result.icc == pytest.approx(intraclass(values.reshape(20, 3, -1)[:, :2]))


def test_order_of_people_does_not_matter():
    values, persons = scans(0.7, people=10)
    order = np.random.default_rng(0).permutation(10)
    shuffled = values.reshape(10, 2, -1)[order].reshape(20, -1)
    first, second = repeatability(values, persons), repeatability(shuffled, np.repeat(persons[::2][order], 2))
    assert first.whole.value == pytest.approx(second.whole.value)
    assert first.identified.value == pytest.approx(second.identified.value)


def test_relatives_widen_the_interval():
    rng = np.random.default_rng(0)
    shares = np.repeat(rng.random(20) < 0.5, 3).astype(float)
    families, persons = np.repeat(np.arange(20), 3), np.arange(60)
    widths = []
    for groups in (families, persons):
        estimate = module._estimate_of_shares(shares, groups)
        widths.append(estimate.high - estimate.low)
    assert widths[0] > 1.4 * widths[1]


def test_identify_by_hand():
    # a's two scans are neighbours; b's second lies nearer to a than to b's first.
    points, persons = np.array([0.0, 1.0, 10.0, 4.0]), np.array(["a", "a", "b", "b"])
    distances = np.abs(points[:, None] - points[None])
    assert identify(distances, persons).tolist() == [1, 1, 1, 0]
    assert discriminate(distances, persons).tolist() == [1, 1, 1, 0]


def test_ties_count_as_guesses():
    persons = np.repeat(["a", "b", "c"], 2)
    assert identify(np.zeros((6, 6)), persons) == pytest.approx([1 / 5] * 6)
    assert discriminate(np.zeros((6, 6)), persons) == pytest.approx([0.5] * 6)


def naive_identified(values, persons):
    right = []
    for first in range(len(values)):
        for second in range(len(values)):
            if first != second and persons[first] == persons[second]:
                others = [other for other in range(len(values)) if persons[other] != persons[first]]

                def angle(a, b):
                    return 1 - values[a] @ values[b] / np.linalg.norm(values[a]) / np.linalg.norm(values[b])

                right.append(all(angle(first, second) < angle(first, other) for other in others))
    return np.mean(right)


def test_identification_agrees_with_a_naive_loop():
    values, persons = scans(0.55, people=15, each=3, variables=6)
    centred = values - values.mean(axis=0)
    assert repeatability(values, persons).identified.value == pytest.approx(naive_identified(centred, persons))


def test_representations_that_are_turned_are_alike():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((50, 20))
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    assert linear_cka(first, 3 * first @ turn + 5) == pytest.approx(1.0)


def test_representations_that_know_nothing_of_each_other_are_not_alike_however_many_variables():
    rng = np.random.default_rng(0)
    values = [linear_cka(rng.standard_normal((24, 200)), rng.standard_normal((24, 300))) for _ in range(50)]
    # Without the correction of the bias it is about .9.
    assert abs(np.mean(values)) < 0.03


def test_cka_of_constants_is_undefined():
    assert np.isnan(linear_cka(np.ones((20, 3)), np.random.default_rng(0).standard_normal((20, 3))))
    assert np.isnan(linear_cka(np.eye(3), np.eye(3)))
    assert cka_interval(np.ones((20, 3)), np.ones((20, 3)), np.arange(20)).value is None


def test_cka_interval_holds_the_value_of_many():
    def pair(people, seed):
        rng = np.random.default_rng(seed)
        common = rng.standard_normal((people, 10))
        return [common + 0.7 * rng.standard_normal((people, 10)) for _ in range(2)]

    truth = linear_cka(*pair(5000, 0))
    estimates = [cka_interval(*pair(40, seed), np.arange(40)) for seed in range(1, 41)]
    assert np.mean([e.low <= truth <= e.high for e in estimates]) > 0.85
