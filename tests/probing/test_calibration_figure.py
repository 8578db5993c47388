"""The calibration curve: on the diagonal for true probabilities, off it for exaggerated ones."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from mrigen.errors import UsageError
from mrigen.imaging.figures import save_figure
from mrigen.probing.calibration import calibration_curve
from mrigen.probing.protocol import run_probe
from mrigen.probing.targets import Target


def test_true_probabilities_lie_on_the_diagonal_and_exaggerated_ones_do_not():
    generator = np.random.default_rng(0)
    log_odds = generator.normal(size=8000) * 1.5
    targets = (generator.uniform(size=8000) < expit(log_odds)).astype(int)
    curve = calibration_curve(targets, log_odds)
    assert curve["num_subjects"].tolist() == [800] * 10
    np.testing.assert_allclose(curve["predicted"], curve["observed"], atol=0.05)
    assert (curve["low"] < curve["observed"]).all() and (curve["observed"] < curve["high"]).all()
    assert (
        np.abs(np.subtract(*calibration_curve(targets, 4.0 * log_odds)[["predicted", "observed"]].T.values)).max()
        > 0.15
    )


def test_a_rare_class_weighs_as_much():
    targets = np.array([0] * 9 + [1] + [0] * 9 + [1])
    (bin_of_all,) = calibration_curve(targets[:10], np.zeros(10)).to_dict("records")
    assert bin_of_all["observed"] == pytest.approx(0.5)  # not the 0.1 of the head count
    assert bin_of_all["predicted"] == pytest.approx(0.5)
    assert calibration_curve(targets, np.zeros(20))["observed"].tolist() == pytest.approx([0.5, 0.5])


def test_picture_is_a_png_and_always_the_same(make_inputs, small_grids, tmp_path):
    result = run_probe(make_inputs(num_people=40, signal=0.5), num_folds=3, num_repeats=2)
    for name in ("a.png", "b.png"):
        save_figure(result.plot_calibration(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(UsageError, match="got no scores of age"):
        result.plot_calibration("age")
    with pytest.raises(UsageError, match="got a probe of age, expected a target of two classes"):
        dataclasses.replace(result, target=Target("age", None)).plot_calibration()
