"""Which images of a cohort are wrong, or unlike the rest: measures, flags with reasons, and a page to look at."""

from mrigen.system.exports import lazy_names

_MODULES = {
    "Quality": "mrigen.quality.result",
    "admit": "mrigen.quality.checking",
    "check_images": "mrigen.quality.checking",
    "flag_images": "mrigen.quality.flags",
}

__all__ = ["Quality", "admit", "check_images", "flag_images"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
