"""Probes: what the latents of a run know about a person, beside baselines in the same folds."""

from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.plan import ProbePlan
from mrigen.probing.probe import probe
from mrigen.probing.protocol import run_probe
from mrigen.probing.realisation import Realisation, check_samples
from mrigen.probing.result import ProbeResult, paired_difference
from mrigen.probing.targets import Target

__all__ = [
    "ProbeInputs",
    "ProbePlan",
    "ProbeResult",
    "Realisation",
    "Target",
    "check_samples",
    "paired_difference",
    "probe",
    "run_probe",
]
