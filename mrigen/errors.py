"""What can go wrong, said in one clear line a fault: place, what came, what was expected, what to do.

Faults speak of parameters as Python has them: a fault begins with the `parameter` it is about, and advice puts names of
parameters and calls between backticks, as in "Name another with `directory`, or set `force=True`". The command line
says the same with its own words: see `mrigen_cli.common.translate`.
"""

from collections.abc import Sequence


class Fault(str):
    """One line about what is wrong.

    Args:
        text: what came, what was expected, what to do.
        parameter: name of the parameter (of a verb of the library) that it is about, which the line begins with; or
            None where the text names the place itself.

    Example:
        >>> str(Fault("got 0, expected an integer >= 1. Set 10 for a start.", "num_samples"))
        'num_samples: got 0, expected an integer >= 1. Set 10 for a start.'
    """

    parameter: str | None
    text: str

    def __new__(cls, text: str, parameter: str | None = None) -> "Fault":
        fault = super().__new__(cls, text if parameter is None else f"{parameter}: {text}")
        fault.parameter, fault.text = parameter, str(text)
        return fault


class MrigenError(Exception):
    """Base of every error that mrigen raises on purpose.

    Args:
        faults: one line, or a list of lines when several faults are reported together.
        parameter: the parameter that the lines are about, where it is one and the lines do not say so themselves.

    Attributes:
        faults: the lines, a tuple of `Fault`.
        exit_status: what the command line exits with (1: failed while running).
    """

    exit_status = 1

    def __init__(self, faults: str | Sequence[str], parameter: str | None = None):
        lines = [faults] if isinstance(faults, str) else faults
        self.faults = tuple(line if isinstance(line, Fault) else Fault(line, parameter) for line in lines)
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


class MrigenWarning(UserWarning):
    """What somebody should know of a result that was made all the same, such as latents that hardly carry anything."""
