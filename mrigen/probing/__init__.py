"""Probes: what the latents of a run know about a person, beside baselines in the same folds.

Names load on first use: what permutes labels in other processes needs no TensorFlow.
"""

from mrigen.system.exports import lazy_names

_MODULES = {
    "Direction": "mrigen.probing.direction",
    "Explanation": "mrigen.probing.explanation",
    "LearningCurve": "mrigen.probing.curves",
    "PermutationTest": "mrigen.probing.permutation",
    "ProbeInputs": "mrigen.probing.inputs",
    "ProbePlan": "mrigen.probing.plan",
    "ProbeResult": "mrigen.probing.result",
    "SampleCheck": "mrigen.probing.sample_checks",
    "SampleChecks": "mrigen.probing.sample_checks",
    "Target": "mrigen.probing.targets",
    "check_samples": "mrigen.probing.sample_checks",
    "explain": "mrigen.probing.explaining",
    "paired_difference": "mrigen.probing.result",
    "probe": "mrigen.probing.internal",
    "probe_external": "mrigen.probing.external",
    "probe_nested": "mrigen.probing.nested",
    "run_probe": "mrigen.probing.protocol",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
