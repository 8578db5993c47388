"""Training: from a recipe to a finished run."""

from mrigen.training.fitting import fit, resume

__all__ = ["fit", "resume"]
