"""Versions of packages beside those that are asked for and those that were tested."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mrigen.checkup import versions

WANTED = {"numpy": ["numpy>=1.26"], "keras": ["keras>=3.15", "numpy<3"], "tensorflow": ["tensorflow>=2.21"]}


class Installed:
    """Stands for one installed package."""

    def __init__(self, name, version, requires=()):
        self.version, self.requires = version, list(requires)
        self.metadata = {"Name": name, "Requires-Python": ">=3.11,<3.14"}


def finder(**changes):
    """Returns what finds a small installation: name=version, or None for what is missing."""
    there = {"numpy": "2.4.6", "keras": "3.15.1", "tensorflow": "2.21.0", **changes}
    found = {
        "mrigen": Installed("mrigen", "1.0", ["numpy>=1.26", "keras>=3.15", "tensorflow>=2.21", "wandb; extra == 'w'"]),
        "keras": Installed("keras", there["keras"], ["numpy<3"]),
        "numpy": Installed("numpy", there["numpy"]),
        "tensorflow": Installed("tensorflow", there["tensorflow"], ["numpy>=2"]),
    }
    for name, version in there.items():
        if version is None:
            del found[name.replace("_", "-")]
        elif name.replace("_", "-") not in found:
            found[name.replace("_", "-")] = Installed(name, version)

    def find(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    return find


def test_every_package_that_is_asked_for_has_a_tested_version_that_is_allowed():
    text = (Path(__file__).parents[2] / "setup.py").read_text()
    lines = re.search(r"install_requires=(\[.*?\n    \])", text, re.DOTALL)[1]
    requirements = [Requirement(line) for line in ast.literal_eval(lines)]
    wanted = {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}
    tested = {canonicalize_name(name): version for name, version in versions.TESTED.items()}
    assert set(tested) == {*wanted, "tf-keras"}  # Which comes with TensorFlow Probability.
    for name, specifier in wanted.items():
        assert specifier.contains(tested[name]), name


@pytest.mark.parametrize(
    ("changes", "state", "expected"),
    [
        ({}, "well", "in the versions that mrigen was tested with"),
        ({"numpy": None}, "fault", "numpy is missing; mrigen asks for >=1.26"),
        ({"numpy": "1.26.4"}, "fault", "numpy 1.26.4, and tensorflow asks for >=2"),
        ({"numpy": "3.0"}, "fault", "numpy 3.0, and keras asks for <3"),
        ({"keras": "3.9"}, "fault", "keras 3.9, and mrigen asks for >=3.15"),
        ({"keras": "3.99"}, "note", "newer than tested (in brackets): keras 3.99 (3.15.1)"),
        ({"numpy": "2.1"}, "note", "older than tested (in brackets), and allowed: numpy 2.1 (2.4.6)"),
        ({"tensorflow": None, "tensorflow_cpu": "2.21"}, "note", "tensorflow-cpu stands in its place"),
    ],
)
def test_what_is_missing_older_newer_or_pinned_wrongly(changes, state, expected):
    findings = [finding for finding in versions.check_packages(finder(**changes)) if expected in finding.text]
    assert [finding.state for finding in findings] == [state]
    assert (findings[0].remedy is None) == (state == "well")


@pytest.mark.parametrize(
    ("version", "state"), [("3.10.4", "fault"), ("3.14.0", "fault"), ("3.11.7", "well"), ("3.13.1", "well")]
)
def test_python_is_one_that_mrigen_is_for(version, state):
    assert versions.check_python(version, finder()).state == state
