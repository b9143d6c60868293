"""What a command runs in: the master it talks to, where it writes, and who is there to be asked."""

import os
import sys
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from typing import TextIO

from msgspec import Struct, field

from masterd import render
from masterd.client import Client

#: Columns when nobody says how wide the screen is.
WIDTH = 80


class Leave(Exception):
    """The shell ends, with this exit status; with ``detach`` a master of its own lives on."""

    def __init__(self, status: int = 0, *, detach: bool = False):
        super().__init__(status)
        self.status = status
        self.detach = detach


def _nobody(question: str) -> str:
    raise EOFError(question)


class Context(Struct):
    """One shell's or one CLI call's surroundings."""

    state: str
    out: TextIO
    err: TextIO
    #: A person can be asked.
    interactive: bool = False
    in_shell: bool = False
    #: The shell of the master itself: `exit` deregisters every node and stops it.
    owns_master: bool = False
    #: The nodes that lines which are no command run on; `use` sets it.
    chosen: str = "all"
    #: Shows a question and gives the line typed; raises EOFError when there is none.
    ask: Callable[[str], str] = _nobody
    #: Columns of the screen; None when output is not cut.
    width: int | None = None
    out_tty: bool = False
    colour: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    connect: Callable[[str], Client] = Client.connect
    _client: Client | None = None

    @property
    def master(self) -> Client:
        """Connected at first use, and again after a connection was lost.  Raises UsageError."""
        if self._client is None or self._client.lost():
            self._client = self.connect(self.state)
        return self._client

    def close(self) -> None:
        """Drops the connection, if there is one."""
        if self._client is not None:
            self._client.close()

    def line(self, text: str = "") -> None:
        """One line of data on stdout; the caller has escaped what came from others."""
        self.out.write(text + "\n")

    def raw(self, data: bytes) -> None:
        """Bytes of a task's output on stdout, as they are: for a stdout that is no terminal."""
        if isinstance(self.out, TextIOWrapper):
            self.out.flush()
            self.out.buffer.write(data)
        else:
            self.out.write(data.decode("utf-8", "backslashreplace"))

    def note(self, text: str) -> None:
        """One line for the person, on stderr; control characters in it are escaped."""
        self.err.write(render.printable(text) + "\n")
        self.err.flush()

    def confirm(self, question: str) -> bool:
        """The person says yes; nobody there to be asked counts as yes."""
        if not self.interactive:
            return True
        try:
            answer = self.ask(render.printable(question) + " [y/N] ")
        except EOFError:
            return False
        return answer.strip().lower() in ("y", "yes")


def here(state: str, *, in_shell: bool = False, owns_master: bool = False) -> Context:
    """The surroundings of this process: its own stdin, stdout, stderr and terminal."""
    out, err = sys.stdout, sys.stderr
    out_tty = out.isatty()
    typed = sys.stdin is not None and sys.stdin.isatty()
    talks = typed and err.isatty()
    return Context(
        state, out, err, interactive=talks, in_shell=in_shell, owns_master=owns_master,
        ask=_ask if typed else unseen(_read_line, err),
        width=screen_width(out) if out_tty else None, out_tty=out_tty,
        colour=out_tty and render.colour_wanted(os.environ),
    )


def screen_width(out: TextIO) -> int:
    """Columns of the terminal behind ``out``; WIDTH when it does not say."""
    try:
        return os.get_terminal_size(out.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return _read_line()


def _read_line() -> str:
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    return line


def unseen(read: Callable[[], str], err: TextIO) -> Callable[[str], str]:
    """An ``ask`` of somebody whose typing no terminal shows: the answer stands after the question.

    ``read`` gives a line and raises EOFError when there is none.
    """

    def ask(question: str) -> str:
        err.write(question)
        err.flush()
        line = read()
        err.write(render.printable(line.rstrip("\r\n")) + "\n")
        err.flush()
        return line

    return ask
