"""A file on its way in: complete and on disk under another name before it has its own.

Its partial lies beside it, as ``.NAME.godwit-`` and 16 hex digits made from the source's name,
size, mtime, device and inode: a repeated copy finds it and goes on.  The partial is locked
(flock(2)) while it is written.  One that is locked, or is not plainly ours (another owner, a
second link to it: somebody may have put it there), is left alone; then a random name serves, and
that partial is not found again.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time

from godwit.bulk import names
from godwit.bulk.reading import Digest
from godwit.bulk.words import Entry

#: Seconds since its last change after which a partial of the same file's name is removed.
STALE_S = 7 * 24 * 3600.0

#: What open(2) says of a link, a socket, a device, a folder, another's file in a partial's place;
#: EACCES may also mean the folder: then the random name fails as well.
_PLANTED = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EACCES)

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Staged:
    """An open, locked partial of the file ``name``; ``offset`` bytes of it are good."""

    def __init__(self, fd: int, temporary: bytes, name: bytes, entry: Entry):
        self._fd = fd
        self._temporary = temporary
        self.name = name
        self.entry = entry
        self.offset = 0
        self.digest = Digest()

    def take_prefix(self, buffer: memoryview) -> None:
        """Reads what is there already.  Raises OSError."""
        size = os.fstat(self._fd).st_size
        self.offset = self.digest.add_file(self._fd, size, buffer)

    def restart(self) -> None:
        """From byte 0 again.  Raises OSError."""
        os.ftruncate(self._fd, 0)
        self.offset, self.digest = 0, Digest()

    def write(self, data: memoryview) -> None:
        """Appends bytes.  Raises OSError; then ``offset`` counts what was written."""
        while data:
            count = os.pwrite(self._fd, data, self.offset)
            self.digest.add(data[:count])
            self.offset += count
            data = data[count:]

    def skip(self, count: int) -> None:
        """Appends a hole."""
        self.digest.add_zeros(count)
        self.offset += count

    def complete(self) -> None:
        """The size as at the source, also when it ends with a hole.  Raises OSError."""
        os.ftruncate(self._fd, self.offset)

    def take_after(self) -> None:
        """Mode and time as at the source.  Raises OSError."""
        os.fchmod(self._fd, self.entry.mode)
        os.utime(self._fd, ns=(self.entry.mtime_ns, self.entry.mtime_ns))

    def write_back(self) -> None:
        """Lets the kernel begin to write to disk (posix_fadvise(2), as dpkg does before fsync):
        many files then reach the disk in one go instead of one after the other."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def land(self, folder: int) -> None:
        """Gives the file its name, in place of what has it now.  Raises OSError."""
        os.fsync(self._fd)
        os.rename(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        self.close()

    def drop(self, folder: int) -> None:
        """Removes it."""
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=folder)
        self.close()

    def close(self) -> None:
        """Leaves it for a repeated copy."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def stage(folder: int, name: bytes, entry: Entry) -> Staged:
    """A partial to be written from byte 0.  Raises OSError."""
    temporary = names.partial(name, entry)
    fd = _ours(folder, temporary, os.O_CREAT)
    if fd < 0:
        temporary = names.named_partial(name, secrets.token_hex(8))
        fd = os.open(temporary, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    staged = Staged(fd, temporary, name, entry)
    staged.restart()
    return staged


def staged_before(folder: int, name: bytes, entry: Entry) -> Staged | None:
    """The partial that an earlier copy of the same file left, if any.  Raises OSError."""
    temporary = names.partial(name, entry)
    try:
        fd = _ours(folder, temporary, 0)
    except FileNotFoundError:
        return None
    if fd < 0:
        return None
    if not 0 < os.fstat(fd).st_size <= entry.size:
        os.close(fd)
        return None
    return Staged(fd, temporary, name, entry)


def _ours(folder: int, name: bytes, flags: int) -> int:
    """Opens and locks a partial; -1 when it is not plainly ours.  Raises OSError."""
    try:
        fd = os.open(name, _OPEN | flags, 0o600, dir_fd=folder)
    except OSError as err:
        if err.errno in _PLANTED:
            return -1
        raise
    if _is_plain(os.fstat(fd)) and _lock(fd):
        return fd
    os.close(fd)
    return -1


def _is_plain(found: os.stat_result) -> bool:
    mine = found.st_uid == os.geteuid()
    return mine and stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another copy, or a file system that has no locks
        return False
    return True


class Leftovers:
    """Removes partials that nobody came back for, of the files that are written now."""

    def __init__(self) -> None:
        self._parts: tuple[bytes, ...] | None = None
        self._found: dict[bytes, list[bytes]] = {}

    def sweep(self, parts: tuple[bytes, ...], folder: int, name: bytes) -> None:
        """Removes old partials of ``name``; one folder's listing serves all files in it."""
        if parts != self._parts:
            self._parts, self._found = parts, _partials(folder)
        for temporary in self._found.pop(name[: names.STEM], ()):
            _remove_stale(folder, temporary)


def _partials(folder: int) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for text in os.listdir(folder):
        name = os.fsencode(text)
        if (stem := names.stem(name)) is not None:
            found.setdefault(stem, []).append(name)
    return found


def _remove_stale(folder: int, temporary: bytes) -> None:
    with contextlib.suppress(OSError):
        fd = _ours(folder, temporary, 0)
        if fd < 0:
            return
        try:
            # ctime: a partial's mtime is set to its source's just before it lands.
            if time.time() - os.fstat(fd).st_ctime > STALE_S:
                os.unlink(temporary, dir_fd=folder)
        finally:
            os.close(fd)
