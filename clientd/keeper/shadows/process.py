"""The process of one shadow: made, named, read from, ended."""

import ctypes
import errno
import os
import pwd
import select
import signal
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from msgspec import Struct

from clientd.keeper import forked, processes
from clientd.keeper.shadows import program
from clientd.keeper.shadows.program import RECORD

#: In the environment of each, for a keeper that has no record of it: clientd and task.
MARK = b"GODWIT_SHADOW"
NAME = b"godwit-shadow"
#: Bytes of the command line, so that it can be written over: a title is no longer.
TITLE = 256
#: Records taken at once.
MOST = 64
#: Seconds that the kernel has to end what was killed.
KILLED_S = 1.0
SYS_PIDFD_SEND_SIGNAL = 424
SI_QUEUE = -1
SPLICE_F_NONBLOCK = 2
_INFO = struct.Struct("iiiiiIQ96x")  # siginfo_t


class Caught(Struct, frozen=True):
    """What the process wrote of one signal."""

    count: int
    number: int


def title(task: str, node: str) -> bytes:
    """What ps(1) is to show, as the kernel has it: words that end in NUL, filled up to TITLE."""
    words = b"\0".join((NAME, task.encode(), b"->", node.encode()))
    return words[:TITLE - 1].ljust(TITLE, b"\0")


def make(task: str, node: str, mark: str, user: pwd.struct_passwd | None, output: int) -> int:
    """The pid of a new one, whose records go to the pipe ``output``.

    Raises OSError, forked.StepFailed.
    """
    # An empty word is one NUL: the kernel keeps the room, and shows what stands in it.
    words = title(task, node)[:-1].split(b"\0")
    environment = {MARK: f"{mark} {task}".encode()}
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(KeyError, OSError, forked.StepFailed):
            image = program.open_image(os.uname().machine)
            try:
                return _spawn(image, words, environment, user, null, output)
            finally:
                os.close(image)
        plain = program.plain()
        fill = [b""] * max(0, TITLE - sum(len(word) + 1 for word in plain))
        return _spawn(plain[0], plain + fill, environment, user, null, output)
    finally:
        os.close(null)


def _spawn(
    file: int | bytes, words: list[bytes], environment: dict[bytes, bytes],
    user: pwd.struct_passwd | None, null: int, output: int,
) -> int:
    return forked.spawn(forked.Program(
        user, -1, (file,), tuple(words), environment, b"/", null, output, (64, 64),
    ))


def entitle(pid: int, task: str, node: str) -> None:
    """Writes the command line over; raises OSError where the kernel does not let us.

    proc(5): the words lie from the address in field 48 of /proc/PID/stat to that in field 49.
    """
    with open(f"/proc/{pid}/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    if end - begin < TITLE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fd = os.open(f"/proc/{pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, title(task, node).ljust(end - begin, b"\0"), begin)
    finally:
        os.close(fd)


def end(pidfd: int, status: int) -> None:
    """Orders it to end with this status; one that is stopped goes on, to hear it.

    Raises OSError.
    """
    info = _INFO.pack(
        program.ORDER, 0, SI_QUEUE, 0, os.getpid(), os.getuid(), program.order(status)
    )
    libc = _libc()
    done = libc.syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, program.ORDER, info, 0)
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def kill(pidfd: int) -> bool:
    """SIGKILL; whether it is dead now, which takes the kernel well under a millisecond."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(KILLED_S * 1000))


def peek(fd: int) -> list[Caught]:
    """What is in the pipe, and stays there: tee(2)."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = _libc().tee(fd, write, MOST * RECORD.size, SPLICE_F_NONBLOCK)
        data = os.read(read, MOST * RECORD.size) if size > 0 else b""
    finally:
        os.close(read)
        os.close(write)
    whole = data[:len(data) - len(data) % RECORD.size]
    return [Caught(count, number) for count, number, _, _ in RECORD.iter_unpack(whole)]


def drop(fd: int, count: int) -> None:
    """The first so many have been put on record."""
    with suppress(BlockingIOError):
        os.read(fd, count * RECORD.size)


def is_stopped(pid: int) -> bool:
    process = processes.look(pid)
    return process is not None and process.state in "Tt"


def strays(mark: str) -> Iterator[tuple[str, processes.Process]]:
    """All shadows of this clientd that run, on record or not, with their tasks."""
    front = f"{mark} ".encode()
    for process in processes.everyone():
        carried = processes.environment(process.pid).get(MARK, b"")
        if carried.startswith(front) and not process.is_dead:
            yield carried[len(front):].decode("ascii", "replace"), process


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
