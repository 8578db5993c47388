"""Small probes: few people, few settings, so that many runs take seconds."""

import numpy as np
import pytest

from mrigen.probing import learners, predictors
from mrigen.probing.inputs import ProbeInputs


@pytest.fixture
def small_grids(monkeypatch):
    monkeypatch.setattr(predictors, "LOGISTIC_C", (1e-2, 1.0))
    monkeypatch.setattr(predictors, "SVM_C", (0.1, 10.0))
    monkeypatch.setattr(predictors, "RBF_GAMMA_MULTIPLES", (0.25, 1.0))
    monkeypatch.setattr(predictors, "NUM_INNER_FOLDS", 2)
    monkeypatch.setattr(learners, "RIDGE_ALPHA", (100.0, 1.0))
    monkeypatch.setattr(learners, "NUM_TREES", 25)


@pytest.fixture
def make_inputs():
    """Returns a function that makes inputs whose sex signal has the given strengths (sd units)."""

    def make(num_people=60, signal=0.0, voxel_signal=None, seed=0, **changes):
        generator = np.random.default_rng(seed)
        targets = generator.permutation(np.arange(num_people) % 2)
        side = (2 * targets - 1)[:, None]
        voxel_signal = signal if voxel_signal is None else voxel_signal
        volumes = generator.normal(size=(num_people, 210)) + voxel_signal * side * (np.arange(210) % 3 == 0)
        volumes[:, :7] = 0.0  # air: constant voxels
        values = {
            "participant_ids": np.array([f"sub-{i:03d}" for i in range(num_people)]),
            "targets": targets,
            "groups": np.array([f"sub-{i:03d}" for i in range(num_people)]),
            "site": np.full(num_people, "here"),
            "split": np.resize(["train", "train", "train", "validation", "heldout"], num_people),
            "latents": (generator.normal(size=(num_people, 5)) + signal * side).astype(np.float32),
            "latents_draw": (generator.normal(size=(num_people, 5)) + 0.3 * signal * side).astype(np.float32),
            "volumes": volumes.astype(np.float32),
            "head_volume": 3500.0 + 100.0 * (generator.normal(size=num_people) + signal * side[:, 0]),
            "brain_volume": 1400.0 + 100.0 * (generator.normal(size=num_people) + signal * side[:, 0]),
        }
        return ProbeInputs(**(values | changes))

    return make
