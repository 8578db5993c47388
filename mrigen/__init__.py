"""mrigen: autoencoders and variational autoencoders of whole 3-D brain MRI.

`import mrigen` is light: TensorFlow is loaded by the first name that needs it.
"""

import importlib

from mrigen.system.notices import warn_of_warnings

__version__ = "0.1.0"

# Public name -> module that it lives in. Those that load without TensorFlow:
_LIGHT = {
    "CohortError": "mrigen.errors",
    "Interrupted": "mrigen.errors",
    "MrigenEncoder": "mrigen.api.encoder",
    "MrigenError": "mrigen.errors",
    "MrigenWarning": "mrigen.errors",
    "PhantomSettings": "mrigen.data.phantom",
    "ProbePlan": "mrigen.probing",
    "Recipe": "mrigen.recipe",
    "RecipeError": "mrigen.errors",
    "Run": "mrigen.api.run",
    "RunError": "mrigen.errors",
    "TrainingError": "mrigen.errors",
    "UsageError": "mrigen.errors",
    "compare": "mrigen.runs.comparison",
    "doctor": "mrigen.checkup",
    "fit": "mrigen.api.fitting",
    "list_recipes": "mrigen.recipe",
    "list_runs": "mrigen.runs.listing",
    "load_recipe": "mrigen.recipe",
    "open_run": "mrigen.api.run",
    "plan_fit": "mrigen.api.fitting",
    "prepare": "mrigen.derivatives",
    "qc": "mrigen.api.quality",
    "resume": "mrigen.api.fitting",
    "resume_sweep": "mrigen.sweeps",
    "sweep": "mrigen.sweeps",
    "write_phantom_cohort": "mrigen.data.phantom",
}
# And those that need it:
_HEAVY = {
    "check_samples": "mrigen.probing",
    "decode": "mrigen.generation.decoding",
    "diagnose": "mrigen.analysis.diagnosis",
    "encode": "mrigen.generation.encoding",
    "evaluate": "mrigen.evaluation",
    "explain": "mrigen.probing",
    "interpolate": "mrigen.generation.interpolation",
    "learn_detail": "mrigen.training",
    "map_latents": "mrigen.analysis.latent_maps",
    "probe": "mrigen.probing",
    "probe_external": "mrigen.probing",
    "probe_nested": "mrigen.probing",
    "read_latents": "mrigen.runs.latents",
    "reconstruct": "mrigen.generation.reconstruction",
    "sample": "mrigen.generation.sampling",
    "segment": "mrigen.analysis.segmentation",
    "template": "mrigen.generation.templates",
    "transfer": "mrigen.generation.transfers",
    "traverse": "mrigen.generation.traversals",
}

__all__ = ["__version__", *sorted(_LIGHT | _HEAVY)]

warn_of_warnings()


def __getattr__(name: str):
    if name in _HEAVY:
        from mrigen.system.backend import load_tensorflow

        load_tensorflow()
        return getattr(importlib.import_module(_HEAVY[name]), name)
    if name in _LIGHT:
        return getattr(importlib.import_module(_LIGHT[name]), name)
    raise AttributeError(f"module 'mrigen' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
