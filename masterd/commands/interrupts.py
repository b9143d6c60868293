"""Signals to this process while it waits for the master, taken as events and not as exceptions.

An exception out of a signal handler could strike between a read and its decoding, and lose
bytes.  Here the handler only notes the number and makes a descriptor readable.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Which signals came; readable while there are some that were not taken."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        #: All that ever came.
        self.came: set[int] = set()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[int]:
        """The signals since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        taken = self._numbers[:]
        del self._numbers[: len(taken)]
        return taken

    def note(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self._numbers.append(number)
        self.came.add(number)
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@contextlib.contextmanager
def caught(*numbers: int) -> Iterator[Interrupts]:
    """While the block lasts, these signals are noted in what it is given.

    Ctrl-C is then done with; any other signal is an order to end that stands: if somebody had a
    handler for it (the shell), that is called after the block.
    Python lets only the main thread install handlers; elsewhere nothing is ever noted.
    """
    interrupts = Interrupts()
    old = {}
    try:
        if threading.current_thread() is threading.main_thread():
            old = {number: signal.signal(number, interrupts.note) for number in numbers}
        yield interrupts
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        interrupts.close()
        for number in interrupts.came - {signal.SIGINT}:
            if callable(old[number]):
                signal.raise_signal(number)
