"""A folder and all that is below it, by descriptors: no symbolic link is ever followed."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator

from godwit.bulk import names
from godwit.bulk.ends import FOLDER, special
from godwit.bulk.faults import naming, shown
from godwit.bulk.words import DEPTH, LISTED, LISTED_BYTES, Entry

Parts = tuple[bytes, ...]


class Descent:
    """Opens folders below ``top``, one at a time: a deep tree costs no more descriptors.

    Each step is O_NOFOLLOW, so whatever somebody puts into the tree meanwhile, no step leaves it.
    """

    def __init__(self, top: int):
        self._top = top
        self._parts: Parts = ()
        self._fd = -1

    def folder(self, parts: Parts) -> int:
        """A descriptor of the folder, good until the next call.  Raises OSError."""
        if parts == self._parts:
            return self._fd if parts else self._top
        if self._parts and parts[:-1] == self._parts:
            fd = _into(self._fd, parts[-1])
        else:
            fd = self._from_top(parts)
        self.close()
        self._parts, self._fd = parts, fd
        return fd if parts else self._top

    def _from_top(self, parts: Parts) -> int:
        fd = -1
        for name in parts:
            try:
                deeper = _into(self._top if fd < 0 else fd, name)
            finally:
                if fd >= 0:
                    os.close(fd)
            fd = deeper
        return fd

    def close(self) -> None:
        """Closes what is open; not ``top``."""
        if self._fd >= 0:
            os.close(self._fd)
        self._parts, self._fd = (), -1


def _into(folder: int, name: bytes) -> int:
    return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=folder)


def entries(top: int, about: bytes, warn: Callable[[str], None]) -> Iterator[Entry]:
    """Everything in a tree: a folder, the files in it, its folders, its ``end``.

    ``top`` is an open file or folder, ``about`` its path in errors.  Raises TransferError for a
    folder that cannot be read and one too deep; ``warn`` hears what is left out.
    """
    found = os.fstat(top)
    if stat.S_ISREG(found.st_mode):
        yield file_entry(b"", found)
        return
    descent = Descent(top)
    # What is still to come, last first: folders to enter (None) and folders to leave.
    todo: list[tuple[Parts, Entry | None]] = [((), None)]
    try:
        while todo:
            parts, end = todo.pop()
            if end:
                yield end
                continue
            path = b"/".join(parts)
            with naming(os.path.join(about, path)):
                folder = descent.folder(parts)
                found = os.fstat(folder)
                inside, folders = _list(folder, parts, about, warn)
            yield Entry(path, "folder")
            yield from inside
            mode = stat.S_IMODE(found.st_mode) & 0o777
            todo.append((parts, Entry(path, "end", mode, found.st_mtime_ns)))
            todo += (((*parts, name), None) for name in reversed(folders))
    finally:
        descent.close()


def _list(
    folder: int, parts: Parts, about: bytes, warn: Callable[[str], None]
) -> tuple[list[Entry], list[bytes]]:
    """The files and links in a folder, and the names of its folders, both in order."""
    inside: list[Entry] = []
    folders: list[bytes] = []
    with os.scandir(folder) as listing:
        found = sorted(os.fsencode(item.name) for item in listing)
    if found and len(parts) >= DEPTH:
        raise names.too_deep(os.path.join(about, *parts))
    for name in found:
        path = b"/".join((*parts, name))
        try:
            entry = _entry(folder, name, path)
        except FileNotFoundError:
            warn(f"{shown(os.path.join(about, path))}: vanished before it was copied")
            continue
        if isinstance(entry, int):
            warn(f"{shown(os.path.join(about, path))}: {special(entry)}, not copied")
        elif entry is None:
            folders.append(name)
        else:
            inside.append(entry)
    return inside, folders


def _entry(folder: int, name: bytes, path: bytes) -> Entry | int | None:
    """A file or link as an entry; the mode of what is neither; None for a folder."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(found.st_mode):
        return file_entry(path, found)
    if stat.S_ISLNK(found.st_mode):
        link = os.readlink(name, dir_fd=folder)
        return Entry(path, "link", mtime_ns=found.st_mtime_ns, link=link)
    return None if stat.S_ISDIR(found.st_mode) else found.st_mode


def file_entry(path: bytes, found: os.stat_result) -> Entry:
    """What stat(2) says of a regular file, as an entry."""
    return Entry(
        path,
        "file",
        stat.S_IMODE(found.st_mode) & 0o777,
        found.st_mtime_ns,
        found.st_size,
        min(found.st_size, found.st_blocks * 512),
        b"%x:%x" % (found.st_dev, found.st_ino),
    )


def listings(all_entries: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    """The entries in portions that keep within the bounds of a Listing."""
    portion: list[Entry] = []
    size = 0
    for entry in all_entries:
        portion.append(entry)
        size += len(entry.path) + len(entry.link)
        if len(portion) == LISTED or size >= LISTED_BYTES:
            yield tuple(portion)
            portion, size = [], 0
    if portion:
        yield tuple(portion)
