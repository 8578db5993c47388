"""What is made of latents: densities, samples, reconstructions, walks, mean heads.

Names load on first use.
"""

from mrigen.system.exports import lazy_names

_MODULES = {
    "DecodedImages": "mrigen.generation.images",
    "DecodedLatents": "mrigen.generation.decoding",
    "Images": "mrigen.generation.images",
    "Interpolation": "mrigen.generation.interpolation",
    "Reconstructions": "mrigen.generation.reconstruction",
    "Samples": "mrigen.generation.sampling",
    "Templates": "mrigen.generation.templates",
    "Transfer": "mrigen.generation.transfers",
    "Walk": "mrigen.generation.walks",
    "Walks": "mrigen.generation.walks",
    "choose_density": "mrigen.generation.densities",
    "decode": "mrigen.generation.decoding",
    "encode": "mrigen.generation.encoding",
    "interpolate": "mrigen.generation.interpolation",
    "reconstruct": "mrigen.generation.reconstruction",
    "sample": "mrigen.generation.sampling",
    "template": "mrigen.generation.templates",
    "transfer": "mrigen.generation.transfers",
    "traverse": "mrigen.generation.traversals",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
