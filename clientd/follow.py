"""Followers: each reads one task's log and sends it as chunks, no more than its reader takes.

A log is a plain file that the task itself appends to, so a byte's offset names it for ever:
a follow that was cut goes on at the next offset, with no byte lost or doubled.  Of a log that
is trimmed meanwhile (clientd.keeper.trim) it says how many bytes it can no longer send.
"""

import os
from collections.abc import Callable

from clientd.inotify import Growth
from clientd.keeper.trim import begin_of
from godwit.wire.messages import WINDOW, Chunk, Ended

#: Bytes in one chunk.
CHUNK = 64 * 1024

Send = Callable[[Chunk | Ended], None]


class Follower:
    """One log on its way to one reader."""

    def __init__(self, stream: int, path: str, send: Send, ended: Callable[[int], None]):
        self.stream = stream
        self._send = send
        self._ended = ended
        self._credit = WINDOW
        self._offset = 0
        self._live = False
        self._unwatch: Callable[[], None] = lambda: None
        self._path = path
        self._fd = -1

    def start(self, growth: Growth, offset: int, lines: int | None, live: bool) -> None:
        """Begins at byte ``offset``, or so that the last ``lines`` lines from there are sent."""
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as err:
            self._end("no-log", f"its log cannot be read: {err.strerror}")
            return
        if lines is not None:
            offset = max(offset, last_lines(self._fd, lines))
        self._offset = offset
        self._live = live
        if live:
            self._unwatch = growth.watch(self._path, self.pump)
        self.pump()

    def finish(self) -> None:
        """The task has ended: what is in the file now is all."""
        self._live = False
        self.pump()

    def grant(self, count: int) -> None:
        """The reader took ``count`` bytes."""
        self._credit = min(self._credit + count, 2 * WINDOW)
        self.pump()

    def pump(self) -> None:
        """Sends what is there and what the credit allows."""
        while self._fd >= 0 and self._credit > 0:
            try:
                data = os.pread(self._fd, min(CHUNK, self._credit), self._offset)
            except OSError as err:
                self._end("no-log", f"its log cannot be read on: {err.strerror}")
                return
            # Now, for what was read before this may be a hole.
            begin = begin_of(self._fd)
            if begin > self._offset:
                self._send(Chunk(self.stream, begin, b"", begin - self._offset))
                self._offset = begin
                continue
            if not data:
                if not self._live:
                    self._end()
                return
            self._send(Chunk(self.stream, self._offset, data))
            self._offset += len(data)
            self._credit -= len(data)

    def _end(self, code: str = "", text: str = "") -> None:
        self._send(Ended(self.stream, self._offset, code, text))
        self.close()
        self._ended(self.stream)

    def close(self) -> None:
        """Stops; nothing more is sent."""
        self._unwatch()
        self._unwatch = lambda: None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def last_lines(fd: int, count: int) -> int:
    """The offset at which the last ``count`` lines begin; an unfinished last line counts.

    0 when there are no more lines than that, or no more left.
    """
    size = os.fstat(fd).st_size
    begin = begin_of(fd)
    if count <= 0:
        return size
    end = size
    # A newline that ends the file ends its last line; it does not begin another one.
    if end and os.pread(fd, 1, end - 1) == b"\n":
        end -= 1
    while end > begin:
        start = max(begin, end - CHUNK)
        block = os.pread(fd, end - start, start)
        found = block.rfind(b"\n")
        while found >= 0:
            count -= 1
            if count == 0:
                return start + found + 1
            found = block.rfind(b"\n", 0, found)
        end = start
    return 0
