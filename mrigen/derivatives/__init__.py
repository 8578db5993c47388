"""Raw scans made ready: even brightness, a common place, brain masks, no faces; written as BIDS derivatives.

The work is done by kept tools (SimpleITK, deepbet, quickshear), which come with the extra `mrigen[prepare]`.
"""

from mrigen.system.exports import lazy_names

_MODULES = {
    "Derivatives": "mrigen.derivatives.result",
    "prepare": "mrigen.derivatives.making",
}

__all__ = ["Derivatives", "prepare"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
