"""The examples of docs/gallery run from top to bottom, with the fits that they make cut short."""

import fcntl
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

import mrigen

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "gallery").glob("plot_*.py"))
FIRST = EXAMPLES[0]


@pytest.fixture
def run_example(monkeypatch, tmp_path_factory):
    """Returns a function that runs an example in the folder that all share, and returns its names."""
    matplotlib.use("Agg")
    fit = mrigen.fit
    monkeypatch.setattr(mrigen, "fit", lambda recipe, **keywords: fit(recipe, **keywords | {"epochs": 1}))
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "gallery"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)

    def run(path: Path) -> dict:
        names = {"__name__": "__main__"}
        exec(compile(path.read_text(encoding="utf-8"), path.name, "exec"), names)
        plt.close("all")
        return names

    return run


@pytest.fixture
def first_look(run_example):
    """What the first example leaves: it is run by the one of pytest's workers that asks first."""
    with open("first.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not Path("runs/first-look-samples").exists():
            run_example(FIRST)


def test_there_are_six_to_eight_examples_in_order():
    assert [path.name.split("_")[1] for path in EXAMPLES] == [str(number) for number in range(1, len(EXAMPLES) + 1)]
    assert 6 <= len(EXAMPLES) <= 8


def test_the_first_example_leaves_a_run_and_samples(first_look):
    assert mrigen.open_run("runs/first-look").is_complete
    assert len(list(Path("runs/first-look-samples").rglob("*_T1w.nii.gz"))) == 4


@pytest.mark.parametrize("path", EXAMPLES[1:], ids=lambda path: path.stem)
def test_an_example_runs(path, first_look, run_example):
    run_example(path)
