"""The picture of a probe: its curves, its file, its errors."""

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from mrigen.errors import UsageError
from mrigen.probing.protocol import run_probe
from mrigen.probing.roc import draw_roc, roc_curve


@pytest.mark.parametrize("decimals", [6, 0], ids=["no ties", "ties"])
def test_area_under_the_curve_is_the_metric(decimals):
    generator = np.random.default_rng(0)
    targets = np.arange(41) % 2
    scores = np.round(generator.normal(size=41) + targets, decimals)
    false_positive, true_positive = roc_curve(targets, scores)
    assert (false_positive[0], true_positive[0], false_positive[-1], true_positive[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert auc(false_positive, true_positive) == pytest.approx(roc_auc_score(targets, scores))


def test_picture_is_a_png_and_always_the_same(make_inputs, small_grids, tmp_path):
    result = run_probe(make_inputs(num_people=30, signal=0.5), num_folds=3, num_repeats=2)
    for name in ("a.png", "b.png"):
        draw_roc(result, tmp_path / name)
    draw_roc(result.scores, tmp_path / "c.png")
    contents = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png")]
    assert contents[0].startswith(b"\x89PNG")
    assert contents[0] == contents[1] == contents[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]
    transductive = result.scores[result.scores.protocol == "transductive"]
    draw_roc(transductive, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() != contents[0]

    with pytest.raises(UsageError, match="got no column score, expected predictor, "):
        draw_roc(result.scores.drop(columns="score"), tmp_path / "none.png")
    with pytest.raises(UsageError, match="got no protocol that was run"):
        draw_roc(result.scores[result.scores.target == 1], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
