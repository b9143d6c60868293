"""Programs that the keeper runs for itself: started, waited for by the loop, given up in time."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from msgspec import Struct

from clientd.keeper.loop import Loop

_RESET = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
#: Bytes of output that are kept.
MOST_OUTPUT = 64 * 1024


class Outcome(Struct, frozen=True):
    """How an errand ended."""

    #: As wait(2) has it; None when it could not be started.
    status: int | None
    #: What it wrote to stdout and stderr; or why it could not be started.
    output: bytes
    #: Seconds it took.
    took_s: float
    #: It was killed because its time was up.
    late: bool = False

    @property
    def fine(self) -> bool:
        return self.status == 0

    @property
    def said(self) -> str:
        """That output as text, without the space around it."""
        return self.output.decode("utf-8", "replace").strip()


Done = Callable[[Outcome], None]


class Errands:
    """All errands under way.  ``others``: who waits for which of the keeper's own children."""

    def __init__(self, loop: Loop, others: dict[int, Callable[[], None]]):
        self._loop = loop
        self._others = others
        self._under_way: dict[int, _Errand] = {}

    def run(
        self, words: Sequence[str], done: Done, limit_s: float,
        descriptors: Mapping[int, int] | None = None, environment: Mapping[str, str] | None = None,
    ) -> int:
        """Starts a program; ``done(outcome)`` comes from a later turn of the loop, always.

        ``descriptors``: its descriptor number -> ours; numbers from 3 up.  ``environment``: ours
        unless given.  The pid, or 0 when it could not be started.
        """
        output = os.memfd_create(os.path.basename(words[0]), os.MFD_CLOEXEC)
        began = self._loop.now()
        try:
            pid = _spawn(words, output, descriptors or {}, environment or os.environ)
        except OSError as err:
            os.close(output)
            outcome = Outcome(None, f"{words[0]}: {err.strerror}".encode(), 0.0)
            self._loop.alarm(f"errand {id(outcome)}", 0.0, partial(done, outcome))
            return 0
        self._under_way[pid] = _Errand(output, began, done)
        self._others[pid] = partial(self._reap, pid)
        with suppress(OSError):  # then SIGCHLD alone tells
            self._under_way[pid].pidfd = fd = os.pidfd_open(pid)
            self._loop.watch(fd, lambda _: self._reap(pid))
        self._loop.alarm(f"errand of {pid}", limit_s, partial(self.end, pid))
        return pid

    def end(self, pid: int) -> None:
        """Its time is up: SIGKILL; ``done`` follows."""
        if errand := self._under_way.get(pid):
            errand.late = True
            _kill(pid)

    def extend(self, pid: int, limit_s: float) -> None:
        """It has so many seconds from now on, and not what was said first."""
        if pid in self._under_way:
            self._loop.alarm(f"errand of {pid}", limit_s, partial(self.end, pid))

    def _reap(self, pid: int) -> None:
        errand = self._under_way.get(pid)
        if errand is None:
            return
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            return
        del self._under_way[pid], self._others[pid]
        self._loop.silence(f"errand of {pid}")
        if errand.pidfd >= 0:
            self._loop.forget(errand.pidfd)
            os.close(errand.pidfd)
        output = os.pread(errand.output, MOST_OUTPUT, 0)
        os.close(errand.output)
        took = self._loop.now() - errand.began
        errand.done(Outcome(status, output, took, errand.late and status != 0))

    def close(self) -> None:
        """Ends what is under way and waits for it; nobody is told."""
        for pid, errand in self._under_way.items():
            _kill(pid)
            os.waitpid(pid, 0)
            del self._others[pid]
            self._loop.silence(f"errand of {pid}")
            if errand.pidfd >= 0:
                self._loop.forget(errand.pidfd)
                os.close(errand.pidfd)
            os.close(errand.output)
        self._under_way.clear()


class _Errand(Struct):
    output: int
    began: float
    done: Done
    pidfd: int = -1
    late: bool = False


def _kill(pid: int) -> None:
    """With the helpers that it has started: ``criu check``'s wait for it for ever."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _spawn(
    words: Sequence[str], output: int, descriptors: Mapping[int, int],
    environment: Mapping[str, str],
) -> int:
    """In a session of its own: Ctrl-C at our terminal is not for it.

    Ours are duplicated out of the way first: a number wanted by it may be in use by us.
    """
    above = max((*descriptors, *descriptors.values(), output, 2)) + 1
    moves = [
        (ours, high, wanted) for high, (wanted, ours) in enumerate(descriptors.items(), above)
    ]
    return os.posix_spawn(
        words[0], list(words), environment, setsid=True, setsigdef=_RESET, setsigmask=(),
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            *((os.POSIX_SPAWN_DUP2, ours, high) for ours, high, _ in moves),
            *((os.POSIX_SPAWN_DUP2, high, wanted) for _, high, wanted in moves),
            *((os.POSIX_SPAWN_CLOSE, high) for _, high, _ in moves),
        ),
    )
