"""A cache that is nobody's, and one small finished run that many tests read.

With MRIGEN_TEST_RUNS naming a folder, the runs that tests read are kept there and taken from there the next time, until
the code that a fit consists of changes. Nothing here loads TensorFlow before a test asks for it.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of mrigen, what no fit knows.
ABOVE_FITS = ("api", "cluster.py", "evaluation", "generation", "probing", "sweeps")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="Fuzz for ten minutes a target.")
    parser.addoption("--write-errors", action="store_true", help="Write docs/errors.md from what is said.")


@pytest.fixture(autouse=True)
def log_of_the_library():
    """Puts back how the library speaks: the command line has handlers of its own, and sets them for the process."""
    import mrigen  # Which sets up the handler that is put back.

    logger = logging.getLogger(mrigen.__name__)
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory):
    """Keeps the user's own caches out of the tests."""
    kept = _kept_runs()  # Which hold paths of images in their cache.
    directory = tmp_path_factory.mktemp("cache") if kept is None else kept / "cache"
    earlier = os.environ.get("MRIGEN_CACHE")
    os.environ["MRIGEN_CACHE"] = str(directory)
    yield directory
    if earlier is None:
        del os.environ["MRIGEN_CACHE"]
    else:
        os.environ["MRIGEN_CACHE"] = earlier


@pytest.fixture(scope="session")
def fit_once(tmp_path_factory, cache_directory):
    """Returns a function from a name and changes of the smoke recipe to its finished run, fitted by the one of
    pytest's workers that asks first."""
    from mrigen.runs import Run

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    kept = _kept_runs()

    def make(name, *changes):
        directory = shared / "fitted" / name
        directory.parent.mkdir(exist_ok=True)
        with open(directory.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if directory.exists():
                return Run(directory)
            if kept is not None and (kept / name).exists():
                return Run(Path(shutil.copytree(kept / name, directory)))
            from mrigen.recipe import load_recipe
            from mrigen.training import fit

            run = fit(load_recipe("smoke", list(changes)), directory, "smoke")
            if kept is not None:
                new = shutil.copytree(directory, kept / f".{name}-{uuid.uuid4().hex[:8]}")
                os.replace(new, kept / name)
            return run

    return make


def _kept_runs():
    """Returns the folder of runs that the present code makes, where MRIGEN_TEST_RUNS asks to keep them."""
    if not os.environ.get("MRIGEN_TEST_RUNS"):
        return None
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for folder, suffix in (("mrigen", ".py"), ("recipes", ".yaml")):
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            if path.relative_to(ROOT / folder).parts[0] not in ABOVE_FITS:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    folder = Path(os.environ["MRIGEN_TEST_RUNS"]).expanduser() / digest.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def finished_run(fit_once):
    """A run of the smoke recipe; treat it as read-only, or copy it with `run_copy`."""
    return fit_once("smoke")


@pytest.fixture(scope="session")
def morph_run(fit_once):
    """A run of a small morphing model; treat it as read-only."""
    return fit_once("morph", "model.kind=morph", "model.field_channels=8", "training.learning_rate=1e-2")


@pytest.fixture(scope="session")
def autoencoder_run(fit_once):
    """A run of an autoencoder without a dense layer, its latents a grid of 6x7x6x2; treat it as read-only."""
    changes = ["model.kind=autoencoder", "model.latent_dim=null", "model.latent_channels=2", "training.epochs=1"]
    return fit_once("autoencoder", *changes)


@pytest.fixture(scope="session")
def told_run(fit_once):
    """A run whose model is told sex, age and head size, and whose latents should not tell sex; read-only."""
    changes = ["model.condition=[sex, age, head_size]", "model.invariant_to=[sex]", "training.learning_rate=1e-2"]
    return fit_once("told", *changes)


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
