"""CRIU: freezes a task and all of its processes into files, and makes them again: criu(8).

It runs as an errand of the keeper's.  Its command line serves as well as its RPC: both start a
process, which is what takes time (some 17 ms of loading), and both tell the reason of a failure in
the log file alone.  But a process that takes its orders by RPC can be started before there is one
(``Waiting``, clientd/keeper/swrk.py): that is how copies are restored where CRIU can do it.

Facts: after ``dump --leave-stopped`` and ``restore --leave-stopped`` every process is stopped as
by SIGSTOP, and SIGCONT lets it go on.  ``--restore-sibling`` makes what is restored a child of
who started CRIU: so we get its exit status.  It is put into the cgroup that CRIU runs in.
"""

import os
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial

from msgspec import Struct, field

from clientd.keeper import processes, stats, swrk, whose
from clientd.keeper.below import Executed, look, program_of
from clientd.keeper.complaints import Complaint, complaint
from clientd.keeper.errands import Errands, Outcome
from godwit.task.verdict import Ids

#: Seconds for one dump or restore, unless asked otherwise.
LIMIT_S = 120.0

_LOG = "criu.log"
FEED_LOG = "feed.log"
_PIDFILE = "criu.pid"
#: Of descriptors that are handed to CRIU; below are its own.
_IMAGES_FD, _PROGRAM_FD, _FIRST_FD = 100, 101, 102
_COMMON = ("--manage-cgroups=ignore", "--file-locks", "-v1", "--log-file", _LOG)


class Dumped(Struct, frozen=True):
    """A dump that was tried: all in ``images`` when there is no complaint."""

    complaint: Complaint | None
    took_s: float
    #: Pids inside the namespace of processes that were stopped before: they stay stopped.
    stopped: frozenset[int] = frozenset()
    #: What CRIU measured: see clientd.keeper.stats.
    figures: dict[str, int] = field(default_factory=dict)


class Restored(Struct, frozen=True):
    """A restore that was tried; without a complaint it is there, stopped, as our child."""

    complaint: Complaint | None
    took_s: float
    init: int = 0
    #: What init started, as it is to be watched; its descriptor is the taker's to close.
    program: Executed | None = None
    figures: dict[str, int] = field(default_factory=dict)


class Criu:
    """A CRIU that works here."""

    def __init__(self, path: str, errands: Errands, version: str = ""):
        self.path = path
        self._errands = errands
        self._can_wait = swrk.can(version)

    def dump(
        self, init: int, images: str, done: Callable[[Dumped], None], *,
        limit_s: float = LIMIT_S, options: tuple[str, ...] = (),
    ) -> int:
        """Saves the namespace of ``init`` into the folder ``images`` and leaves it stopped.

        When it fails the task is as it was before, but for having been stopped a while.
        ``options``: more of ``criu dump``'s.  The pid of CRIU, or 0.
        """
        stopped = stopped_in(init)
        words = self.dumping(init, images, limit_s, options)

        def ended(outcome: Outcome) -> None:
            failed = _failed(outcome, images, limit_s)
            if failed:
                thaw(init, stopped)
            done(Dumped(failed, outcome.took_s, stopped, stats.of_dump(images)))

        return self._errands.run(words, ended, limit_s)

    def dumping(
        self, init: int, images: str, limit_s: float = LIMIT_S, options: tuple[str, ...] = ()
    ) -> list[str]:
        """The command that ``dump`` runs."""
        return whose.saving(init, [
            self.path, "dump", "--tree", str(init), "--images-dir", images, "--leave-stopped",
            "--timeout", str(max(1, int(limit_s))), *_COMMON, *options,
        ])

    def feeding(self, images: str, options: tuple[str, ...]) -> list[str]:
        """The command that brings the memory of what is restored from ``images``, meanwhile and
        afterwards."""
        return [
            self.path, "lazy-pages", "--images-dir", images, "--page-server", "-v1",
            "--log-file", FEED_LOG, *options,
        ]

    def restore(
        self, images: str, done: Callable[[Restored], None], *,
        files: Mapping[str, int] | None = None, limit_s: float = LIMIT_S,
        options: tuple[str, ...] = (), before: tuple[str, ...] = (), user: Ids | None = None,
    ) -> int:
        """Makes what is in ``images`` again, stopped, in the cgroup that we are in now.

        ``files``: path of a file as the task had it open -> our descriptor that takes its place;
        its log goes so.  ``before``: a command that executes CRIU in its own stead, somewhere
        else perhaps.  ``user``: whose it is, if not root's; then the images are, too.  When it
        fails nothing of it is left.  The pid of CRIU, or 0.
        """
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(images, _PIDFILE))  # an earlier try's
        given = dict(enumerate((files or {}).items(), _FIRST_FD))
        # By descriptors of their folders: where these are, a user may not go.
        ours = [
            os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            for path in (images, os.path.dirname(self.path))
        ]
        words = [
            f"/proc/self/fd/{_PROGRAM_FD}/{os.path.basename(self.path)}", "restore",
            "--images-dir", f"/proc/self/fd/{_IMAGES_FD}", "--restore-detached",
            "--restore-sibling", "--leave-stopped", "--pidfile", _PIDFILE, *_COMMON, *options,
        ]
        for number, (path, _) in given.items():
            words += ["--inherit-fd", f"fd[{number}]:{path.lstrip('/')}"]

        def ended(outcome: Outcome) -> None:
            _tell_restored(images, done, limit_s, _pid(images), outcome)

        descriptors = {number: fd for number, (_, fd) in given.items()}
        try:
            return self._errands.run(
                (*before, *(whose.restoring(user, words) if user else words)), ended, limit_s,
                {_IMAGES_FD: ours[0], _PROGRAM_FD: ours[1], **descriptors},
            )
        finally:
            for fd in ours:
                os.close(fd)

    def wait(self, log: int, before: tuple[str, ...]) -> "Waiting | None":
        """One that restores as soon as it is asked, or None where CRIU cannot be had so.

        ``log``: our descriptor that takes the place of the task's log.  Raises OSError.
        """
        return Waiting(self.path, self._errands, log, before) if self._can_wait else None


class Waiting:
    """A CRIU that has been started, and waits to be told what to restore."""

    def __init__(self, path: str, errands: Errands, log: int, before: tuple[str, ...]):
        self._errands = errands
        self._line = line = swrk.Line()
        self._then: Callable[[int, Outcome], None] | None = None
        self._is_there = True
        self._folder = -1
        try:
            self.pid = errands.run(
                (*before, path, "swrk", str(swrk.SOCKET)), self._ended, swrk.PATIENCE_S,
                {swrk.SOCKET: line.theirs.fileno(), swrk.LOG: log},
            )
        finally:
            line.started()

    def restore(
        self, images: str, log: str, done: Callable[[Restored], None], *, lazy: bool = False,
        limit_s: float = LIMIT_S,
    ) -> bool:
        """As Criu.restore does; ``log``: its path as the task had it.  False: it is gone."""
        try:
            if not self._is_there:
                return False
            self._folder = os.open(images, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._line.ask(swrk.request(self._folder, log, _LOG, lazy))
        except OSError:
            return False
        self._then = partial(_tell_restored, images, done, limit_s)
        self._errands.extend(self.pid, limit_s)
        return True

    def end(self) -> None:
        """It is not wanted any more; a restore that is under way fails."""
        self._errands.end(self.pid)

    def _ended(self, outcome: Outcome) -> None:
        self._is_there = False
        answer = self._line.answer()
        self._line.close()
        if self._folder >= 0:
            os.close(self._folder)
        if self._then is not None:
            self._then(swrk.restored(answer), outcome)


def _tell_restored(
    images: str, done: Callable[[Restored], None], limit_s: float, init: int, outcome: Outcome
) -> None:
    """``init``: what it said to have restored; 0 when it said nothing."""
    failed = _failed(outcome, images, limit_s)
    if failed:
        if init:
            end(init)
        done(Restored(failed, outcome.took_s))
        return
    program = look(program_of(init))
    done(Restored(None, outcome.took_s, init, program, stats.of_restore(images)))


def _failed(outcome: Outcome, images: str, limit_s: float) -> Complaint | None:
    if outcome.fine:
        return None
    if outcome.status is None:
        return Complaint("criu", outcome.output.decode("utf-8", "replace"))
    if outcome.late:
        return Complaint("late", f"it was not done within {limit_s:g} s")
    return complained(images) or complaint(outcome.output.decode("utf-8", "replace"))


def complained(images: str, log: str = _LOG) -> Complaint | None:
    """What CRIU's log there says; None when that is empty."""
    with suppress(OSError), open(os.path.join(images, log), errors="replace") as file:
        if text := file.read(1 << 20):
            return complaint(text)
    return None


def _pid(images: str) -> int:
    with suppress(OSError, ValueError), open(os.path.join(images, _PIDFILE)) as file:
        return int(file.read())
    return 0


# ---- what is done to processes that are stopped ---------------------------------------------


def stopped_in(init: int) -> frozenset[int]:
    """Those of its namespace, by their pids inside, that somebody has stopped."""
    return frozenset(inside(pid) for pid in processes.tree(init) if _is_stopped(pid))


def thaw(init: int, stopped: Collection[int] = ()) -> None:
    """Lets all go on, after a dump or a restore; those ``stopped`` before (pids inside) do not."""
    for pid in processes.tree(init):
        if inside(pid) not in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def end(init: int) -> None:
    """SIGKILL to an init of ours: with it the kernel ends all in its namespace, stopped or not."""
    with suppress(ProcessLookupError):
        os.kill(init, signal.SIGKILL)


def inside(pid: int) -> int:
    """The pid that a process has in its own namespace; 0 when it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0


def _is_stopped(pid: int) -> bool:
    process = processes.look(pid)
    return process is not None and process.state in "Tt"
