"""Fewer people to learn from, the same people tested."""

import itertools

import numpy as np
import pytest

from mrigen.imaging.figures import save_figure
from mrigen.probing.inputs import checked
from mrigen.probing.learning_curve import first_families, learning_curve, training_order

pytestmark = pytest.mark.usefixtures("small_grids")


class Watch:
    """Remembers who taught it."""

    def __init__(self):
        self.taught = {}

    def fit_score(self, targets, groups, train, test, seed):
        from mrigen.probing.predictors import FoldScores

        self.taught.setdefault(test.tobytes(), []).append(set(train.tolist()))
        return FoldScores(targets[test] + 0.0, targets[test], "")


def test_parts_are_nested_keep_families_and_end_with_everyone(make_inputs, tmp_path):
    groups = np.repeat([f"family-{i}" for i in range(40)], 2)
    inputs = checked(make_inputs(num_people=80, groups=groups, split=np.repeat(["train"], 80)), 4, 2)
    watch = Watch()
    curve = learning_curve(inputs, {"latents": watch}, num_folds=4, num_repeats=2)
    counts = [row["num_training"] for row in curve.rows]
    assert len(counts) > 2
    assert counts == sorted(counts)
    assert counts[-1] == 60
    assert len(watch.taught) == 8
    for test, parts in watch.taught.items():
        tested = {groups[row] for row in np.frombuffer(test, int)}
        assert all(small < large for small, large in itertools.pairwise(parts))
        for part in parts:
            assert not tested & {groups[row] for row in part}
            assert len(part) == 2 * len({groups[row] for row in part})
    save_figure(curve.plot(), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_every_beginning_of_the_order_has_classes_in_proportion():
    strata, groups = np.repeat([0, 1], [60, 20]), np.arange(80).astype(str)
    order = training_order(strata, groups, np.arange(80), 3)
    assert sorted(order) == list(range(80))
    for count in (12, 20, 40, 60):
        assert abs(strata[first_families(order, groups, count)].sum() - count / 4) <= 1.5
