"""A user's path on this node, opened within the folders that are open to copies and removals.

The kernel decides what lies within (openat2(2), Linux 5.6), component by component as it walks:
no check of a path's text, which somebody could make untrue by renaming a folder meanwhile.
"""

import errno
import os
import stat

from msgspec import Struct

from clientd.within import open_within
from godwit.bulk import Source, Target, names
from godwit.bulk.ancestry import ancestry, identity
from godwit.bulk.ends import FOLDER
from godwit.bulk.faults import naming, shown
from godwit.bulk.tree import Descent, Parts
from godwit.errors import TransferError


class Roots(Struct, frozen=True):
    """The folders of this node that copies and removals may reach; ``base`` always is one.

    ``roots`` and ``base`` are absolute.  A relative path starts at ``base``.  With ``/`` among
    the roots all paths are open, symbolic links are followed as usual, and only the kernel's
    magic links (/proc/PID/fd/N, /proc/PID/root) are not.  Otherwise an absolute path must lie in
    a root, a relative one in ``base``, and no component may be a symbolic link.
    """

    roots: tuple[bytes, ...]
    base: bytes
    #: The file whose ``roots`` these are, for errors.
    config: str = ""

    def source(self, path: bytes) -> Source:
        """A file or folder to send; opened by ``godwit.bulk.send``."""
        return Source(path, self.open)

    def target(self, path: bytes) -> Target:
        """Where to put what is received; opened by ``godwit.bulk.receive``."""
        return Target(path, self.open)

    def open(self, path: bytes, flags: int) -> int:
        """A descriptor, opened with ``flags`` of open(2).  Raises OSError.

        EXDEV: outside of the roots; the text says which there are.  ELOOP: by way of a symbolic
        link.
        """
        try:
            return open_within(self.roots, self.base, path, flags)
        except OSError as err:
            if err.errno != errno.EXDEV:
                raise
            raise OSError(errno.EXDEV, self._outside(), path) from err

    def _outside(self) -> str:
        """Says which folders there are and how to open more."""
        folders = [shown(root) for root in dict.fromkeys(self.folders())]
        more = f"; files.roots in {self.config} on the node opens more" if self.config else ""
        return f"not in a folder that is open to copies ({', '.join(folders)}){more}"

    def folders(self) -> tuple[bytes, ...]:
        """Every root, and the base."""
        return (*self.roots, self.base)


class Erased(Struct, frozen=True):
    """How much was removed; ``files`` counts everything that is no folder."""

    files: int = 0
    folders: int = 0


def erase(roots: Roots, path: bytes, recursive: bool) -> Erased:
    """Unlinks a file or symbolic link; with ``recursive`` a folder and all in it.

    Refused: a root, the base, a folder with either in it, and whatever has another file system
    mounted in it.  Raises TransferError; what was removed before stays removed.
    """
    above, name = os.path.split(path.rstrip(b"/"))
    names.check(name)
    with naming(path):
        folder = roots.open(above or (b"/" if path.startswith(b"/") else b"."), FOLDER)
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                os.unlink(name, dir_fd=folder)
                return Erased(files=1)
            if not recursive:
                text = f"{shown(path)}: is a folder; to remove it with all in it, say so"
                raise TransferError("is-folder", text)
            return _Tree(path, folder, name).erase(roots)
        finally:
            os.close(folder)


class _Tree:
    """A folder that is removed from its leaves up: ``name`` in the open folder ``above``."""

    def __init__(self, path: bytes, above: int, name: bytes):
        self._path = path
        self._top: Parts = (name,)
        self._descent = Descent(above)
        self._device = -1
        self._files = self._folders = 0

    def erase(self, roots: Roots) -> Erased:
        """Raises OSError, TransferError."""
        # Folders to empty (False) and, emptied, to remove (True); the next one is the last.
        todo: list[tuple[Parts, bool]] = [(self._top, False)]
        try:
            self._refuse_open_folders(roots)
            while todo:
                parts, emptied = todo.pop()
                with naming(os.path.join(self._path, *parts[1:])):
                    if emptied:
                        self._remove(parts)
                    else:
                        todo.append((parts, True))
                        todo += (((*parts, name), False) for name in self._empty(parts))
            return Erased(self._files, self._folders)
        finally:
            self._descent.close()

    def _refuse_open_folders(self, roots: Roots) -> None:
        """A root or the base, or what one lies in, is not removed."""
        device, inode = identity(self._descent.folder(self._top))
        self._device = device
        for root in filter(os.path.isdir, roots.folders()):
            fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if (device, inode) in ancestry(fd):
                    text = f"{shown(self._path)}: is, or holds, a folder open to copies"
                    raise TransferError("denied", text)
            finally:
                os.close(fd)

    def _empty(self, parts: Parts) -> list[bytes]:
        """Unlinks all in a folder but folders, and names these."""
        fd = self._descent.folder(parts)
        if identity(fd)[0] != self._device:
            text = f"{shown(os.path.join(self._path, *parts[1:]))}: another file system is mounted"
            raise TransferError("denied", text)
        folders = []
        with os.scandir(fd) as listing:
            found = [(os.fsencode(i.name), i.is_dir(follow_symlinks=False)) for i in listing]
        for name, is_folder in found:
            if is_folder:
                folders.append(name)
            else:
                os.unlink(name, dir_fd=fd)
                self._files += 1
        return folders

    def _remove(self, parts: Parts) -> None:
        os.rmdir(parts[-1], dir_fd=self._descent.folder(parts[:-1]))
        self._folders += 1
