"""Starts a program below an init, in a pid namespace of its own: clientd.keeper.init does it.

The init of another user's task is that user, with one capability besides, which CRIU needs in it
(clientd.keeper.apart); what it starts has none.  posix_spawn makes all others: so they need no
copy of our page tables.

The program does not execute before we say so: it may end at once, and then its pid, which we have
to ask the kernel for, is nobody's any more.
"""

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from functools import cache

from msgspec import Struct

from clientd.keeper import forked, init, processes
from clientd.keeper.forked import RESET, Program, StepFailed

CLONE_NEWPID = 0x20000000
#: To mount where it stands: capabilities(7).
CAP_SYS_ADMIN = 21
RIGHTS = 1 << CAP_SYS_ADMIN
#: Descriptors below are where others are wanted.
_FIRST_FD = 10


class Init(Struct, frozen=True):
    """What is executed as pid 1, and where it stands."""

    path: bytes
    stand: bytes


class Executed(Struct, frozen=True):
    """A program as it was when it began: afterwards it may be gone, for its init waits for it."""

    pid: int
    start_ticks: int
    #: -1 when there was no descriptor left.
    pidfd: int


class _Line:
    """What is told to us, and what we say: both ends of two pipes."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.told, self.tell = _pipe()
        try:
            self.hear, self.say = _pipe()
        except OSError:
            self._close(self.told, self.tell)
            raise

    def started(self) -> None:
        """They have their ends."""
        self._close(self.tell, self.hear)

    def close(self) -> None:
        self._close(self.told, self.say)

    @staticmethod
    def _close(*fds: int) -> None:
        for fd in fds:
            os.close(fd)


def _pipe() -> list[int]:
    low = os.pipe2(os.O_CLOEXEC)
    try:
        return [fcntl(fd, F_DUPFD_CLOEXEC, _FIRST_FD) for fd in low]
    finally:
        for fd in low:
            os.close(fd)


def spawn(program: Program, init: Init) -> tuple[int, Executed]:
    """The pid of the init, our child; and the program, which is executing.

    Our working directory may be another afterwards.  Raises StepFailed, and OSError when there can
    be no process; then nothing is left of it.
    """
    line = _Line()
    try:
        try:
            if program.user is None and program.cgroup < 0:
                pid = _spawn(program, init, line)
            else:
                pid = _fork(program, init, line)
        finally:
            line.started()
        try:
            return pid, _release(pid, line)
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    finally:
        line.close()


def _spawn(program: Program, to: Init, line: _Line) -> int:
    words = _words(program, init.KEEP)
    os.chdir(to.stand)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, program.limit)
    try:
        with _children_apart():
            return os.posix_spawn(
                to.path, words, program.environment, setsid=True, setsigdef=RESET,
                setsigmask=signal.valid_signals(), file_actions=[
                    (os.POSIX_SPAWN_DUP2, ours, number)
                    for number, ours in enumerate(_descriptors(program, line))
                ],
            )
    except OSError as err:
        raise StepFailed("its init", err.errno or errno.EIO) from err
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def _words(program: Program, rights: bytes) -> tuple[bytes, ...]:
    """The init's.  Raises StepFailed when there is no such folder, or program, for who we are.

    Our working directory is the program's afterwards.
    """
    try:
        step = "chdir"
        os.chdir(program.cwd)
        step = "exec"
        file = forked.choose(program.files)
    except OSError as err:
        raise StepFailed(step, err.errno or errno.EIO) from err
    return (init.NAME, rights, program.cwd, file, *program.words)


def _descriptors(program: Program, line: _Line) -> tuple[int, ...]:
    """By the numbers that they are to have: init.TELL and HEAR come last."""
    return program.stdin, program.output, program.output, line.tell, line.hear


@contextmanager
def _children_apart() -> Iterator[None]:
    """The first child that is started meanwhile is pid 1 of a new namespace.  Raises OSError."""
    libc = _libc()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(libc.unshare(CLONE_NEWPID))
        try:
            yield
        finally:
            _call(libc.setns(own, CLONE_NEWPID))
    finally:
        os.close(own)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _fork(program: Program, to: Init, line: _Line) -> int:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = forked.fork_into(program.cgroup, CLONE_NEWPID)
        if pid == 0:
            _child(program, to, line)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _child(program: Program, to: Init, line: _Line) -> None:
    """Becomes the init; never returns."""
    step, number = "setsid", errno.EIO
    try:
        os.setsid()
        forked.reset_handlers()
        step = "setrlimit"
        resource.setrlimit(resource.RLIMIT_NOFILE, program.limit)
        os.umask(0o022)
        step = "its init"
        stand = os.open(to.stand, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        step = "user"
        forked.become(program.user, RIGHTS)
        step = "exec"
        words = _words(program, init.LOWER if program.user else init.KEEP)
        step = "its init"
        os.fchdir(stand)
        for wanted, ours in enumerate(_descriptors(program, line)):
            os.dup2(ours, wanted)
        os.execve(to.path, words, program.environment)
    except StepFailed as failed:
        step, number = failed.step, failed.number
    except (OSError, ValueError) as err:
        number = getattr(err, "errno", None) or errno.EINVAL
    finally:
        with suppress(OSError):
            os.write(line.tell, f"{step}\0{number}".encode())
        os._exit(127)


def _release(pid: int, line: _Line) -> Executed:
    """The init's program, which goes on to execute.  Raises StepFailed."""
    first = os.read(line.told, 4096)
    if first != init.READY:
        raise _failed(first)
    executed = look(program_of(pid))
    with suppress(BrokenPipeError):
        os.write(line.say, init.GO)
    if last := os.read(line.told, 4096):
        if executed.pidfd >= 0:
            os.close(executed.pidfd)
        raise _failed(last)
    return executed


def _failed(told: bytes) -> StepFailed:
    """Of a child that ended without a word, it is only known that there is none."""
    if not told:
        return StepFailed("fork", errno.ECHILD)
    if len(told) == init.FAILURE.size and told[0] < len(init.FAILED):
        what, number = init.FAILURE.unpack(told)
        return StepFailed(init.FAILED[what], number)
    step, _, text = told.decode().partition("\0")
    return StepFailed(step, int(text))


def look(pid: int) -> Executed:
    """A program that its init has not waited for."""
    process = processes.look(pid)
    try:
        fd = os.pidfd_open(pid)
    except (OSError, ValueError):
        fd = -1
    return Executed(pid, process.start_ticks if process else 0, fd)


def program_of(pid: int) -> int:
    """The pid of an init's program, 0 when it has none.

    Its oldest child: whatever is orphaned there comes later.
    """
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
        return int(children[0]) if children else 0
    return 0
