"""The two ends of a copy as paths that are not open yet: where from, and where to.

Everything below the path is reached through descriptors (openat(2) and its kin, O_NOFOLLOW).
How the path itself is opened is the opener's affair: an operator's path as open(2) does it, a
node's within its roots (clientd.roots).  Ends open inside the copy, so that the other end of the
link hears of it when one cannot be opened.
"""

import os
import stat
from collections.abc import Callable

from msgspec import Struct

from godwit.bulk import names
from godwit.bulk.faults import fault, naming, shown
from godwit.errors import TransferError

#: Opens an existing path with flags of open(2), without creating anything.  Raises OSError.
Opener = Callable[[bytes, int], int]

#: For reading something that somebody may just have replaced by a fifo or a terminal.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_here(path: bytes, flags: int) -> int:
    """A path of this process, with its rights and its working directory."""
    return os.open(path, flags | os.O_CLOEXEC)


class Source(Struct, frozen=True):
    """A file or folder to be read.  A symbolic link as the last component is followed."""

    path: bytes
    opener: Opener = open_here

    def open(self) -> int:
        """A descriptor of the file or folder.  Raises TransferError."""
        with naming(_checked(self.path)):
            # Opening a device can do things (rewind a tape): look before opening.
            self._look()
            fd = self.opener(self.path, READ)
            try:
                _refuse_specials(os.fstat(fd), self.path)
            except TransferError:
                os.close(fd)
                raise
            return fd

    def _look(self) -> None:
        probe = self.opener(self.path, os.O_PATH)
        try:
            _refuse_specials(os.fstat(probe), self.path)
        finally:
            os.close(probe)

    def name(self, fd: int) -> bytes:
        """What it is called; empty for the root folder.  ``fd`` is this source, open."""
        name = os.path.basename(self.path.rstrip(b"/"))
        if name not in (b"", b".", b".."):
            return name
        return os.path.basename(os.readlink(b"/proc/self/fd/%d" % fd))


class Spot(Struct, frozen=True):
    """Where a copy goes: a name in an open folder.  ``path`` is for people to read.

    ``mark`` is set when the name is as the user gave it: what lies beside a folder of that name
    until the copy that made it is complete.
    """

    folder: int
    name: bytes
    path: bytes
    mark: bytes = b""


class Target(Struct, frozen=True):
    """Where a file or folder is to go, as cp(1) reads it.

    Into the folder ``path`` under its own name when there is such a folder, or when ``path``
    ends with a slash (then it must be there); else ``path`` is the name to be, in a folder that
    must be there.

    cp would put a repeated copy *into* the folder that the first, cut one made.  A mark beside
    such a folder tells that it is the copy itself, to go on with.
    """

    path: bytes
    opener: Opener = open_here

    def settle(self, own: bytes, source: bytes) -> Spot:
        """The spot for ``source``, whose own name is ``own``.  Raises TransferError.

        The caller closes ``Spot.folder``.
        """
        path = _checked(self.path or b".")
        try:
            folder = self.opener(path, FOLDER)
        except (FileNotFoundError, NotADirectoryError) as err:
            if path.endswith(b"/"):
                raise TransferError("not-found", f"{shown(path)}: no such folder") from err
            return self._named(path, source)
        except OSError as err:
            raise fault(err, path) from err
        if unfinished := self._unfinished(path, source):
            os.close(folder)
            return unfinished
        if own:
            return Spot(folder, own, os.path.join(path, own))
        os.close(folder)
        raise TransferError("bad-name", "the source has no name of its own: name the copy")

    def _named(self, path: bytes, source: bytes) -> Spot:
        above, name = os.path.split(path)
        names.check(name)
        try:
            folder = self.opener(above or b".", FOLDER)
        except (FileNotFoundError, NotADirectoryError) as err:
            raise TransferError("not-found", f"{shown(above)}: no such folder") from err
        except OSError as err:
            raise fault(err, above or b".") from err
        return Spot(folder, name, path, names.mark(name, source))

    def _unfinished(self, path: bytes, source: bytes) -> Spot | None:
        """The spot at ``path`` itself, when the folder there is marked as a copy of ``source``."""
        if os.path.basename(path) in (b"", b".", b".."):
            return None
        try:
            spot = self._named(path, source)
        except TransferError:
            return None  # its parent may be closed to us; then nothing of ours is there
        try:
            os.stat(spot.mark, dir_fd=spot.folder, follow_symlinks=False)
        except OSError:
            os.close(spot.folder)
            return None
        return spot


def _checked(path: bytes) -> bytes:
    if not path or b"\0" in path:
        raise TransferError("bad-name", f"{shown(path) or 'nothing'}: not a path")
    return path


def _refuse_specials(found: os.stat_result, path: bytes) -> None:
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise TransferError("not-a-file", f"{shown(path)}: is {special(found.st_mode)}")


def special(mode: int) -> str:
    """A word for what is neither file nor folder nor link."""
    kinds = (
        (stat.S_ISSOCK, "a socket"), (stat.S_ISFIFO, "a fifo"),
        (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    )
    return next((word for test, word in kinds if test(mode)), "no file and no folder")
