"""Follows an init by ptrace(2) until the program that it starts is executing.

So the program's pid is known before it can have ended, and whether it could be executed at all.
Afterwards nothing is traced any more.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from clientd.keeper import processes

PTRACE_TRACEME = 0
PTRACE_CONT = 7
PTRACE_DETACH = 17
PTRACE_SETOPTIONS = 0x4200
PTRACE_GETEVENTMSG = 0x4201
#: Stop at fork and at exec; a child is traced alike from its first moment.
PTRACE_O_TRACEFORK = 1 << 1
PTRACE_O_TRACEEXEC = 1 << 4
FORKED = signal.SIGTRAP | 1 << 8
EXECUTED = signal.SIGTRAP | 4 << 8
WALL = 0x40000000

#: Seconds in which both have to be executing: some milliseconds that the machine gives them.
WITHIN_S = 5.0
#: Seconds between two looks: a step takes about as long.
LOOK_S = 0.0001


class NotExecuted(Exception):
    """Init ran, its program did not."""


@dataclass(frozen=True, slots=True)
class Executed:
    """A program as it was when it began: afterwards it may be gone, for init waits for it."""

    pid: int
    start_ticks: int
    #: -1 when there was no descriptor left.
    pidfd: int


@cache
def _ptrace() -> Callable[..., int]:
    """ptrace(2), holding on to the interpreter's lock: a forked child has nobody to give it to."""
    call = ctypes.PyDLL(None, use_errno=True).ptrace
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    return call


def _do(request: int, pid: int = 0, data: "int | ctypes.c_ulong" = 0) -> None:
    where = ctypes.addressof(data) if isinstance(data, ctypes.c_ulong) else data
    if _ptrace()(request, pid, None, where) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def trace_me() -> None:
    """In the child, before it executes init: it stops there, till ``follow`` lets it go on."""
    _do(PTRACE_TRACEME)


def follow(init: int) -> Executed:
    """The program that ``init``, our child that is just executed, has executed.

    Raises NotExecuted when that came to nothing; init is then gone, and waited for.
    """
    until, program = time.monotonic() + WITHIN_S, 0
    try:
        _stop(init, signal.SIGTRAP, until)
        _do(PTRACE_SETOPTIONS, init, PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXEC)
        _do(PTRACE_CONT, init)
        _stop(init, FORKED, until)
        message = ctypes.c_ulong()
        _do(PTRACE_GETEVENTMSG, init, message)
        program = message.value
        _stop(program, signal.SIGSTOP, until)
        _do(PTRACE_CONT, program)
        _stop(program, EXECUTED, until)
        executed = _seen(program)
        _do(PTRACE_DETACH, program)
        _do(PTRACE_DETACH, init)
    except (OSError, NotExecuted, TimeoutError) as err:
        _end(program, init)
        raise NotExecuted(str(err)) from err
    return executed


def _seen(program: int) -> Executed:
    process = processes.look(program)
    try:
        fd = os.pidfd_open(program)
    except OSError:
        fd = -1
    return Executed(program, process.start_ticks if process else 0, fd)


def _end(*pids: int) -> None:
    """Kills and waits: the program first, for init does not end while it is a zombie of ours."""
    for pid in filter(None, pids):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, WALL)


def _stop(pid: int, wanted: int, until: float) -> None:
    """Waits until a tracee stops for that reason; other signals are passed on to it."""
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG | WALL)
        if not found:
            time.sleep(LOOK_S)
        elif not os.WIFSTOPPED(status):
            raise NotExecuted(f"it ended with status {status:#x}")
        elif status >> 8 == wanted:
            return
        else:
            _do(PTRACE_CONT, pid, status >> 8 & 0xFF)
    raise TimeoutError(f"not within {WITHIN_S:g} s")
