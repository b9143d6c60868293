"""Logs that grow too long: their oldest part becomes a hole; the file keeps name and offsets.

A task writes its log by a descriptor of its own that nobody can exchange, so the file can be
neither renamed nor rewritten.  fallocate(2) gives the blocks of its beginning back and moves
nothing: every byte that is left stays where it was, and its offset still names it.

A hole reads as NUL bytes, which a task may write as well.  So the order is: first an extended
attribute of the file says where the log now begins; then a line for people is written just before
that place; then the hole is made.  A reader looks at the attribute *after* it has read: what lies
before the beginning is not to be believed.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from clientd.keeper.byhand import KIND
from clientd.keeper.loop import Loop
from clientd.keeper.register import Register
from godwit.errors import TaskError

#: Decimal digits: the offset at which what is left of the log begins.
BEGIN = "user.godwit.begin"
#: <linux/falloc.h>
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02
#: Holes end at a multiple of this, bytes.
BLOCK = 4096
#: Bytes dropped at once, so that the keeper's other work never waits for long.
SLICE = 64 * 1024 * 1024
#: Bytes in which the end of a line is looked for, so that what is left begins with a whole one.
LINE = 16 * 1024
#: Seconds between two looks; and while some log is being trimmed.
LOOK_S, LOOK_AGAIN_S = 0.5, 0.05
#: The smallest bound, bytes, that means anything.
LEAST = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", _libc.fallocate)
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def begin_of(fd: int) -> int:
    """The offset at which what is left of this log begins; 0: nothing of it was dropped."""
    try:
        digits = os.getxattr(fd, BEGIN)
    except OSError:  # as a rule ENODATA
        return 0
    begin = int(digits) if digits.isdigit() and len(digits) < 19 else 0
    # A task may cut off its own log: what came before means nothing then.
    return begin if begin <= os.fstat(fd).st_size else 0


def marker(dropped: int) -> bytes:
    """What a person who reads the file itself sees before the first line that is left."""
    return b"\n[godwit: %d bytes dropped here]\n" % dropped


def trim(fd: int, most: int, at_once: int = SLICE) -> bool:
    """Drops the oldest part of a log that has more than ``most`` bytes, down to 3/4 of that.

    At most about ``at_once`` bytes go; true: it did, and more may be to be dropped very soon.
    Raises OSError.
    """
    size, begin = os.fstat(fd).st_size, begin_of(fd)
    if begin == 0:
        with suppress(OSError):  # it means nothing, or there is none
            os.removexattr(fd, BEGIN)
    if size - begin <= most:
        return False
    wanted = min(size - most * 3 // 4, begin + at_once)
    kept = _line_after(fd, wanted)
    line = marker(kept)
    hole = max(0, kept - len(line)) // BLOCK * BLOCK
    os.setxattr(fd, BEGIN, b"%d" % kept)
    with suppress(OSError):  # a full disk of a kind that copies on write
        os.pwrite(fd, line.rjust(kept - hole, b"\0"), hole)
    _punch(fd, hole)
    return True


def _line_after(fd: int, offset: int) -> int:
    found = os.pread(fd, LINE, offset).find(b"\n")
    return offset + found + 1


def _punch(fd: int, end: int) -> None:
    """From the start: what was punched before costs nothing, and what failed is made up for."""
    if end and _fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, end) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def objection(folder: str) -> str:
    """Why logs in this folder cannot be trimmed; empty when they can."""
    path = os.path.join(folder, ".trim")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as err:
        return f"{folder}: {err.strerror}"
    try:
        os.ftruncate(fd, 2 * BLOCK)
        os.setxattr(fd, BEGIN, b"0")
        _punch(fd, BLOCK)
    except OSError as err:
        if err.errno == errno.ENOSPC:
            return ""  # full, for now
        return f"the file system of {folder} cannot: {err.strerror}"
    finally:
        os.close(fd)
        with suppress(OSError):
            os.unlink(path)
    return ""


class Trimmer:
    """Looks at the logs of tasks that run, and trims those over ``most`` bytes."""

    def __init__(
        self, loop: Loop, register: Register, most: int, writing: Callable[[], Iterable[str]]
    ):
        self._loop = loop
        self._register = register
        self._most = most
        #: Tasks with a process, now.
        self._writing = writing
        #: Others to be looked at: that had one at the last look, or still have too long a log.  At
        #: first all, for a bound may be new, or an earlier keeper may have been killed.
        self._others = set(register.tasks)
        #: Of those, tasks whose log may have the attribute.
        self._trimmed = set(register.tasks)
        #: Tasks of which a failure was told.
        self._said: set[str] = set()

    def look(self) -> None:
        """Once, and from then on by alarms."""
        writing = set(self._writing())
        more = {task for task in writing | self._others if self._trim(task)}
        self._others = writing | more
        self._trimmed &= self._others
        self._said &= self._others
        self._loop.alarm("logs", LOOK_AGAIN_S if more else LOOK_S, self.look)

    def _trim(self, task: str) -> bool:
        """It is to be looked at again soon."""
        try:
            known = self._register.known(task)
            log = known.log if known.spec.kind != KIND else ""  # the file is somebody else's
            if not log or (os.stat(log).st_size <= self._most and task not in self._trimmed):
                return False
            fd = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (OSError, TaskError):  # it was removed
            return False
        try:
            more = stat.S_ISREG(os.fstat(fd).st_mode) and trim(fd, self._most)
            if begin_of(fd):
                self._trimmed.add(task)
            return more
        except OSError as err:
            if task not in self._said:
                self._said.add(task)
                self._register.log(
                    "warning", f"the log of {task} cannot be trimmed: {err.strerror}", task=task
                )
            return False
        finally:
            os.close(fd)
