"""Python and its packages, beside those that mrigen was tested with and those that it asks for."""

import importlib.metadata
import platform
from collections.abc import Callable, Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mrigen.checkup.result import Finding
from mrigen.system.backend import keras_faults

PACKAGE = "mrigen"
# The newest versions that passed: of Python a smoke fit (the whole suite ran with 3.11), of packages the whole suite.
# The oldest that are allowed are in the package's own metadata.
TESTED_PYTHON = "3.13"
TESTED = {
    "click": "8.5.1",
    "h5py": "3.14.0",
    "joblib": "1.6.0",
    "keras": "3.15.1",
    "matplotlib": "3.11.2",
    "nibabel": "5.4.2",
    "nilearn": "0.14.1",
    "numpy": "2.4.6",
    "optuna": "5.0.0",
    "packaging": "26.4",
    "pandas": "3.1.1",
    "pillow": "13.0.0",
    "platformdirs": "4.14.8",
    "pydantic": "2.14.4",
    "rich": "15.0.0",
    "ruamel.yaml": "0.19.1",
    "scikit-image": "0.26.0",
    "scikit-learn": "1.9.1",
    "scipy": "1.17.1",
    "setuptools": "65.5.0",
    "tensorboard": "2.21.0",
    "tensorflow": "2.21.0",
    "tensorflow-probability": "0.25.0",
    "tf-keras": "2.21.0",
    "threadpoolctl": "3.8.0",
}
# Where the newest is not what counts: any will do.
_ANY = {"setuptools"}
# Installed in the place of TensorFlow, and imported by the same name.
_STAND_INS = ("tensorflow-cpu", "tf-nightly", "tensorflow-macos", "intel-tensorflow", "tensorflow-rocm")

Find = Callable[[str], importlib.metadata.Distribution]


def check_python(version: str | None = None, find: Find = importlib.metadata.distribution) -> Finding:
    """Returns whether this Python is one that mrigen is for."""
    version = version or platform.python_version()
    allowed = _metadata(find).get("Requires-Python") or ">=3.11"
    if Version(version) not in SpecifierSet(allowed, prereleases=True):
        return Finding(
            "python",
            "fault",
            f"{version}; mrigen is for {allowed}",
            f"Make a virtual environment with Python {TESTED_PYTHON} or 3.11, and install mrigen there.",
        )
    if Version(version).release[:2] > Version(TESTED_PYTHON).release:
        return Finding("python", "note", f"{version}; tested up to {TESTED_PYTHON}", f"Python {TESTED_PYTHON} is safe.")
    return Finding("python", "well", f"{version} ({platform.system()}, {platform.machine()})")


def check_packages(find: Find = importlib.metadata.distribution) -> Iterator[Finding]:
    """Yields what is missing, too old or too new of mrigen's packages and of those that they ask for."""
    faults: dict[str, Finding] = {}
    for wanted, asker in _asked_for(find):
        name = canonicalize_name(wanted.name)
        version = _version(find, name)
        install = f"python -m pip install '{wanted.name}{wanted.specifier}'"
        if version is None:
            stand_in = name == "tensorflow" and next((other for other in _STAND_INS if _version(find, other)), None)
            text = f"{name} is missing; {asker} asks for {_range(wanted)}"
            if stand_in:
                text += f" ({stand_in} stands in its place, which was not tested)"
            faults.setdefault(name, Finding("packages", "note" if stand_in else "fault", text, f"{install}."))
        elif not wanted.specifier.contains(version, prereleases=True):
            text = f"{name} {version}, and {asker} asks for {_range(wanted)}"
            faults[f"{name} for {asker}"] = Finding("packages", "fault", text, f"{install}.")
    yield from faults.values()
    newer, older = [], []
    for package, tested in TESTED.items():
        version = _version(find, package)
        if version is not None and package not in _ANY and not any(key.split(" ")[0] == package for key in faults):
            if Version(version) > Version(tested):
                newer.append(f"{package} {version} ({tested})")
            elif Version(version) < Version(tested):
                older.append(f"{package} {version} ({tested})")
    if newer:
        remedy = "Should something fail, say so in a report, or install the tested ones."
        yield Finding("packages", "note", f"newer than tested (in brackets): {', '.join(newer)}", remedy)
    if older:
        text = f"older than tested (in brackets), and allowed: {', '.join(older)}"
        yield Finding("packages", "note", text, "python -m pip install --upgrade mrigen brings newer ones.")
    if not (faults or newer or older):
        yield Finding("packages", "well", f"{len(TESTED)}, in the versions that mrigen was tested with")


def check_keras() -> Iterator[Finding]:
    """Yields what is set of Keras that no model can do with."""
    for fault in keras_faults():
        place, _, rest = fault.partition(". ")
        yield Finding("keras", "fault", place, rest)


def describe_packages(find: Find = importlib.metadata.distribution) -> dict[str, str | None]:
    """Returns name -> version of mrigen and its packages; None of those that are missing."""
    return {name: _version(find, name) for name in (PACKAGE, *TESTED)}


def _asked_for(find: Find) -> Iterator[tuple[Requirement, str]]:
    """Yields what mrigen asks for, then what those packages ask for, and so on; each with who asks."""
    waiting, seen = [(PACKAGE, frozenset[str]())], set()
    while waiting:
        entry = waiting.pop(0)
        if entry in seen:
            continue
        seen.add(entry)
        asker, extras = entry
        try:
            lines = find(asker).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in lines:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                continue
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                yield wanted, asker
                waiting.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))


def _version(find: Find, name: str) -> str | None:
    try:
        version = find(name).version
        Version(version)
    except (importlib.metadata.PackageNotFoundError, InvalidVersion, TypeError):
        return None
    return version


def _metadata(find: Find):
    try:
        return find(PACKAGE).metadata
    except importlib.metadata.PackageNotFoundError:  # A copy of the source that nobody installed.
        return {}


def _range(wanted: Requirement) -> str:
    return str(wanted.specifier) or "any version"
