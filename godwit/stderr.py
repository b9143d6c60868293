"""Lines on stderr that never wait: for a terminal that is stopped, or a pipe that nobody empties.

Setting O_NONBLOCK on descriptor 2 would set it for everybody who shares the terminal, so a pipe or
terminal is opened anew by /proc/self/fd/2, and a socket is sent to with MSG_DONTWAIT.  A regular
file is written as it is: it never makes anybody wait, and its offset is shared with others.
"""

import os
import select
import socket
import stat
from contextlib import suppress

STDERR = 2
_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Lines:
    """Writes whole lines; those for which there is no room are counted, and told of later."""

    def __init__(self) -> None:
        #: The end of a line of which the beginning was written.
        self._rest = b""
        self._missed = 0

    def write(self, line: str) -> None:
        """One line, or none of it; what is wrong with stderr is nobody's concern."""
        told = f"({self._missed} lines were not shown)\n" if self._missed else ""
        data = self._rest + (told + line).encode("utf-8", "backslashreplace")
        written = 0
        with suppress(OSError):
            written = _write(data)
        if written <= len(self._rest):
            self._rest = self._rest[written:]
            self._missed += 1
        else:
            self._missed = 0
            self._rest = data[written:]


def _write(data: bytes) -> int:
    """How many bytes went out without waiting.  Raises OSError."""
    mode = os.fstat(STDERR).st_mode
    if stat.S_ISREG(mode):
        return os.write(STDERR, data)
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(STDERR)) as link:
            return link.send(data, socket.MSG_DONTWAIT)
    try:
        fd = os.open(f"/proc/self/fd/{STDERR}", _FLAGS)
    except OSError:  # another user's terminal, say
        return _write_if_ready(data)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def _write_if_ready(data: bytes) -> int:
    """Room for a line of ordinary length is all that poll(2) can promise."""
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    ready = poll.poll(0)
    return os.write(STDERR, data) if ready and ready[0][1] & select.POLLOUT else 0
