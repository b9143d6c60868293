"""The zygote: a process that has the runner imported, and forks one for each python task.

A runner so born is the keeper's child, not ours, so that wait4(2) works there: by one fork that
gives it to our parent (clientd.keeper.siblings), or by two.  Of the two the first makes a middle
process that forks it and ends, and the keeper is the next subreaper above (prctl(2),
PR_SET_CHILD_SUBREAPER); it is told when the middle process has been waited for.  Either way it
begins in the task's cgroup, where the kernel can do that.

Nothing is executed, so what execve(2) would set is overwritten in place: the words that ps(1)
shows, and the mark in /proc/PID/environ that tells whose the process is (clientd.keeper.kinship).
"""

import ctypes
import errno
import fcntl
import gc
import os
import pwd
import signal
import socket
import sys
from typing import NoReturn

import msgspec
from msgspec import Struct

from clientd.keeper import forked, siblings
from clientd.keeper.kinship import MARK
from clientd.keeper.zygote_words import NO_TASK, Birth, Born
from godwit.task import packets, runner

#: Where a runner has its listening socket.
CONTROL_FD = 3
_MOST_FDS = 1 << 30
PR_SET_NAME = 15


_births = msgspec.msgpack.Decoder(Birth)
_environments = msgspec.msgpack.Decoder(dict[bytes, bytes])


def main() -> int:
    """Gives birth as asked on the socket that the first argument names, till that ends."""
    keeper = socket.socket(fileno=int(sys.argv[1]))
    keeper.set_inheritable(False)
    os.chdir("/")  # the keeper may be in a task's folder
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    runner.warm_up()
    block = Block()
    ways = Ways(siblings.way(), forked.has_clone3())
    gc.collect()
    gc.freeze()
    while got := packets.receive(keeper):
        payload, fds = got
        try:
            born = give_birth(_births.decode(payload), fds, block, ways)
        finally:
            packets.close(fds)
        packets.send(keeper, msgspec.msgpack.encode(born))
    return 0


class Ways(Struct, frozen=True):
    """What this kernel and this C library allow."""

    #: For siblings.fork, or 0.
    sibling: int
    #: A child can begin in another cgroup.
    begins: bool


def give_birth(birth: Birth, fds: list[int], block: "Block", ways: Ways) -> Born:
    """Forks; returns when the runner has made itself ready, or has failed to."""
    cgroup = fds[3] if len(fds) > 3 else -1
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = 0
    try:
        if ways.sibling:
            pid = siblings.fork(ways.sibling, cgroup)
            if pid == 0:
                _runner(birth, fds, block, write, joins=False)
        else:
            _fork_twice(birth, fds, block, write, ways)
    except OSError as err:
        os.close(read)
        return Born(birth.task, 0, "fork", err.errno or 0)
    finally:
        os.close(write)
    with open(read, "rb") as pipe:
        told = dict(line.rstrip(b"\n").split(b" ", 1) for line in pipe)
    pid = pid or int(told.get(b"pid", 0))
    if b"failed" in told or not pid:
        step, _, number = told.get(b"failed", b"fork 0").rpartition(b" ")
        return Born(birth.task, pid, step.decode(), int(number))
    return Born(birth.task, pid)


def _fork_twice(birth: Birth, fds: list[int], block: "Block", write: int, ways: Ways) -> None:
    """Returns when the middle process has been waited for; raises OSError."""
    begins = len(fds) > 3 and ways.begins
    middle = forked.fork_into(fds[3]) if begins else os.fork()
    if middle == 0:
        _middle(birth, fds, block, write, joins=len(fds) > 3 and not begins)
    os.waitpid(middle, 0)


def _middle(birth: Birth, fds: list[int], block: "Block", write: int, joins: bool) -> NoReturn:
    """Forks the runner and ends."""
    try:
        pid = os.fork()
        if pid == 0:
            _runner(birth, fds, block, write, joins)
        os.write(write, b"pid %d\n" % pid)
    except OSError as err:
        os.write(write, b"failed fork %d\n" % (err.errno or 0))
    finally:
        os._exit(0)


def _runner(birth: Birth, fds: list[int], block: "Block", write: int, joins: bool) -> NoReturn:
    """``joins``: it is not in its cgroup yet."""
    step, status = "", 1
    try:
        write = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, CONTROL_FD + 1)
        if joins:
            step = "cgroup"
            _join(fds[3])
        for step, act in forked.SETTLING:  # noqa: B007 (told when one fails)
            act(_program(birth, fds))
        step = "environment"
        _settle(birth, fds, block, write)
    except (OSError, ValueError) as err:
        number = getattr(err, "errno", None) or errno.EINVAL
        os.write(write, f"failed {step} {number}\n".encode())
        os._exit(status)
    try:
        os.close(write)
        status = runner.run(CONTROL_FD)
    finally:
        os._exit(status)


def _program(birth: Birth, fds: list[int]) -> forked.Program:
    user = None
    if birth.user:
        name, uid, gid = birth.user
        user = pwd.struct_passwd((name, "", uid, gid, "", "", ""))
    return forked.Program(
        user, -1, (), birth.words, {}, birth.cwd, 0, fds[1], birth.limit
    )


def _join(cgroup: int) -> None:
    procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup)
    os.write(procs, b"0")
    os.close(procs)


def _settle(birth: Birth, fds: list[int], block: "Block", write: int) -> None:
    """Descriptors, environment and name; no descriptor of ours stays open but ``write``."""
    environment = _environments.decode(packets.contents(fds[0], packets.LIMIT))
    os.dup2(fds[2], CONTROL_FD, inheritable=False)
    os.closerange(CONTROL_FD + 1, write)
    os.closerange(write + 1, _MOST_FDS)
    os.environb.clear()
    os.environb.update(environment)
    block.mark(birth.task.encode())
    block.name(birth.words)


class Block:
    """Our command line and environment as the kernel shows them: proc(5), arg_start and so on."""

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self._arguments, end, start, stop = (int(fields[at]) for at in range(45, 49))
        self._room = end - self._arguments
        mark = MARK + b"=" + NO_TASK
        at = ctypes.string_at(start, stop - start).index(mark)
        self._mark = start + at + len(MARK) + 1

    def mark(self, task: bytes) -> None:
        """Whose task this process is from now on."""
        ctypes.memmove(self._mark, task, len(NO_TASK))

    def name(self, words: tuple[bytes, ...]) -> None:
        """What ps(1) shows; of more than there is room for, the beginning."""
        # The last byte stays NUL: else the kernel would read on into the environment.
        line = b"\0".join(words)[: self._room - 1]
        ctypes.memmove(self._arguments, line.ljust(self._room, b"\0"), self._room)
        short = words[0].rpartition(b":")[2][:15]
        ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.c_char_p(short), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
