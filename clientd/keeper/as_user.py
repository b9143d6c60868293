"""Starts a program as another user: fork, then one step after the other, then exec.

What fails in the child is told to the parent through a pipe that exec closes: the step's name
and the errno, so that a failure is an error in the parent and never a task that "exits 127".
"""

import ctypes
import errno
import os
import pwd
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from godwit.errors import TaskError

PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Program:
    """What is executed, by whom and where."""

    #: Tried in turn, as execvp(3) does.
    files: Sequence[bytes]
    words: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    cwd: bytes
    user: pwd.struct_passwd
    stdin: int
    output: int
    #: RLIMIT_NOFILE.
    limit: tuple[int, int]


class StepFailed(Exception):
    """A step of the child's failed; ``number`` is the errno."""

    def __init__(self, step: str, number: int):
        super().__init__(f"{step}: {os.strerror(number)}")
        self.step = step
        self.number = number


def find_user(name: str) -> pwd.struct_passwd:
    """Raises TaskError when there is no such user, or when we may not act for them."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise TaskError("no-user", f"there is no user {name!r} on this node") from None
    except ValueError as err:
        raise TaskError("no-user", f"{name!r} cannot be the name of a user: {err}") from err
    if os.geteuid() != 0 and user.pw_uid != os.geteuid():
        raise TaskError(
            "EPERM", f"clientd does not run as root here: it cannot start a task as {name!r}"
        )
    return user


def spawn(program: Program) -> int:
    """The pid of the new session's leader, executing the program.  Raises StepFailed."""
    read, write = os.pipe2(os.O_CLOEXEC)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child(program, write)
    finally:
        os.close(write)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        told = os.read(read, 4096)
    finally:
        os.close(read)
    if told:
        os.waitpid(pid, 0)
        step, _, number = told.decode().partition("\0")
        raise StepFailed(step, int(number))
    return pid


def _child(program: Program, write: int) -> None:
    """Never returns."""
    step = ""
    try:
        for name, act in _STEPS:
            step = name
            act(program)
    except (OSError, ValueError) as err:
        number = getattr(err, "errno", None) or errno.EINVAL
        os.write(write, f"{step}\0{number}".encode())
    finally:
        os._exit(127)


def _reset_signals(_program: Program) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _verify(program: Program) -> None:
    user = program.user
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise PermissionError(1, "user and group did not change")


def _no_new_privileges(_program: Program) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _descriptors(program: Program) -> None:
    os.dup2(program.stdin, 0)
    os.dup2(program.output, 1)
    os.dup2(program.output, 2)


def _execute(program: Program) -> None:
    """As execvp(3): raises the error of the last file, or EACCES if any had that."""
    denied: OSError | None = None
    missing: OSError = FileNotFoundError(2, "no such program")
    for file in program.files:
        try:
            os.execve(file, program.words, program.environment)
        except PermissionError as err:
            denied = err
        except (FileNotFoundError, NotADirectoryError) as err:
            missing = err
    raise denied or missing


#: In this order; the cgroup has been entered before the fork.
_STEPS: tuple[tuple[str, Callable[[Program], object]], ...] = (
    ("setsid", lambda _: os.setsid()),
    ("signals", _reset_signals),
    ("setrlimit", lambda p: resource.setrlimit(resource.RLIMIT_NOFILE, p.limit)),
    ("initgroups", lambda p: os.initgroups(p.user.pw_name, p.user.pw_gid)),
    ("setresgid", lambda p: os.setresgid(*(p.user.pw_gid,) * 3)),
    ("setresuid", lambda p: os.setresuid(*(p.user.pw_uid,) * 3)),
    ("user", _verify),
    ("no_new_privs", _no_new_privileges),
    ("umask", lambda _: os.umask(0o022)),
    ("descriptors", _descriptors),
    ("chdir", lambda p: os.chdir(p.cwd)),
    ("exec", _execute),
)
