"""A sweep: fits of one recipe with other values of some keys, or of several recipes, by Optuna, shared by any number of
workers.

A sweep is a folder. `sweep.json` says what is tried; `journal.log` is Optuna's; `trials/` holds one run a trial, made
in a process of its own; `claims/` says which worker is at which trial.
"""

from mrigen.sweeps.searching import resume_sweep, sweep
from mrigen.sweeps.space import Plan, Span, make_plan, parse_space, plan_sweep
from mrigen.sweeps.study import Sweep, new_sweep_folder
from mrigen.sweeps.workers import Claim, share_machine
from mrigen.system.claims import STALE_SECONDS

__all__ = [
    "STALE_SECONDS",
    "Claim",
    "Plan",
    "Span",
    "Sweep",
    "make_plan",
    "new_sweep_folder",
    "parse_space",
    "plan_sweep",
    "resume_sweep",
    "share_machine",
    "sweep",
]
