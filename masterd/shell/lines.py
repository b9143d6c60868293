"""Where lines come from: a terminal (masterd.shell.terminal), or a file or pipe."""

import os
import sys
from typing import BinaryIO, Protocol


class Lines(Protocol):
    """One line at a time."""

    #: A person types them, who is shown prompts and can be asked.
    typed: bool

    def read(self, prompt: str) -> str:
        """The next line, without its end.  Raises EOFError after the last."""


class Piped:
    """Lines of a descriptor that is no terminal; read in the main thread, no prompt."""

    typed = False

    def __init__(self, file: BinaryIO | None):
        self._file = file

    def read(self, prompt: str) -> str:
        line = self._file.readline() if self._file else b""
        if not line:
            raise EOFError
        # Bytes that are no UTF-8 go on as surrogates, and leave as the bytes they were.
        return os.fsdecode(line.rstrip(b"\r\n"))


def edited() -> bool:
    """input() edits lines: both ends are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
