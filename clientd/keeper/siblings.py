"""A fork whose child is a child of our parent: clone3(2) with CLONE_PARENT.

What fork(3) of the C library does besides, for a process with one thread: it has the kernel write
the child's thread id to where the library keeps it, and Python its own house in order.  Both are
done here.  Where it cannot be known where that id is kept, ``way`` is 0: such a child could not go
on, and two forks have to do what one does here.
"""

import ctypes
import os
import struct

from clientd.keeper import forked

CLONE_PARENT = 0x8000
CLONE_CHILD_CLEARTID = 0x200000
CLONE_CHILD_SETTID = 0x1000000
#: prctl(2), Linux with CONFIG_CHECKPOINT_RESTORE: where CLONE_CHILD_CLEARTID points.
PR_GET_TID_ADDRESS = 40


def way() -> int:
    """Where this process's one thread keeps its id; 0: nobody says."""
    if not forked.has_clone3():
        return 0
    found = ctypes.c_void_p()
    if ctypes.CDLL(None).prctl(PR_GET_TID_ADDRESS, ctypes.byref(found), 0, 0, 0) or not found.value:
        return 0
    # Elsewhere than in glibc it may be something else.
    return found.value if ctypes.c_int.from_address(found.value).value == os.getpid() else 0


def fork(way: int, cgroup: int) -> int:
    """As os.fork, but the child is our sibling, and begins in the cgroup whose folder is open, if
    that is none of -1.  Raises OSError."""
    flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    if cgroup >= 0:
        flags |= forked.CLONE_INTO_CGROUP
    # Its end is told to its parent by the same signal as ours.
    arguments = struct.pack("11Q", flags, 0, way, 0, 0, *[0] * 5, max(cgroup, 0))
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid, number = forked.clone3(arguments)
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid
