"""What of a file is at the receiver already, so that it need not come again."""

import errno
import os
import stat

from msgspec import Struct

from godwit.bulk.ends import READ
from godwit.bulk.reading import Digest
from godwit.bulk.staging import Staged, staged_before
from godwit.bulk.words import Entry, Have


class Kept(Struct, frozen=True):
    """A complete file under its final name, of the right size and time."""

    size: int
    digest: bytes

    def as_have(self, index: int) -> Have:
        return Have(index, self.size, self.digest)


class Begun(Struct, frozen=True):
    """A partial that an earlier copy left."""

    staged: Staged

    def as_have(self, index: int) -> Have:
        return Have(index, self.staged.offset, self.staged.digest.value())


def present(
    folder: int, name: bytes, entry: Entry, buffer: memoryview
) -> Kept | Begun | None:
    """What there is of the file ``entry``, read and digested.

    Raises OSError; EEXIST when what has the file's name cannot be replaced.
    """
    found = replaceable(folder, name)
    if found and entry.size and _is_like(found, entry):
        return _kept(folder, name, entry, buffer)
    return _begun(folder, name, entry, buffer)


def replaceable(folder: int, name: bytes) -> os.stat_result | None:
    """What has this name now, if anything: a file or a link.

    Raises OSError; EEXIST for anything else.  A device that became a plain file, /dev/null say,
    would be the end of many a program.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EEXIST, "is a folder, which only a folder can be copied onto")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        raise OSError(errno.EEXIST, "is there and is no file; not replaced by one")
    return found


def _is_like(found: os.stat_result, entry: Entry) -> bool:
    like = (found.st_size, found.st_mtime_ns) == (entry.size, entry.mtime_ns)
    return like and stat.S_ISREG(found.st_mode)


def _kept(folder: int, name: bytes, entry: Entry, buffer: memoryview) -> Kept | None:
    try:
        fd = os.open(name, READ | os.O_NOFOLLOW, dir_fd=folder)
    except PermissionError:
        return None
    try:
        digest = Digest()
        size = digest.add_file(fd, entry.size, buffer)
        return Kept(size, digest.value()) if size == entry.size else None
    finally:
        os.close(fd)


def _begun(folder: int, name: bytes, entry: Entry, buffer: memoryview) -> Begun | None:
    staged = staged_before(folder, name, entry) if entry.size else None
    if staged is None:
        return None
    try:
        staged.take_prefix(buffer)
    except OSError:
        staged.close()
        raise
    return Begun(staged)
