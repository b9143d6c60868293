"""The interactive shell: a client of the master's Unix socket, at a terminal or in a pipe."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import TextIOWrapper
from typing import TextIO

from godwit.errors import GodwitError
from masterd.commands.context import Context, here, unseen
from masterd.shell.attention import Attention
from masterd.shell.lines import Piped, edited
from masterd.shell.loop import Loop

ATTENDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: In the state folder: tracebacks of bugs.
MISHAPS = "shell-errors.log"


def main(state: str, owns_master: bool = False) -> int:
    """Runs a shell of the master in ``state`` until somebody leaves; the status to exit with.

    ``owns_master`` is the master's own foreground shell: leaving it by exit stops the master.
    Afterwards SIGINT is ignored: the process is about to end.
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
    with _heard() as attention:
        if edited():
            # Here and not above: a shell in a pipe needs neither editor nor threads.
            from masterd.shell import terminal

            return terminal.run(context, mishaps_file, attention)
        lines = Piped(None if sys.stdin is None else sys.stdin.buffer)
        # Answers come from among the lines: a second reader would take what it has buffered.
        context.ask = unseen(lambda: lines.read(""), context.err)
        return Loop(context, lines, mishaps_file, attention).run()


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


@contextmanager
def _heard() -> Iterator[Attention]:
    """While the block lasts, signals break off work in order; one that was ignored stays so.

    So input() gives the terminal back its settings on the way out, which a default action does
    not.  An order to leave is then passed on to whoever would have got it.
    """
    attention = Attention()
    before = {number: signal.getsignal(number) for number in ATTENDED}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, attention.hear)
    try:
        yield attention
    finally:
        # The process ends now, and a key held down must not make a traceback of that.
        for number, handler in {**before, signal.SIGINT: signal.SIG_IGN}.items():
            signal.signal(number, handler)
        for number, handler in before.items():
            if number == attention.order and callable(handler):
                signal.raise_signal(number)
