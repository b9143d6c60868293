"""The files of a task's working directory that travel with it.

Only below the node's files folder, where a relative path of a task is the same at each node, and
only regular files.  All of it is done with the rights of the task's user and by openat2(2), so no
name that a task comes up with reaches further than the task itself could.

A file that is at the destination already stays when it is the same.  A different one is replaced
when it is a copy that a move of the same task left and nobody has changed since: it carries a
mark that says so, as the source's own file does from the time on that the task has left it.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable

from msgspec import Struct, field

from clientd import openat2 as resolve
from clientd.actions import Owner
from clientd.fsuser import acting_as
from clientd.openat2 import openat2
from godwit.bulk import names
from godwit.bulk.ends import FOLDER, READ
from godwit.bulk.faults import naming, shown
from godwit.bulk.staging import Leftovers
from godwit.errors import TransferError
from godwit.ship.words import CARRIED, Carried

#: The extended attribute with the mark.
MARK = b"user.godwit.moved"
_STRICT = resolve.BENEATH | resolve.NO_SYMLINKS | resolve.NO_MAGICLINKS
#: Bytes read at once.
_CHUNK = 256 * 1024


class _Staged(Struct):
    folder: int
    temporary: bytes
    fd: int


class Luggage(Struct):
    """One task's files below ``base``, the node's files folder."""

    base: bytes
    owner: Owner
    _staged: dict[bytes, _Staged] = field(default_factory=dict)

    def opened_by(self, pid: int | None) -> list[bytes]:
        """At the source: what this process has open in the working directory, as far as can be
        seen, and no more than travels; none for None."""
        top = os.path.realpath(os.path.join(self.base, self.owner.folder)) + b"/"
        found = set()
        with contextlib.suppress(OSError):  # it has ended
            for fd in os.listdir(b"/proc/%d/fd" % (pid or 0)):
                with contextlib.suppress(OSError):  # it has closed it
                    link = os.readlink(b"/proc/%d/fd/%b" % (pid or 0, fd))
                    if link.startswith(top):
                        found.add(link.removeprefix(top))
        return sorted(found)[:CARRIED]

    def open(self, name: bytes) -> int:
        """At the source: a descriptor to read.  Raises TransferError for what does not travel."""
        with naming(name), acting_as(self.owner.user):
            fd = self._open(name, READ)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise TransferError("not-a-file", f"{shown(name)}: is no regular file")

    def leave(self, fds: Iterable[int]) -> None:
        """At the source: the task has gone from these files; should it return, with newer ones,
        they can be replaced."""
        for fd in fds:
            with contextlib.suppress(OSError), acting_as(self.owner.user):
                os.setxattr(fd, MARK, self._mark(os.fstat(fd)))

    def stage(self, name: bytes) -> int:
        """At the destination: a new file that has not its name yet, to write to."""
        with naming(name), acting_as(self.owner.user):
            folder, last = self._enter(name)
            Leftovers().sweep((last,), folder, last)
            temporary = names.named_partial(last, secrets.token_hex(8))
            try:
                fd = os.open(
                    temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600,
                    dir_fd=folder,
                )
            except OSError:
                os.close(folder)
                raise
            self._staged[name] = _Staged(folder, temporary, fd)
            return fd

    def land(self, name: bytes, said: Carried) -> None:
        """At the destination: what was staged, and is on the disk, gets its name.

        Raises TransferError (exists) when another file has it.
        """
        staged = self._staged[name]
        last = names.parts(name)[-1]
        with naming(name), acting_as(self.owner.user):
            os.fchmod(staged.fd, said.mode)
            os.utime(staged.fd, ns=(said.mtime_ns, said.mtime_ns))
            with contextlib.suppress(OSError):  # then it is not replaced when the task returns
                os.setxattr(staged.fd, MARK, self._mark(os.fstat(staged.fd)))
            if not self._is_there(staged, last, said):
                os.rename(
                    staged.temporary, last, src_dir_fd=staged.folder, dst_dir_fd=staged.folder
                )
                os.fsync(staged.folder)

    def close(self) -> None:
        """Removes what has not landed, and closes all that ``stage`` opened."""
        for staged in self._staged.values():
            with contextlib.suppress(OSError), acting_as(self.owner.user):
                os.unlink(staged.temporary, dir_fd=staged.folder)
            os.close(staged.fd)
            os.close(staged.folder)
        self._staged.clear()

    def _open(self, path: bytes, flags: int) -> int:
        parts = names.parts(path)
        if not parts:
            raise TransferError("bad-name", "nothing: not a name for a file")
        top = os.open(self.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return openat2(top, os.path.join(self.owner.folder, path), flags, _STRICT)
        finally:
            os.close(top)

    def _enter(self, name: bytes) -> tuple[int, bytes]:
        """The folder that the file is to be in, made if need be, and its name there."""
        *above, last = names.parts(name) or (b"",)
        names.check(last)
        top = os.open(self.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            folder = openat2(top, self.owner.folder or b".", FOLDER, _STRICT)
        finally:
            os.close(top)
        for part in above:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                deeper = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            finally:
                os.close(folder)
            folder = deeper
        return folder, last

    def _is_there(self, staged: _Staged, last: bytes, said: Carried) -> bool:
        """Whether the same file has the name already; raises when one has that must stay."""
        try:
            fd = os.open(last, READ | os.O_NOFOLLOW, dir_fd=staged.folder)
        except FileNotFoundError:
            return False
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise FileExistsError(errno.EEXIST, "is there and is no file")
            if found.st_size == said.size and _digest(fd) == said.digest:
                return True
            if self._is_left(fd, found):
                return False
        finally:
            os.close(fd)
        raise FileExistsError(errno.EEXIST, "another file of that name is there")

    def _is_left(self, fd: int, found: os.stat_result) -> bool:
        """A move of this task left it, and it is as it was left."""
        try:
            return os.getxattr(fd, MARK) == self._mark(found)
        except OSError:
            return False

    def _mark(self, found: os.stat_result) -> bytes:
        return b"%b:%d:%d" % (self.owner.task.encode(), found.st_size, found.st_mtime_ns)


def _digest(fd: int) -> bytes:
    digest = hashlib.sha256()
    offset = 0
    while data := os.pread(fd, _CHUNK, offset):
        digest.update(data)
        offset += len(data)
    return digest.digest()
