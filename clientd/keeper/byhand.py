"""Processes that were started by hand, and are brought under care while they run.

What can be had of one is what the kernel gives to a stranger: its end by a pidfd, its status where
the kernel tells it (Linux 6.15, else as long as it is a zombie that we may look at), signals, its
usage while it runs.  Its output only where that goes to a regular file on the file system of the
logs: then the log is a second name of that file, which stays the process's own.
"""

import os
import pwd
import stat
from contextlib import suppress

from msgspec import Struct

from clientd.keeper import kinship, processes
from clientd.keeper.gate import Gate
from clientd.keeper.processes import Process
from godwit.errors import TaskError
from godwit.task.record import Spec

#: The kind of such tasks; their one word is the pid.
KIND = "adopted"
#: Of kthreadd, whose children are threads of the kernel: they have no command line.
KTHREADD = 2


class Found(Struct, frozen=True):
    """A process that may be adopted."""

    process: Process
    #: Its command line, for people.
    command: str


def find(spec: Spec, gate: Gate) -> Found:
    """The process that is meant.  Raises TaskError for one that is not to be adopted."""
    word = spec.argv[0].decode("ascii", "replace") if len(spec.argv) == 1 else ""
    # Digits alone, as the kernel writes them: no sign, no zero in front.
    if not word.isdecimal() or word != str(int(word)):
        raise TaskError("bad-pid", f"{word!r} is no pid")
    pid = int(word)
    process = processes.look(pid)
    if process is None or process.is_dead:
        raise TaskError("ESRCH", f"there is no process {pid} here")
    if KTHREADD in (pid, process.parent):
        raise TaskError("kernel", f"{pid} is a thread of the kernel")
    if kinship.mark_of(pid) != kinship.UNMARKED:
        raise TaskError("task", f"{pid} belongs to a task already")
    if pid == 1 or pid in _above(os.getpid()) or process.parent == os.getpid():
        raise TaskError("own", f"{pid} is this node's own, or above it")
    _check_owner(pid, gate)
    words = b" ".join(processes.command_line(pid))
    return Found(process, words.decode("utf-8", "backslashreplace")[:200])


def _above(pid: int) -> set[int]:
    """The process and all its ancestors."""
    found: set[int] = set()
    while pid and pid not in found:
        found.add(pid)
        process = processes.look(pid)
        pid = process.parent if process else 0
    return found


def _check_owner(pid: int, gate: Gate) -> None:
    """We may act for its user, and this node lets tasks run as that user."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        raise TaskError("ESRCH", f"there is no process {pid} here") from None
    me = os.geteuid()
    if me not in (0, uid):
        raise TaskError("EPERM", f"{pid} is another user's, and clientd does not run as root here")
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    gate.check_adopted("" if uid == me else name)


def link_log(pid: int, path: str) -> str:
    """Makes ``path`` a second name of the file that the process writes to; why not, if not."""
    stdout = f"/proc/{pid}/fd/1"
    try:
        fd = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as err:
        return f"its output cannot be read: {err.strerror}"
    ours = os.open("/proc/self/fd", os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "its output goes to no file"
        # With a folder's descriptor Python calls linkat(2), which can follow a link; link(2) does
        # not.
        os.link(str(fd), path, src_dir_fd=ours, follow_symlinks=True)
    except OSError as err:
        return f"its output cannot be followed: {err.strerror}"
    finally:
        os.close(ours)
        os.close(fd)
    return ""


def unlink_log(path: str) -> None:
    """Our name of it."""
    with suppress(OSError):
        os.unlink(path)
