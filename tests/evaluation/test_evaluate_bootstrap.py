"""Intervals by drawing families again."""

import numpy as np

from mrigen.evaluation.bootstrap import (
    compared_interval,
    draw_rows,
    drawn_share_interval,
    mean_interval,
    percentiles,
    redrawn_interval,
    share_interval,
)


def test_intervals_hold_the_truth_and_relatives_count_together():
    generator, held = np.random.default_rng(0), {"ratio": 0, "mean": 0, "twins": 0, "naive": 0}
    for number in range(150):
        ours, theirs = np.exp(0.3 * generator.normal(size=(2, 24)))
        names = np.arange(24).astype(str)
        low, high = compared_interval(np.divide, ours, names, theirs, names, number)
        held["ratio"] += low <= 1.0 <= high
        low, high = mean_interval(ours, names, number)
        held["mean"] += low <= np.exp(0.045) <= high
        twins = np.repeat(generator.normal(size=20), 2)
        for key, families in (("twins", np.repeat(np.arange(20), 2)), ("naive", np.arange(40))):
            low, high = mean_interval(twins, families.astype(str), number)
            held[key] += low <= 0.0 <= high
    shares = {name: count / 150 for name, count in held.items()}
    assert min(shares["ratio"], shares["mean"], shares["twins"]) >= 0.9
    assert shares["naive"] < 0.88


def test_share_of_all_has_an_interval():
    low, high = share_interval(np.ones(24, bool), np.arange(24).astype(str))
    assert (round(low, 3), high) == (0.862, 1.0)
    assert share_interval(np.ones(24, bool), np.repeat(np.arange(12), 2).astype(str))[0] < low


def test_a_share_of_one_has_no_point_for_an_interval():
    low, high = drawn_share_interval(1.0, np.ones(200), 24)
    assert low == share_interval(np.ones(24, bool), np.arange(24))[0] < 0.9 and high == 1.0
    draws = np.random.default_rng(0).uniform(0.5, 0.7, 200)
    assert drawn_share_interval(0.6, draws, 24) == percentiles(draws, 24)
    assert drawn_share_interval(1.0, np.full(200, np.nan), 24) == (None, None)


def test_families_are_drawn_whole():
    families = np.array(["b", "a", "b", "c", "d", "c"])
    drawn = [draw_rows(families, np.random.default_rng(seed)) for seed in range(200)]
    for rows in drawn:
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[2] and counts[3] == counts[5]
        assert counts[[0, 1, 3, 4]].sum() == 4
    assert 0.9 < np.mean([np.bincount(rows, minlength=6) for rows in drawn]) < 1.1


def test_a_figure_that_is_found_anew_has_the_interval_of_its_mean():
    values, names = np.random.default_rng(0).normal(size=30), np.arange(30).astype(str)
    expected = mean_interval(values, names, 0)
    found = redrawn_interval(lambda rows: values[rows].mean(), [names], np.random.default_rng(0), 2000)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_draws_without_a_value_are_left_out_and_one_family_has_no_interval():
    draws = np.r_[np.arange(100.0), np.full(50, np.nan)]
    assert percentiles(draws, 50) == percentiles(draws[:100], 50)
    assert percentiles(np.r_[1.0, np.nan, np.nan], 50) == (None, None)
    assert percentiles(draws, 1) == (None, None)
    low, high = percentiles(draws, 5)
    assert low < percentiles(draws, 50)[0] and high > percentiles(draws, 50)[1]
