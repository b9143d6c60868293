"""What was typed, over sessions: a file with one line each that only its owner may read.

Several shells may append to one file at a time: a line is one write(2) with O_APPEND.  It is cut
back to the newest lines when a shell starts and finds many more.
"""

import contextlib
import os
import readline

#: Lines kept.
KEPT = 2000
#: The file is written anew when it has this many times KEPT lines.
SLACK = 2


class History:
    """The lines of one state folder.  A file that cannot be read or written is done without."""

    def __init__(self, path: str):
        self._path = path
        self._last = ""

    def load(self) -> None:
        """Gives readline the lines of earlier sessions."""
        lines = self._read()
        if len(lines) > KEPT * SLACK:
            self._rewrite(lines[-KEPT:])
        readline.set_history_length(KEPT)
        readline.clear_history()
        for line in lines[-KEPT:]:
            self._last = os.fsdecode(line)
            readline.add_history(self._last)

    def add(self, line: str) -> None:
        """Keeps ``line``, unless it repeats the last one or starts with a space."""
        if not line.strip() or line.startswith(" ") or line == self._last:
            return
        self._last = line
        readline.add_history(line)
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, os.fsencode(line) + b"\n")
            finally:
                os.close(fd)

    def _read(self) -> list[bytes]:
        try:
            with open(self._path, "rb") as file:
                lines = file.read().split(b"\n")
        except OSError:
            return []
        return [line for line in lines if line and b"\0" not in line]

    def _rewrite(self, lines: list[bytes]) -> None:
        new = f"{self._path}.{os.getpid()}"
        with contextlib.suppress(OSError):
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(b"\n".join([*lines, b""]))
            os.replace(new, self._path)
