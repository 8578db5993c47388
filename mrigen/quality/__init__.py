"""Which images of a cohort are wrong, or unlike the rest: measures, flags with reasons, and a page to look at."""

from mrigen.system.exports import lazy_names

_MODULES = {
    "FLAGS": "mrigen.quality.rules",
    "Quality": "mrigen.quality.result",
    "flag_images": "mrigen.quality.flags",
    "qc": "mrigen.quality.checking",
}

__all__ = ["FLAGS", "Quality", "flag_images", "qc"]  # noqa: F822

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
