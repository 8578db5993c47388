"""Whether synthetic heads are any good: figures beside those of real people and of ways that are known to be bad.

Names load on first use.
"""

from mrigen.system.exports import lazy_names

_MODULES = {
    "CONTENDERS": "mrigen.evaluation.heads",
    "Evaluation": "mrigen.evaluation.evaluating",
    "Heads": "mrigen.evaluation.heads",
    "Material": "mrigen.evaluation.heads",
    "PARTS": "mrigen.evaluation.parts",
    "PartResult": "mrigen.evaluation.result",
    "Row": "mrigen.evaluation.result",
    "evaluate": "mrigen.evaluation.evaluating",
    "read_evaluation": "mrigen.evaluation.result",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
