"""mrigen: autoencoders and variational autoencoders of whole 3-D brain MRI.

`import mrigen` is light: TensorFlow is loaded by the first name that needs it.
"""

import importlib

__version__ = "0.1.0"

_LAZY = {
    "MrigenError": "mrigen.errors",
    "Recipe": "mrigen.recipe",
    "Run": "mrigen.runs",
    "compare": "mrigen.runs.comparison",
    "decode": "mrigen.generation.latent_files",
    "encode": "mrigen.generation.latent_files",
    "fit": "mrigen.training",
    "interpolate": "mrigen.generation.interpolation",
    "list_runs": "mrigen.runs.listing",
    "load_recipe": "mrigen.recipe",
    "open_run": "mrigen.runs",
    "probe": "mrigen.probing",
    "probe_nested": "mrigen.probing.nested",
    "read_latents": "mrigen.generation.latent_files",
    "reconstruct": "mrigen.generation.reconstruction",
    "sample": "mrigen.generation.sampling",
    "write_latent_maps": "mrigen.analysis.latent_maps",
    "write_phantom_cohort": "mrigen.data.phantom",
    "write_templates": "mrigen.generation.templates",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mrigen' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
