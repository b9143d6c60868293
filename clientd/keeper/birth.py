"""What the keeper makes of the process it finds itself in, before anything else.

Whatever it keeps of what it was started with, its tasks inherit; so it keeps as little as it can.
"""

import ctypes
import gc
import os
import resource
import signal
from contextlib import suppress
from types import FrameType

from msgspec import Struct

from godwit.notify import Notify

PR_SET_CHILD_SUBREAPER = 36
#: More descriptors than this are not asked for, whatever the hard limit.
MOST_FILES = 1 << 20

#: Signals that come out of the wake-up descriptor.
WAKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
#: Ignored by Python.  Ignoring is inherited over execve(2), a handler is not; with either, a
#: write(2) that cannot be done fails with EPIPE or EFBIG instead of ending us.
HARMLESS = (signal.SIGPIPE, signal.SIGXFSZ)

#: All signals that have a handler here.  No other is anything but SIG_DFL.
CAUGHT = (*WAKING, *HARMLESS)


class Born(Struct, frozen=True):
    """What is left to know of how we were started."""

    #: Read end of a pipe: one byte, the number, for each signal in WAKING.
    wakeup: int
    #: RLIMIT_NOFILE as we found it, for tasks.
    files: tuple[int, int]
    #: RLIMIT_NOFILE as we have it now.
    own_files: tuple[int, int]
    #: SIGHUP was ignored, as nohup(1) does it.
    ignores_hangup: bool
    #: To the supervisor.
    notify: Notify


def start() -> Born:
    """Puts this process in order; once, first thing."""
    close_inherited()
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    wakeup = catch_signals()
    os.umask(0o022)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    become_subreaper()
    return Born(wakeup, files, raise_files(files), ignored, Notify())


def close_inherited() -> None:
    """Closes all descriptors above 2, and has 0, 1 and 2 open, on /dev/null if on nothing else."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):  # the one that listdir itself had open
                os.close(int(name))
    # open(2) takes the lowest free number; in Python it must be made inheritable.
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def catch_signals() -> int:
    """Resets every disposition and the mask; WAKING signals come out of the descriptor returned."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for number in CAUGHT:
        signal.signal(number, _nothing)
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return read


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler: the wake-up descriptor has it."""


def become_subreaper() -> None:
    """Whatever a task leaves behind when it ends becomes our child, not init's: prctl(2)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def settle_memory() -> None:
    """Gives back what starting took, and keeps the collector from touching the rest again: what
    is not written to is not copied at a fork.
    """
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)


def raise_files(found: tuple[int, int]) -> tuple[int, int]:
    """As many descriptors as may be had: each running task holds one."""
    soft, hard = found
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most, hard
    return found
