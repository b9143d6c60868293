"""The files that a task has open below its working directory, by descriptors of ours.

They are opened through the task's own descriptors, which proc(5) shows: whatever names the task
gives to its files, nothing else is opened.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from msgspec.structs import replace

from clientd import openat2 as resolve
from clientd.keeper import criu, traits
from clientd.keeper.moves.parcel import Held
from clientd.openat2 import openat2
from godwit.errors import TaskError
from godwit.ship.words import CARRIED


@dataclass(slots=True)
class Source:
    """One of them; the descriptor is the taker's to close."""

    held: Held
    fd: int


def look(top: bytes, init: int) -> list[Source]:
    """All that the processes below ``init`` have open in ``top``, a real path.

    Raises OSError; TaskError when there are too many.
    """
    found: dict[bytes, Source] = {}
    try:
        for name, fd, writes in _opened(top.rstrip(b"/") + b"/", init):
            known = found.get(name)
            if known is None:
                found[name] = Source(_held(name, len(found), os.fstat(fd), writes), fd)
            else:
                os.close(fd)
                known.held = replace(known.held, written=known.held.written or writes)
            if len(found) > CARRIED:
                raise TaskError("too-many", f"it has over {CARRIED} files open")
    except BaseException:
        close(found.values())
        raise
    return list(found.values())


def close(sources: Iterable[Source]) -> None:
    for one in sources:
        os.close(one.fd)


def _held(name: bytes, number: int, found: os.stat_result, writes: bool) -> Held:
    return Held(
        name, f"file-{number}", found.st_size, stat.S_IMODE(found.st_mode), found.st_uid,
        found.st_gid, found.st_mtime_ns, writes,
    )


def _opened(top: bytes, init: int) -> Iterator[tuple[bytes, int, bool]]:
    """Name, descriptor, and whether it may be written, of each descriptor of each process; then of
    each file that is only mapped still."""
    for pid in criu.tree(init):
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                path = os.fsencode(f"/proc/{pid}/fd/{number}")
                link = os.readlink(path)
                if link.startswith(top) and _is_named(path, link):
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    yield link.removeprefix(top), fd, traits.may_write(pid, number)
        for link in traits.written_by_mapping(pid):
            if link.startswith(top) and not link.endswith(b" (deleted)"):
                yield link.removeprefix(top), _beneath(top, link.removeprefix(top)), True


def _is_named(path: bytes, link: bytes) -> bool:
    """A regular file that still has its name; CRIU saves one that has none by itself."""
    there = os.stat(path)
    if not stat.S_ISREG(there.st_mode):
        return False
    with suppress(OSError):
        named = os.lstat(link)
        return (named.st_dev, named.st_ino) == (there.st_dev, there.st_ino)
    return False


def _beneath(top: bytes, name: bytes) -> int:
    folder = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(
            folder, name, os.O_RDONLY | os.O_NONBLOCK, resolve.BENEATH | resolve.NO_SYMLINKS
        )
    finally:
        os.close(folder)
