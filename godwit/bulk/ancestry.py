"""Which folder lies within which, asked of the kernel and not of path names."""

import contextlib
import os
from collections.abc import Iterator

#: One file, for as long as this machine runs: device and inode.
Identity = tuple[int, int]


def identity(fd: int) -> Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def ancestry(folder: int) -> Iterator[Identity]:
    """The open folder, its parent, and so on up to the root, or as far as we may look."""
    with contextlib.ExitStack() as opened:
        last = None
        while last != (now := identity(folder)):
            yield now
            last = now
            try:
                folder = os.open(b"..", os.O_PATH | os.O_DIRECTORY, dir_fd=folder)
            except PermissionError:
                return
            opened.callback(os.close, folder)


def place(fd: int) -> str:
    """Names an open file among those of all machines, for as long as they run."""
    return _named(identity(fd))


def lies_within(folder: int, outer: str) -> bool:
    """Whether an open folder is the one that ``place`` called ``outer``, or below it."""
    return any(_named(one) == outer for one in ancestry(folder))


def _named(one: Identity) -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()}:{one[0]:x}:{one[1]:x}"
