"""Probes: what the latents of a run know about a person, beside baselines in the same folds.

Names load on first use: what permutes labels in other processes needs no TensorFlow.
"""

import importlib

_MODULES = {
    "ProbeInputs": "mrigen.probing.inputs",
    "ProbePlan": "mrigen.probing.plan",
    "ProbeResult": "mrigen.probing.result",
    "Realisation": "mrigen.probing.realisation",
    "Target": "mrigen.probing.targets",
    "check_samples": "mrigen.probing.realisation",
    "explain": "mrigen.probing.explanation",
    "paired_difference": "mrigen.probing.result",
    "probe": "mrigen.probing.of_run",
    "probe_external": "mrigen.probing.external",
    "run_probe": "mrigen.probing.protocol",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
