"""What a pidfd can do beyond Python's own os and signal: include/uapi/linux/pidfd.h."""

import ctypes
import errno
import fcntl
import os
import signal
import struct

from clientd.keeper import processes

#: pidfd_send_signal(2), Linux 6.9: to the process group that the process leads.
PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
#: _IOWR(0xFF, 11, 64 bytes), Linux 6.13; PIDFD_INFO_EXIT since 6.15.
PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 1 << 3
_INFO = struct.Struct("Q52xi")  # mask; ids that are of no use here; exit_code
#: pidfd_getfd(2), Linux 5.6: the same number on all machines that have it.
_PIDFD_GETFD = 438

_libc = ctypes.CDLL(None, use_errno=True)


def copied(pid: int, number: int) -> int:
    """A descriptor of our own of what another process has open there.  Raises OSError."""
    process = os.pidfd_open(pid)
    try:
        fd = int(_libc.syscall(_PIDFD_GETFD, process, number, 0))
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), f"descriptor {number} of {pid}")
        return fd
    finally:
        os.close(process)


def exit_status(fd: int, pid: int, start_ticks: int) -> int | None:
    """How a process ended that is not our child, as wait(2) has it; None when nobody tells.

    The kernel tells it by the pidfd once its parent has waited for it (Linux 6.15), and in
    /proc/PID/stat until then.
    """
    info = bytearray(_INFO.pack(PIDFD_INFO_EXIT, 0))
    try:
        fcntl.ioctl(fd, PIDFD_GET_INFO, info, True)
    except OSError:
        return _zombie_status(pid, start_ticks)
    mask, status = _INFO.unpack(info)
    return status if mask & PIDFD_INFO_EXIT else _zombie_status(pid, start_ticks)


def _zombie_status(pid: int, start_ticks: int) -> int | None:
    process = processes.look(pid)
    if process is None or process.state != "Z" or process.start_ticks != start_ticks:
        return None
    # 0 also stands for "you may not see it" (ptrace(2), access mode checking).
    return process.status or (0 if os.geteuid() == 0 else None)


def signal_group(fd: int, pid: int, number: int) -> None:
    """To the process group that ``fd``'s process leads, and to no other that has its number now.

    ``pid`` must still be that process's own where the kernel is older than 6.9, or ``fd`` is -1
    for want of a descriptor.  Raises ProcessLookupError when nobody is left in the group.
    """
    if fd < 0:
        os.killpg(pid, number)
        return
    try:
        signal.pidfd_send_signal(fd, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
        signal.pidfd_send_signal(fd, 0)
        os.killpg(pid, number)
