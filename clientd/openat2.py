"""openat2(2), which Python has no function for: open(2) that says how a path may be walked."""

import ctypes
import errno
import os

#: The same number on every architecture but alpha.
SYS_OPENAT2 = 437

#: RESOLVE_... of <linux/openat2.h>.
NO_MAGICLINKS = 0x02
NO_SYMLINKS = 0x04
BENEATH = 0x08
IN_ROOT = 0x10

#: openat2(2) says EAGAIN when a ``..`` raced with somebody's rename: try again, so often.
TRIES = 16

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    """struct open_how of <linux/openat2.h>."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """Opens ``path`` below the open ``folder``.  Raises OSError; ENOSYS before Linux 5.6."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path holds no NUL byte", path)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(TRIES):
        size = ctypes.c_size_t(ctypes.sizeof(how))
        fd = _libc.syscall(
            ctypes.c_long(SYS_OPENAT2), ctypes.c_int(folder), ctypes.c_char_p(path),
            ctypes.byref(how), size,
        )
        number = ctypes.get_errno()
        if fd >= 0:
            return int(fd)
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    if number == errno.ENOSYS:
        raise OSError(number, "copies on this node need openat2(2), that is Linux 5.6")
    raise OSError(number, os.strerror(number), path)
