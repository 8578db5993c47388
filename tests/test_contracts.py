"""The import contract of pyproject.toml: it holds, and it sees what is wrong."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Copied under the names that they are installed as.
PACKAGES = {"mrigen": "mrigen", "cli": "mrigen_cli", "recipes": "mrigen_recipes"}
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


@pytest.fixture
def copy(tmp_path):
    """A copy of the packages and of their contract."""
    pytest.importorskip("importlinter")
    for folder, package in PACKAGES.items():
        shutil.copytree(ROOT / folder, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(directory):
    """Returns the names of the contracts that are broken in a copy, and all that was said."""
    ended = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": "", "COLUMNS": "400", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
    )
    said = ended.stdout + ended.stderr
    assert "Contracts: " in said, said
    broken = re.findall(r"^(.+) BROKEN", said, re.MULTILINE)
    assert bool(broken) == bool(ended.returncode)
    return broken, said


def test_the_contract_holds(copy):
    assert broken_contracts(copy)[0] == []


def test_a_wrong_import_is_caught_wherever_it_is_planted(copy):
    (copy / "mrigen" / "statistics" / "planted.py").write_text(
        "import nibabel\nimport tensorflow_probability\n\n\n"
        "def late():\n    import mrigen.training\n    import mrigen_cli.main\n\n    return mrigen, mrigen_cli\n"
    )
    (copy / "mrigen" / "newcomer.py").write_text('"""A module that has no line in the contract."""\n')
    (copy / "mrigen" / "models" / "planted.py").write_text("from mrigen.data import cohort\n")
    with open(copy / "mrigen" / "probing" / "intervals.py", "a") as file:
        file.write("\n\nfrom mrigen.probing import nested\n")
    broken, said = broken_contracts(copy)
    assert broken == [
        "The command line stands on the library",
        "A module imports only from lines below it; modules on one line do not know each other",
        "Only mrigen.imaging knows nibabel",
        "Only mrigen.distributions knows TensorFlow Probability",
        "Recipes, cohorts and tables of runs are read without TensorFlow",
        "Inside probing: targets and scores below, then predictors, protocols and results, and the verbs on top",
    ]
    for wrong in (
        "mrigen.statistics.planted -> nibabel",
        "mrigen.statistics.planted -> tensorflow_probability",
        "mrigen.statistics.planted -> mrigen.training",
        "mrigen.statistics.planted -> mrigen_cli.main",
        "mrigen.models.planted -> mrigen.data.cohort",
        "mrigen.probing.intervals -> mrigen.probing.nested",
        "mrigen.newcomer",
    ):
        assert wrong in said
