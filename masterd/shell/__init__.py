"""The interactive shell: a client of the master's Unix socket, at a terminal or in a pipe."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import TextIO

from godwit.errors import GodwitError
from masterd.commands.context import Context, Leave, here
from masterd.shell.lines import Piped, edited
from masterd.shell.loop import Loop

Action = Callable[[int, FrameType | None], object] | int | None

#: In the state folder: tracebacks of bugs.
MISHAPS = "shell-errors.log"


def main(state: str, owns_master: bool = False) -> int:
    """Runs a shell of the master in ``state`` until somebody leaves; the status to exit with.

    ``owns_master`` is the master's own foreground shell: leaving it by exit stops the master.
    """
    _open_streams()
    context = here(state, in_shell=True, owns_master=owns_master)
    with closing(context):
        try:
            context.master  # noqa: B018 - connects, or says why not
        except GodwitError as err:
            context.note(f"godwit: {err}")
            return getattr(err, "exit_status", 1)
        return _session(context)


def _session(context: Context) -> int:
    mishaps_file = os.path.join(context.state, MISHAPS)
    with _signals(context.owns_master):
        if edited():
            # Here and not above: a shell in a pipe needs neither editor nor threads.
            from masterd.shell import terminal

            return terminal.run(context, mishaps_file)
        lines = Piped(None if sys.stdin is None else sys.stdin.buffer)
        return Loop(context, lines, mishaps_file).run()


def _open_streams() -> None:
    """Streams that take any text: bytes that are no UTF-8 come in and go out.

    A descriptor below 3 that is closed is opened on /dev/null, or the next socket would be our
    stdout; Python has no stream for it then, and gets one.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    _reconfigure(sys.stdin, "surrogateescape")
    _reconfigure(sys.stdout, "backslashreplace")
    _reconfigure(sys.stderr, "backslashreplace")


def _reconfigure(stream: TextIO | None, errors: str) -> None:
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=errors)


def _leave(number: int, _frame: FrameType | None) -> None:
    # input() gives the terminal back its settings on the way out; the default action would not.
    raise Leave(128 + number)


@contextmanager
def _signals(owns_master: bool) -> Iterator[None]:
    """While the block lasts, SIGTERM and SIGHUP leave in order; one that was ignored stays so.

    A shell in the master's terminal cannot be stopped by Ctrl-Z: the master, its parent, runs
    on, and nobody would get the terminal back.
    """
    wanted: dict[int, Action] = {signal.SIGTERM: _leave, signal.SIGHUP: _leave}
    if owns_master:
        wanted[signal.SIGTSTP] = signal.SIG_IGN
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in wanted.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
