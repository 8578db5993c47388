"""Probes: what the latents of a run know about a person, beside baselines in the same folds."""

from mrigen.probing.explanation import explain
from mrigen.probing.probe import probe
from mrigen.probing.protocol import ProbeInputs, ProbeResult, paired_difference, run_probe
from mrigen.probing.realisation import Realisation, check_samples

__all__ = [
    "ProbeInputs",
    "ProbeResult",
    "Realisation",
    "check_samples",
    "explain",
    "paired_difference",
    "probe",
    "run_probe",
]
