"""A file of the task's working directory at the source, while it is sent: twice, if need be.

It goes whole while the task runs, and what has changed of it when the task stands still.  A file
that was written to since is read again and compared by its digest, which takes no time on the
wire: one that only grew is continued, any other is begun anew.
"""

import hashlib
import os
import stat
import time
from typing import Any

from msgspec import Struct, field

from godwit.ship.words import CHUNK, Carried

#: Seconds after a write until a further one is sure to show as another mtime, whatever the clock
#: tick of the kernel and the file system's unit of time.
SETTLED_S = 3.0


class Carrying(Struct):
    """One file, open as ``fd``, which it closes."""

    number: int
    fd: int
    #: Bytes sent, and their SHA-256.
    sent: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    #: What the file was like when all of it had been sent; None: it may have changed since.
    _like: tuple[int, int] | None = None

    def restart(self) -> None:
        """What was sent is of no use."""
        self.sent, self.digest, self._like = 0, hashlib.sha256(), None

    def replace(self, fd: int) -> None:
        """Goes on with another descriptor of that name; begins anew if that is another file."""
        old, new = os.fstat(self.fd), os.fstat(fd)
        os.close(self.fd)
        self.fd = fd
        if (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino):
            self.restart()

    def due(self, buffer: memoryview) -> range:
        """The bytes that are to be sent now.  Raises OSError."""
        found = os.fstat(self.fd)
        if (found.st_size, found.st_mtime_ns) == self._like:
            return range(self.sent, self.sent)
        if found.st_size < self.sent or not self._is_begun(buffer):
            self.restart()
        quiet = time.time() - found.st_mtime > SETTLED_S
        self._like = (found.st_size, found.st_mtime_ns) if quiet else None
        return range(self.sent, found.st_size)

    def add(self, piece: memoryview) -> None:
        """This was sent."""
        self.digest.update(piece)
        self.sent += len(piece)

    def complete(self) -> Carried:
        """What the file is in the end.  Raises OSError."""
        found = os.fstat(self.fd)
        mode = stat.S_IMODE(found.st_mode) & 0o777
        return Carried(self.number, self.sent, mode, found.st_mtime_ns, self.digest.digest())

    def _is_begun(self, buffer: memoryview) -> bool:
        """Whether the file still begins with what was sent."""
        digest, offset = hashlib.sha256(), 0
        while offset < self.sent:
            count = os.preadv(self.fd, [buffer[: min(CHUNK, self.sent - offset)]], offset)
            if not count:
                return False
            digest.update(buffer[:count])
            offset += count
        return bool(digest.digest() == self.digest.digest())
