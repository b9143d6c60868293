"""Folders on this machine's tmpfs, for the images that come here: they need not last.

A destination that loses the image which it voted for renounces, durably, and the source, which
has its own on the disk, goes on.  So nothing is waited for that only a disk needs.

There is room for any task that the verdict lets come (godwit.task.verdict): it may need half of
what is free here for itself, and the other half for its image.  Where the tmpfs has less than
that, as some containers' has, images go to the disk.
"""

import os
import stat
from contextlib import suppress

from clientd.keeper.traits import free_bytes
from godwit.task.verdict import MOST_OF_FREE

#: tmpfs on every Linux: shm_overview(7).
TOP = "/dev/shm"


def folder(name: str, uid: int, gid: int) -> str:
    """Makes one for this owner alone; or finds it.  Empty where there is none to be had.

    Anybody may make folders there: another's of this name is none.
    """
    path = os.path.join(TOP, name)
    if not is_tmpfs(TOP):
        return ""
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
            os.chown(path, uid, gid, follow_symlinks=False)
        found = os.lstat(path)
    except OSError:
        return ""
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == uid
    return path if is_ours and not found.st_mode & 0o077 else ""


def has_room() -> bool:
    """For the image of any task that may come."""
    try:
        found = os.statvfs(TOP)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= MOST_OF_FREE / 2 * free_bytes()


def is_tmpfs(path: str) -> bool:
    """Something of that kind is mounted right there."""
    with suppress(OSError), open("/proc/self/mounts") as file:
        kinds = [fields[2] for line in file if (fields := line.split())[1] == path]
        return kinds[-1:] == ["tmpfs"]
    return False
