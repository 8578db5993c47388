"""A cache that is nobody's, and one small finished run that many tests read."""

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory):
    """Keeps the user's own caches out of the tests."""
    directory = tmp_path_factory.mktemp("cache")
    earlier = os.environ.get("MRIGEN_CACHE")
    os.environ["MRIGEN_CACHE"] = str(directory)
    yield directory
    if earlier is None:
        del os.environ["MRIGEN_CACHE"]
    else:
        os.environ["MRIGEN_CACHE"] = earlier


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, cache_directory):
    """A run of the smoke recipe; treat it as read-only, or copy it with `run_copy`."""
    from mrigen.recipe import load_recipe
    from mrigen.training import fit

    return fit(load_recipe("smoke"), tmp_path_factory.mktemp("runs") / "smoke", "smoke")


@pytest.fixture(scope="session")
def morph_run(tmp_path_factory, cache_directory):
    """A run of a small morphing model; treat it as read-only."""
    from mrigen.recipe import load_recipe
    from mrigen.training import fit

    recipe = load_recipe("smoke", ["model.kind=morph", "model.field_channels=8", "training.learning_rate=1e-2"])
    return fit(recipe, tmp_path_factory.mktemp("runs") / "morph", "smoke")


@pytest.fixture(scope="session")
def told_run(tmp_path_factory, cache_directory):
    """A run whose model is told sex, age and head size, and whose latents should not tell sex; read-only."""
    from mrigen.recipe import load_recipe
    from mrigen.training import fit

    changes = ["model.condition=[sex, age, head_size]", "model.invariant_to=[sex]", "training.learning_rate=1e-2"]
    return fit(load_recipe("smoke", changes), tmp_path_factory.mktemp("runs") / "told", "smoke")


@pytest.fixture
def run_copy(finished_run, tmp_path):
    """A copy of the finished run that a test may damage."""
    from mrigen.runs import Run

    return Run(Path(shutil.copytree(finished_run.directory, tmp_path / "copy")))


@pytest.fixture
def real_data():
    """The folder of real volumes."""
    folder = os.environ.get("MRIGEN_REAL_DATA")
    if not folder:
        pytest.skip("MRIGEN_REAL_DATA is not set")
    return Path(folder)
