"""Starts a program by fork, one step after the other, then exec: as another user, or in a cgroup.

What fails in the child is told to the parent through a pipe that exec closes: the step's name
and the errno, so that a failure is an error in the parent and never a task that "exits 127".
"""

import ctypes
import errno
import os
import pwd
import resource
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from msgspec import Struct

from clientd.keeper.birth import CAUGHT
from godwit.errors import TaskError

#: prctl(2).
PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
#: <linux/capability.h>; its data are six 32-bit words.
LINUX_CAPABILITY_VERSION_3 = 0x20080522
#: The same on all of Linux's architectures but one (alpha).
SYS_CLONE3 = 435
CLONE_INTO_CGROUP = 1 << 33
#: What a child has its default disposition of.
RESET = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Program(Struct, frozen=True):
    """What is executed, by whom and where."""

    #: Nobody: whoever we are.
    user: pwd.struct_passwd | None
    #: A cgroup's folder to begin in, or -1 for the one that we are in.
    cgroup: int

    #: Tried in turn, as execvp(3) does; an open file as fexecve(3) does.
    files: Sequence[bytes | int]
    words: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    cwd: bytes
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
    """The pid of the new session's leader, executing the program.

    Raises StepFailed; OSError when there can be no process.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork() if program.cgroup < 0 else fork_into(program.cgroup)
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


@cache
def _syscall() -> Callable[..., int]:
    """syscall(2), holding on to the interpreter's lock: a child has nobody to give it back."""
    return ctypes.PyDLL(None, use_errno=True).syscall


def has_clone3() -> bool:
    """Without arguments it fails in any case: with EINVAL where there is one."""
    return _syscall()(SYS_CLONE3, None, 0) < 0 and ctypes.get_errno() == errno.EINVAL


def fork_into(cgroup: int, flags: int = 0) -> int:
    """fork(2), but the child begins in that cgroup (Linux 5.7), if it is none of -1.

    ``flags``: more of clone3(2)'s.  The C library does not know of the child: it must do little
    and execute something.  Raises OSError.
    """
    if cgroup >= 0:
        flags |= CLONE_INTO_CGROUP
    arguments = struct.pack("11Q", flags, 0, 0, 0, signal.SIGCHLD, *[0] * 5, max(cgroup, 0))
    pid, number = clone3(arguments)
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid


def clone3(arguments: bytes) -> tuple[int, int]:
    """What it returns, in parent and child, and the errno."""
    pid = _syscall()(SYS_CLONE3, arguments, len(arguments))
    return pid, ctypes.get_errno() if pid < 0 else 0


def _child(program: Program, write: int) -> None:
    """Never returns."""
    step = ""
    try:
        for step, act in _STEPS:  # noqa: B007 (told when one fails)
            act(program)
    except (OSError, ValueError) as err:
        number = getattr(err, "errno", None) or errno.EINVAL
        os.write(write, f"{step}\0{number}".encode())
    finally:
        os._exit(127)


def reset_handlers() -> None:
    """None is ignored in the keeper; those it catches are reset."""
    signal.set_wakeup_fd(-1)
    for number in CAUGHT:
        signal.signal(number, signal.SIG_DFL)


def _reset_signals(_program: Program) -> None:
    """Before any may come again."""
    reset_handlers()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def become(user: pwd.struct_passwd | None, kept: int = 0) -> None:
    """All of our rights are given up, verified, and cannot be had back by a set-user-id program.

    ``kept``: capabilities, a bit each, for what is executed next; until then they do nothing.
    """
    if user is None:
        return
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(*(user.pw_gid,) * 3)
    if kept:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(*(user.pw_uid,) * 3)
    _keep_capabilities(kept)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _verify(user)


def _keep_capabilities(kept: int) -> None:
    """These are permitted and inherited, and none is effective.

    The kernel drops all at the change from user 0, unless securebits say otherwise; and it leaves
    what is inheritable: capabilities(7).
    """
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = struct.pack("6I", 0, low, low, 0, high, high)
    if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    for number in range(kept.bit_length()):
        if kept >> number & 1:
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def _prctl(*words: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*words, *[0] * (5 - len(words))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _verify(user: pwd.struct_passwd) -> None:
    """Raises OSError unless this process is that user in all respects, and root no more."""
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    if (
        os.getresuid() != (user.pw_uid,) * 3
        or os.getresgid() != (user.pw_gid,) * 3
        or set(os.getgroups()) - {user.pw_gid} != groups - {user.pw_gid}
    ):
        raise PermissionError(errno.EPERM, "user and groups did not change")
    if user.pw_uid == 0:
        return
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise PermissionError(errno.EPERM, "the way back to root is open")


def _descriptors(program: Program) -> None:
    os.dup2(program.stdin, 0)
    os.dup2(program.output, 1)
    os.dup2(program.output, 2)


def choose(files: Sequence[bytes | int]) -> bytes:
    """The first that we may execute, as execvp(3) goes on; raises OSError as it does."""
    refused = errno.ENOENT
    for file in files:
        assert isinstance(file, bytes)
        number = probe(file)
        if not number:
            return file
        if number not in (errno.ENOENT, errno.ENOTDIR):
            refused = number
    raise OSError(refused, os.strerror(refused))


def probe(file: bytes) -> int:
    """0 when execve(2) would take this file for a program, else the errno it would give."""
    try:
        mode = os.stat(file).st_mode
    except OSError as err:
        return err.errno or errno.EIO
    except ValueError:
        return errno.EINVAL
    if mode & 0o170000 == 0o040000:
        return errno.EISDIR  # execve says EACCES, which says less
    return 0 if os.access(file, os.X_OK) else errno.EACCES


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


#: Each step by name, in this order, up to exec; the cgroup came before.
SETTLING: tuple[tuple[str, Callable[[Program], object]], ...] = (
    ("setsid", lambda _: os.setsid()),
    ("signals", _reset_signals),
    ("setrlimit", lambda p: resource.setrlimit(resource.RLIMIT_NOFILE, p.limit)),
    ("user", lambda p: become(p.user)),
    ("umask", lambda _: os.umask(0o022)),
    ("descriptors", _descriptors),
    ("chdir", lambda p: os.chdir(p.cwd)),
)
_STEPS = (*SETTLING, ("exec", _execute))
