"""Daemon logs: four levels, one JSON object a line in a file, a readable line on stderr.

Several processes may append to one file: each line is one write(2) on an O_APPEND descriptor.
"""

import contextlib
import json
import os
import time
from typing import Literal

from godwit.stderr import Lines

Level = Literal["config", "info", "warning", "severe"]
LEVELS: tuple[Level, ...] = ("config", "info", "warning", "severe")

#: A log file over this many bytes is set aside as FILE.1 at the next start or line.
ROTATE_AT = 16 * 1024 * 1024


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that data never moves a terminal's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Log:
    """Writes lines at or above ``stderr_level`` to stderr and every line to ``path``."""

    def __init__(
        self, source: str, path: str = "", stderr_level: Level | None = "config",
        mode: int = 0o640,
    ):
        self.source = source
        self.path = path
        self.stderr_level = stderr_level
        #: Why the last line is not in the file; empty: it is.
        self.trouble = ""
        #: Permissions of the file, also of one that was there.
        self._mode = mode
        self._stderr = Lines()
        self._fd = -1
        #: The last line is not whole: the disk was full.
        self._torn = False
        if path:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._open()

    def _open(self) -> None:
        self._fd = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, self._mode
        )
        if not self._mode & 0o077:
            os.fchmod(self._fd, self._mode)

    def __call__(self, level: Level, text: str, **about: object) -> None:
        """One line: what happened and to what (``task=``, ``node=``, ``request=`` ...)."""
        now = time.time()
        self._to_file(level, text, now, about)
        if self.stderr_level and LEVELS.index(level) >= LEVELS.index(self.stderr_level):
            self._to_stderr(level, text, now)

    def _to_file(self, level: Level, text: str, now: float, about: dict[str, object]) -> None:
        if self._fd < 0:
            return
        record = {
            "at": round(now, 3), "level": level, "from": self.source, "pid": os.getpid(),
            "text": text, **about,
        }
        self.trouble = ""
        # A full disk must not end a daemon over its log; the line is still on stderr.
        try:
            if os.fstat(self._fd).st_size > ROTATE_AT:
                self._rotate()
            line = b"\n" * self._torn + json.dumps(record, default=str).encode() + b"\n"
            self._torn = os.write(self._fd, line) < len(line)
        except OSError as err:
            self.trouble = err.strerror or str(err)

    def _rotate(self) -> None:
        """Sets the file aside, unless another process has done so; goes on in the new one."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), os.fstat(self._fd)):
                os.replace(self.path, self.path + ".1")
        full = self._fd
        self._open()
        os.close(full)

    def _to_stderr(self, level: Level, text: str, now: float) -> None:
        stamp = time.strftime("%H:%M:%S", time.localtime(now))
        self._stderr.write(f"{stamp} {self.source} {level}: {printable(text)}\n")
