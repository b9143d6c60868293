"""Keeps what a task waits for in a page fault: userfaultfd(2).

Fact: once the last descriptor of a userfaultfd is closed, whoever waits for a page of it goes on,
and finds zeros.  So another one is held beside those of the process that brings the pages: when
that one dies the task stands still at its next missing page, and can be ended before it reads
what never was there.
"""

import os
from contextlib import suppress

from clientd.keeper import pidfd, processes

_NAME = "anon_inode:[userfaultfd]"


def hold(top: int) -> list[int]:
    """Descriptors of our own of all that the process and its descendants have.  Raises OSError."""
    return [pidfd.copied(pid, fd) for pid in processes.tree(top) for fd in _of(pid)]


def _of(pid: int) -> list[int]:
    found = []
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{name}") == _NAME:
                    found.append(int(name))
    return found
