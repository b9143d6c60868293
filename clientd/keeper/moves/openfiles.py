"""The files that a task has open: those below its working directory by descriptors of ours.

They are opened through the task's own descriptors, which proc(5) shows: whatever names the task
gives to its files, nothing else is opened.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct, field
from msgspec.structs import replace

from clientd import openat2 as resolve
from clientd.keeper import processes, traits
from clientd.keeper.moves.parcel import Held
from clientd.openat2 import openat2
from godwit.errors import TaskError
from godwit.ship.words import CARRIED


class Source(Struct):
    """A file below the working directory; the descriptor is the taker's to close."""

    held: Held
    fd: int


class Opened(Struct):
    """What a task has open of its own."""

    #: By their names relative to the working directory.
    sources: dict[bytes, Source] = field(default_factory=dict)
    #: All that it may write to; those that are elsewhere by their paths.
    writes: dict[bytes, None] = field(default_factory=dict)

    def close(self) -> None:
        for one in self.sources.values():
            os.close(one.fd)
        self.sources.clear()


def look(top: bytes, root: int, *ours: str) -> Opened:
    """Of ``root`` and all processes below it, which stand still.

    ``top``: the working directory, a real path; or nothing, when what is below it stays where it
    is.  ``ours``: its log, and what else is none of its own.  Raises OSError; TaskError when
    there is too much.
    """
    found, above = Opened(), top.rstrip(b"/") + b"/" if top else b""
    try:
        known = [(each.st_dev, each.st_ino) for each in map(os.stat, ours)]
        for path, shown, writes in _regular(root):
            there = os.stat(shown or path)
            if (there.st_dev, there.st_ino) in known:
                continue
            is_below = bool(above) and path.startswith(above)
            name = path.removeprefix(above) if is_below else path
            if writes:
                found.writes[name] = None
            if is_below:
                _take(found, top, name, shown, writes)
    except BaseException:
        found.close()
        raise
    return found


def _take(found: Opened, top: bytes, name: bytes, shown: bytes, writes: bool) -> None:
    known = found.sources.get(name)
    if known is not None:
        known.held = replace(known.held, written=known.held.written or writes)
        return
    number = len(found.sources)
    if number == CARRIED:
        raise TaskError("too-many", f"it has over {CARRIED} files open")
    fd = os.open(shown, os.O_RDONLY | os.O_CLOEXEC) if shown else _beneath(top, name)
    there = os.fstat(fd)
    found.sources[name] = Source(Held(
        name, f"file-{number}", there.st_size, stat.S_IMODE(there.st_mode), there.st_uid,
        there.st_gid, there.st_mtime_ns, writes,
    ), fd)


def _regular(root: int) -> Iterator[tuple[bytes, bytes, bool]]:
    """Path, descriptor as proc(5) shows it, and whether it may be written, of each regular file
    that still has its name; CRIU saves those that have none.  Of one that is only mapped there is
    no descriptor."""
    for pid in processes.tree(root):
        with suppress(FileNotFoundError, ProcessLookupError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                shown = os.fsencode(f"/proc/{pid}/fd/{number}")
                path = os.readlink(shown)
                if path.startswith(b"/") and _is_named(shown, path):
                    yield path, shown, traits.may_write(pid, number)
        for path in traits.written_by_mapping(pid):
            with suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path, b"", True


def _is_named(shown: bytes, path: bytes) -> bool:
    there = os.stat(shown)
    if not stat.S_ISREG(there.st_mode):
        return False
    with suppress(FileNotFoundError, NotADirectoryError):
        named = os.lstat(path)
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
