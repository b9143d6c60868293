"""Programs that a task needs for a while, and that outlive the keeper which started them.

Each is run by a shell of its own that writes down how it ended.  Its start is an errand; what is
known of it is in files, so a keeper that comes later takes it up where the other left it.

Fact: sh(1) hands its descriptors on to what it runs and keeps them till its own end.  So a pipe
that both have says first that the program is ready, by a byte, and then, by its end, that both
have ended.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from clientd.keeper import processes
from clientd.keeper.errands import Errands
from clientd.keeper.loop import Loop

#: The program gets the pipe under this number.
READY_FD = 101
#: $0: where its files are; "$@": the program.
_SCRIPT = (
    '("$@"; echo $? >"$0.status.new"; mv "$0.status.new" "$0.status") & echo $! >"$0.pid"'
)
_START_S = 20.0


class _Watched(Struct):
    fd: int
    ready: Callable[[], None]
    #: Told whether its status was 0; False also when that is not known.
    ended: Callable[[bool], None]


class Standby:
    """All of one keeper's, each called by the path that its files begin with."""

    def __init__(self, loop: Loop, errands: Errands):
        self._loop = loop
        self._errands = errands
        self._watched: dict[str, _Watched] = {}

    def start(
        self, base: str, words: Sequence[str], descriptors: Mapping[int, int],
        ready: Callable[[], None], ended: Callable[[bool], None],
    ) -> None:
        """Runs it; it says a byte on READY_FD once it is ready.  Raises OSError."""
        for name in ("pid", "status"):
            with suppress(FileNotFoundError):
                os.unlink(f"{base}.{name}")  # an earlier one's
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self._watched[base] = _Watched(ours, ready, ended)
        self._loop.watch(ours, lambda _: self._said(base))
        try:
            self._errands.run(
                ("/bin/sh", "-c", _SCRIPT, base, *words), lambda _: None, _START_S,
                {**descriptors, READY_FD: theirs},
            )
        finally:
            os.close(theirs)

    def _said(self, base: str) -> None:
        watched = self._watched[base]
        if os.read(watched.fd, 1):
            watched.ready()
        else:
            self._over(base)

    def find(self, base: str, ended: Callable[[bool], None]) -> None:
        """Takes up one that an earlier keeper started; ``ended`` may come at once."""
        pid = running(base)
        try:
            fd = os.pidfd_open(pid) if pid else -1
        except OSError:
            fd = -1
        if fd < 0 or running(base) != pid:
            if fd >= 0:
                os.close(fd)
            ended(_was_fine(base))
            return
        self._watched[base] = _Watched(fd, lambda: None, ended)
        self._loop.watch(fd, lambda _: self._over(base))

    def _over(self, base: str) -> None:
        watched = self._watched.pop(base)
        self._loop.forget(watched.fd)
        os.close(watched.fd)
        watched.ended(_was_fine(base))

    def leave(self, base: str) -> None:
        """Nothing more is to be told of it."""
        watched = self._watched.pop(base, None)
        if watched is not None:
            self._loop.forget(watched.fd)
            os.close(watched.fd)


def running(base: str) -> int:
    """The pid of the shell that runs it; 0 when there is none any more."""
    with suppress(OSError, ValueError):
        with open(f"{base}.pid") as file:
            pid = int(file.read())
        # A pid that is another's by now has no such command line.
        if os.fsencode(base) in processes.command_line(pid):
            return pid
    return 0


def end(base: str) -> None:
    """SIGKILL to it and to what it runs."""
    if pid := running(base):
        for each in list(processes.tree(pid)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


def _was_fine(base: str) -> bool:
    with suppress(OSError), open(f"{base}.status") as file:
        return file.read().strip() == "0"
    return False
