"""Probes: what the latents of a run know about a person, beside baselines in the same folds."""
