"""The logs of tasks that are elsewhere, here at their home: written on as their bytes come.

Byte n of such a log is byte n of the task's own.  What is written twice is the same both times,
and what a kill cut short ends where the next goes on; so the file's size says how far it is.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress

from clientd import events as on

#: Gets how far a log is, or why it cannot be written.
Hear = Callable[[on.HomeLogAt | on.HomeLogFailed], object]


class HomeLogs:
    """All of one node's."""

    def __init__(self, hear: Hear):
        self._hear = hear
        self._files: dict[str, int] = {}

    def open(self, task: str, path: str) -> None:
        """Takes it up where it ends."""
        self.close(task)
        try:
            # Not for appending: a place that was written before is written again.
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            self._files[task] = fd
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(0, "it is no regular file")
        except OSError as err:
            self._fail(task, err)
            return
        self._hear(on.HomeLogAt(task, found.st_size))

    def write(self, task: str, offset: int, data: bytes) -> None:
        """At that place; what is missing before it stays a hole."""
        fd = self._files.get(task, -1)
        if fd < 0:
            return  # it came too late
        try:
            if os.fstat(fd).st_size < offset:
                os.ftruncate(fd, offset)
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], offset + done)
        except OSError as err:
            self._fail(task, err)
            return
        self._hear(on.HomeLogAt(task, offset + len(data)))

    def _fail(self, task: str, err: OSError) -> None:
        """Nothing more is asked for; it goes on at the next connection."""
        self.close(task)
        self._hear(on.HomeLogFailed(task, err.strerror or str(err)))

    def close(self, task: str) -> None:
        """No more is written to it."""
        with suppress(KeyError):
            os.close(self._files.pop(task))

    def close_all(self) -> None:
        for task in tuple(self._files):
            self.close(task)
