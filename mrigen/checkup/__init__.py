"""Whether this machine can fit, sample and probe, and what to do where it cannot: `mrigen doctor`."""

from mrigen.checkup.checking import doctor
from mrigen.checkup.result import Checkup, Finding

__all__ = ["Checkup", "Finding", "doctor"]
