"""How a fit is asked to save and end, and what becomes of that where no training is under way."""

import contextlib
from collections.abc import Iterator

from mrigen.errors import Interrupted


class StopNow(SystemExit):
    """Ends what is not training (preparing images, the last evaluation): it loses nothing that was finished."""


class StopRequest:
    """Asks a fit to save and end: by another thread, or by the handler of a signal.

    Attributes:
        asked: whether somebody asked.

    Example:
        >>> stop = StopRequest()
        >>> with stop.heard():
        ...     stop.asked
        False
    """

    def __init__(self):
        self.asked = False
        self._is_heard = False

    def ask(self) -> None:
        """Asks; a training loop looks after every step, and elsewhere this ends the program's work at once.

        Raises:
            StopNow: nobody would look.
        """
        self.asked = True
        if not self._is_heard:
            raise StopNow(Interrupted.exit_status)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Around what looks at `asked` and ends by itself.

        Raises:
            StopNow: somebody asked after the last look.
        """
        self._is_heard = True
        try:
            yield
        finally:
            self._is_heard = False
        if self.asked:
            raise StopNow(Interrupted.exit_status)
