"""A thread that reaches files with the rights of another user: setfsuid(2), setfsgid(2).

Credentials are a thread's own in Linux; the C library keeps a process's threads in step for
setuid(2) and setgroups(2), so the latter is called past it.
"""

import contextlib
import ctypes
import os
import pwd
from collections.abc import Iterator

from godwit.errors import TransferError

#: setgroups(2), with 32-bit ids.
_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def acting_as(name: str) -> Iterator[None]:
    """What is done inside, by this thread, is allowed or not as it is to this user.

    Empty, or without root's rights: as we are.  Raises TransferError when that cannot be had.
    """
    if not name or os.geteuid() != 0:
        yield
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise TransferError("no-user", f"there is no user {name!r} on this node") from None
    groups, group = os.getgroups(), os.getegid()
    try:
        _become(user.pw_uid, user.pw_gid, os.getgrouplist(name, user.pw_gid))
        yield
    finally:
        _become(os.geteuid(), group, groups)


def _become(uid: int, gid: int, groups: list[int]) -> None:
    """In this order: only root may change groups."""
    _set_groups(groups)
    # Both give back what was, and fail in silence: ask again.
    for call, number in ((_libc.setfsgid, gid), (_libc.setfsuid, uid)):
        call(ctypes.c_uint(number))
        if call(ctypes.c_uint(2**32 - 1)) != number:
            raise TransferError("denied", f"this thread cannot act as user {uid}")


def _set_groups(groups: list[int]) -> None:
    number = _SETGROUPS.get(os.uname().machine)
    if number is None:
        raise TransferError("unsupported", "acting as another user, on this kind of machine")
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if _libc.syscall(ctypes.c_long(number), ctypes.c_size_t(len(groups)), array) != 0:
        raise TransferError("denied", f"setgroups: {os.strerror(ctypes.get_errno())}")
