"""Tasks' roots, and how they end: a pidfd each, then wait4(2) for status and usage at once."""

import os
import resource
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from select import EPOLLHUP

from msgspec import Struct
from msgspec.structs import replace

from clientd.keeper import pidfd, processes
from clientd.keeper.loop import Loop
from godwit.task.record import Usage

#: Seconds that whoever adopted a task's root has to wait for it, before its status is given up.
UNREAPED_S = 5.0


class Root(Struct, frozen=True):
    """The first process of a task, from when it runs till its end is known."""

    task: str
    pid: int
    start_ticks: int
    #: Our child; else found running, and then its status comes another way, if at all.
    is_child: bool
    #: Our own peak when it was started, KiB: execve(2) leaves it in the child's ru_maxrss.
    peak: int = 0
    #: Its init, our child in its stead; or 0.  See clientd.keeper.apart.
    init: int = 0
    #: -1 when there was no descriptor left: then SIGCHLD alone tells.  Given for one with an init,
    #: which may have waited for it by now.
    pidfd: int = -1
    #: Of ``init``.
    init_fd: int = -1

    @property
    def waited(self) -> int:
        """Who is waited for."""
        return self.init or self.pid

    @property
    def watched(self) -> int:
        """The descriptor that tells when."""
        return self.init_fd if self.init else self.pidfd


#: Gets the root that ended; its status as wait(2) has it, None when it cannot be known; its usage.
Ended = Callable[[Root, int | None, Usage | None], None]


class Watch:
    """All roots that run."""

    def __init__(self, loop: Loop, ended: Ended, others: Mapping[int, Callable[[], None]]):
        """``others``: who waits for which of our children that are no task's."""
        self.roots: dict[str, Root] = {}
        self.by_pid: dict[int, Root] = {}
        self._loop = loop
        self._ended = ended
        self._others = others

    def add(self, root: Root) -> None:
        """Watches a root; a child for which no descriptor is left is watched by ``reap`` alone.

        Raises ProcessLookupError for one that is not our child and is gone by now.
        """
        if not root.init or not root.is_child:
            root = replace(root, pidfd=self._open(root))
        if root.init:
            root = replace(root, init_fd=self._open_init(root))
        self.roots[root.task] = self.by_pid[root.waited] = root
        if root.watched >= 0:
            take = self._take_child if root.is_child else self._take_stranger
            self._loop.watch(root.watched, lambda events: take(root, events))

    @staticmethod
    def _open(root: Root) -> int:
        try:
            fd = os.pidfd_open(root.pid)
        except OSError:
            if root.is_child:
                return -1
            raise
        if not root.is_child:
            # Whoever had the pid before it was opened may have gone.
            now = processes.look(root.pid)
            if now is None or now.start_ticks != root.start_ticks:
                os.close(fd)
                raise ProcessLookupError(root.pid)
        return fd

    @staticmethod
    def _open_init(root: Root) -> int:
        try:
            return os.pidfd_open(root.init)
        except OSError:
            if root.is_child:
                return -1
            os.close(root.pidfd)
            raise

    def _take_child(self, root: Root, _events: int = 0) -> None:
        pid, status, used = os.wait4(root.waited, os.WNOHANG)
        if pid:
            if root.init and root.pidfd >= 0:
                # Init tells a signal as a code; the kernel tells it as it was, where it is new.
                told = pidfd.exit_status(root.pidfd, root.pid, root.start_ticks)
                status = status if told is None else told
            self._drop(root)
            self._ended(root, status, usage(used, root.peak))

    def _take_stranger(self, root: Root, events: int) -> None:
        status = pidfd.exit_status(root.pidfd, root.pid, root.start_ticks)
        if status is None and not events & EPOLLHUP:
            # It is a zombie still: its parent waits for it any moment, and then it hangs up.
            self._loop.watch(root.pidfd, lambda more: self._take_stranger(root, more), 0)
            self._loop.alarm(f"unreaped {root.pid}", UNREAPED_S, lambda: self._give_up(root))
            return
        self._loop.silence(f"unreaped {root.pid}")
        self._drop(root)
        self._ended(root, status, None)

    def _give_up(self, root: Root) -> None:
        self._take_stranger(root, EPOLLHUP)

    def _drop(self, root: Root) -> None:
        del self.roots[root.task], self.by_pid[root.waited]
        if root.watched >= 0:
            self._loop.forget(root.watched)
        for fd in (root.pidfd, root.init_fd):
            if fd >= 0:
                os.close(fd)

    def kill_init(self, task: str) -> None:
        """With a task's init the kernel ends all in its namespace, whatever they carry or did."""
        root = self.roots.get(task)
        if root and root.init_fd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(root.init_fd, signal.SIGKILL)

    def reap(self) -> int:
        """Waits for all children that ended; how many were no task's root.

        A peek first: a status that belongs to somebody is taken by them.
        """
        strangers = 0
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return strangers
            if found is None:
                return strangers
            pid = found.si_pid
            if pid in self.by_pid:
                self._take_child(self.by_pid[pid])
            elif pid in self._others:
                self._others[pid]()
            else:
                os.waitpid(pid, os.WNOHANG)
                strangers += 1


def usage(used: resource.struct_rusage, peak: int = 0) -> Usage:
    """getrusage(2)'s figures; ``peak``, KiB, is what ru_maxrss was before the program began."""
    return Usage(
        utime_s=used.ru_utime, stime_s=used.ru_stime,
        maxrss_bytes=used.ru_maxrss * 1024, maxrss_is_bound=used.ru_maxrss <= peak,
        minflt=used.ru_minflt, majflt=used.ru_majflt,
        inblock=used.ru_inblock, oublock=used.ru_oublock,
        nvcsw=used.ru_nvcsw, nivcsw=used.ru_nivcsw,
    )
