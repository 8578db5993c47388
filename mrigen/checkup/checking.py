"""`doctor`: one look at all of it."""

from collections.abc import Callable, Iterable
from typing import Any

from mrigen.checkup.result import Checkup, Finding


def doctor() -> Checkup:
    """Returns whether this machine can fit, sample and probe: what is well, what is not, and what to do about it.

    Nothing is changed; TensorFlow is loaded once, in a process of its own. It takes some seconds.

    Example:
        >>> found = doctor()  # doctest: +SKIP
        >>> found.is_well, [finding.remedy for finding in found.faults]  # doctest: +SKIP
        (True, [])
    """
    findings: list[Finding] = []
    facts: dict[str, Any] = {}
    for topic, check in _CHECKS.items():
        try:
            findings += check(facts)
        except ImportError as error:  # What is missing has its own line; the rest is looked at all the same.
            remedy = "python -m pip install mrigen into this environment again."
            findings.append(Finding(topic, "fault", f"cannot be looked at: {error}", remedy))
    return Checkup(tuple(findings), facts)


def _versions(facts: dict[str, Any]) -> Iterable[Finding]:
    from mrigen.checkup import versions

    facts["packages"] = versions.describe_packages()
    return [versions.check_python(), *versions.check_packages(), *versions.check_keras()]


def _devices(facts: dict[str, Any]) -> Iterable[Finding]:
    from mrigen.checkup import devices

    seen = devices.look_for_gpus()
    found, said = devices.ask_tensorflow()
    facts["tensorflow"] = found
    facts["nvidia"] = {"driver": seen.driver, "gpus": list(seen.smi or ())}
    return [*devices.check_tensorflow(found, said), devices.check_gpus(seen, found, said)]


def _places(facts: dict[str, Any]) -> Iterable[Finding]:
    from mrigen.checkup import places

    found = [places.check_memory(), *places.check_disks(), *places.check_writing()]
    facts.update(places.describe_places())
    return found


def _outside(facts: dict[str, Any]) -> Iterable[Finding]:
    from mrigen.checkup import outside

    partitions, reason = outside.find_partitions()
    facts["slurm_partitions"] = partitions
    return [*outside.check_slurm(partitions, reason), outside.check_browser()]


_CHECKS: dict[str, Callable[[dict[str, Any]], Iterable[Finding]]] = {
    "packages": _versions,
    "tensorflow": _devices,
    "files": _places,
    "slurm": _outside,
}
