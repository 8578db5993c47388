"""What can go wrong, said in one clear line a fault: place, what came, what was expected, what to do."""

from collections.abc import Sequence


class MrigenError(Exception):
    """Base of every error that mrigen raises on purpose.

    Args:
        faults: one line, or a list of lines when several faults are reported together.

    Attributes:
        faults: the lines, as a tuple.
        exit_status: what the command line exits with (1: failed while running).
    """

    exit_status = 1

    def __init__(self, faults: str | Sequence[str]):
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class UsageError(MrigenError):
    """The command line or a function argument asks for something impossible; nothing was run."""

    exit_status = 2


class RecipeError(MrigenError):
    """The recipe is not valid; nothing was run."""

    exit_status = 2


class CohortError(MrigenError):
    """The cohort (folder, table or images) is not usable as it is; nothing was run."""

    exit_status = 2


class RunError(MrigenError):
    """A run folder is missing, incomplete or not what the command needs; nothing was run."""

    exit_status = 2


class TrainingError(MrigenError):
    """Training started and could not go on (for example a loss that is not finite)."""


class Interrupted(MrigenError):
    """A fit was asked to stop; what it did is saved, and it can go on."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: a batch script takes it as "put me in the queue again".
