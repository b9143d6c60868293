"""Ctrl-C and the order to leave, heard only where they can be taken.

Python raises KeyboardInterrupt between any two instructions, also in the handler of the one
before: a key held down would end the shell.  Here a signal is an exception at most once in a
stretch of work that was begun for it, and nothing outside of one.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from masterd.commands.context import Leave

Result = TypeVar("Result")


class Attention:
    """``hear`` is the signal handler."""

    def __init__(self) -> None:
        self._open = False
        #: The signal that ordered to leave, if one did.
        self.order = 0

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """SIGINT breaks off the work at hand; any other signal is an order to leave, and stands."""
        if number != signal.SIGINT:
            self.order = number
        if self._open:
            self._open = False
            raise KeyboardInterrupt if number == signal.SIGINT else Leave(128 + number)

    def during(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives.  Raises KeyboardInterrupt or Leave when a signal broke it off."""
        if self.order:
            raise Leave(128 + self.order)
        self._open = True
        try:
            return work()
        finally:
            self._open = False
