"""Probes: what the latents of a run know about a person, beside baselines in the same folds."""

from mrigen.probing.probe import probe
from mrigen.probing.protocol import ProbeInputs, ProbeResult, paired_difference, run_probe

__all__ = ["ProbeInputs", "ProbeResult", "paired_difference", "probe", "run_probe"]
