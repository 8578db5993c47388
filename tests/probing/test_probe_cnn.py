"""The network that is taught the target: it finds what is planted, and looks at nobody who is tested."""

import numpy as np
import pytest

from mrigen.probing import cnn
from mrigen.probing.targets import SEX, Target

SHAPE, ZOOMS = (7, 8, 9), (8.0, 8.0, 8.0)
TRAIN, TEST = np.arange(30), np.arange(30, 40)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(cnn, "EPOCHS", 25)
    build = cnn.build_network
    monkeypatch.setattr(cnn, "build_network", lambda shape, outputs, seed: build(shape, outputs, seed, (8,)))
    monkeypatch.setattr(cnn, "LEARNING_RATE", 2e-2)


@pytest.fixture
def volumes():
    return np.random.default_rng(0).uniform(0.0, 0.3, (40, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(
    ("target", "targets"),
    [
        (SEX, np.arange(40) % 2),
        (Target("site", ("a", "b", "c")), np.arange(40) % 3),
        (Target("age", None), 20.0 + 10.0 * (np.arange(40) % 4)),
    ],
    ids=["binary", "multiclass", "regression"],
)
def test_a_network_learns_from_training_people_alone(quick, volumes, target, targets):
    volumes = volumes + (0.25 * (targets - targets.min()) / np.ptp(targets))[:, None, None, None].astype(np.float32)
    groups = np.arange(40).astype(str)
    found = cnn.CNNPredictor(volumes.reshape(40, -1), SHAPE, ZOOMS, target).fit_score(targets, groups, TRAIN, TEST, 3)
    if target.task == "regression":
        assert np.corrcoef(found.score, targets[TEST])[0, 1] > 0.8
        assert abs(found.score.mean() - targets.mean()) < 8.0
    else:
        assert (found.prediction == targets[TEST]).mean() >= 0.8
    # Others who are tested, and all labels of the tested, may be anything.
    strange, turned = volumes.copy(), targets.copy()
    strange[39] = 1.0
    turned[TEST] = turned[TEST][::-1]
    again = cnn.CNNPredictor(strange.reshape(40, -1), SHAPE, ZOOMS, target).fit_score(turned, groups, TRAIN, TEST, 3)
    np.testing.assert_allclose(again.score[:9], found.score[:9], rtol=1e-4, atol=1e-4)
