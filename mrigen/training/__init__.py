"""Training: from a recipe to a finished run."""

from mrigen.training.fitting import fit, resume
from mrigen.training.planning import Plan, plan_fit

__all__ = ["Plan", "fit", "plan_fit", "resume"]
