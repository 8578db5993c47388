"""Training: from a recipe to a finished run. What a fit refuses is known without TensorFlow."""

from mrigen.system.exports import lazy_names

_MODULES = {
    "Plan": "mrigen.training.planning",
    "fit": "mrigen.training.fitting",
    "learn_detail": "mrigen.training.detailing",
    "plan_fit": "mrigen.training.planning",
    "refuse_detail": "mrigen.training.refusals",
    "refuse_fit": "mrigen.training.refusals",
    "refuse_resume": "mrigen.training.refusals",
    "resume": "mrigen.training.fitting",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
