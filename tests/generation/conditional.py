"""A run whose model is conditioned, to an effect that one sees."""

import shutil
from pathlib import Path

import numpy as np

from mrigen.runs import Run


def loud(run, tmp_path):
    """Returns a copy of a run whose decoder heeds its covariates a lot."""
    copy = Run(Path(shutil.copytree(run.directory, tmp_path / "loud")))
    model = copy.load_model()
    kernel = model.expand.layers[0].kernel
    values = kernel.numpy()
    values[-model.condition_size :] = np.random.default_rng(0).normal(size=(model.condition_size, values.shape[1]))
    kernel.assign(values)
    model.to_volume.kernel.assign(model.to_volume.kernel + 0.05)
    model.save_weights(copy.directory / "model.weights.h5", overwrite=True)
    return copy
