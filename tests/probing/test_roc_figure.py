"""The picture of a probe: its curves, its file, its errors."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from mrigen.errors import UsageError
from mrigen.imaging.figures import save_figure
from mrigen.probing.protocol import run_probe
from mrigen.probing.roc import plot_roc
from mrigen.probing.targets import Target


@pytest.mark.parametrize("decimals", [6, 0], ids=["no ties", "ties"])
def test_area_under_a_drawn_curve_is_the_metric(make_inputs, small_grids, decimals):
    result = run_probe(make_inputs(num_people=40, signal=0.3), num_folds=3, num_repeats=1)
    table = result.scores[(result.scores.predictor == "latents") & (result.scores.protocol == "transductive")]
    table = table.assign(score=table["score"].round(decimals))
    axes = plot_roc(table).axes[0]
    (curve,) = [line for line in axes.lines if line.get_label().startswith("latents")]
    assert (*curve.get_xydata()[0], *curve.get_xydata()[-1]) == (0.0, 0.0, 1.0, 1.0)
    areas = [roc_auc_score(fold["target"], fold["score"]) for _, fold in table.groupby("fold")]
    assert auc(*curve.get_xydata().T) == pytest.approx(np.mean(areas))


def test_picture_is_a_png_and_always_the_same(make_inputs, small_grids, tmp_path):
    result = run_probe(make_inputs(num_people=30, signal=0.5), num_folds=3, num_repeats=2)
    for name, figure in (("a", result.plot_roc()), ("b", result.plot_roc())):
        save_figure(figure, tmp_path / f"{name}.png", bbox_inches="tight")
    contents = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    assert contents[0].startswith(b"\x89PNG")
    assert contents[0] == contents[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    transductive = result.scores[result.scores.protocol == "transductive"]
    save_figure(plot_roc(transductive), tmp_path / "one.png", bbox_inches="tight")
    assert (tmp_path / "one.png").read_bytes() != contents[0]

    with pytest.raises(UsageError, match="got no column score, expected predictor, "):
        plot_roc(result.scores.drop(columns="score"))
    with pytest.raises(UsageError, match="got no protocol that was run"):
        plot_roc(result.scores[result.scores.target == 1])
    with pytest.raises(UsageError, match="got a probe of age, expected a target of two classes"):
        dataclasses.replace(result, target=Target("age", None)).plot_roc()
