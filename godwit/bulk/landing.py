"""The tree as it grows at the receiver: folders and links at once, files a group at a time.

A group of complete files is synced to disk together and then renamed, one by one; the ends of
folders wait their turn among them.  On the same disk that is faster than file by file, and a
power cut never leaves a name whose contents are not there.
"""

import contextlib
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable

from godwit import failpoint
from godwit.bulk import names
from godwit.bulk.ends import READ, Spot
from godwit.bulk.faults import naming, shown
from godwit.bulk.present import Begun, Kept, present, replaceable
from godwit.bulk.staging import Leftovers, Staged, stage
from godwit.bulk.tree import Descent, Parts
from godwit.bulk.words import Entry
from godwit.errors import TransferError

#: Files and ends of folders of one group, and the bytes after which it ends.
GROUP = 64
GROUP_BYTES = 16 * 1024 * 1024


class Landing:
    """Puts entries below ``spot``, whose folder stays the caller's to close.

    Everything raises TransferError, naming the file.
    """

    def __init__(self, spot: Spot, warn: Callable[[str], None]):
        self._spot = spot
        self._warn = warn
        self._descent = Descent(spot.folder)
        self._leftovers = Leftovers()
        self._waiting: deque[tuple[Entry, Staged | None]] = deque()
        self._waiting_bytes = 0

    def path(self, entry: Entry) -> bytes:
        """Where the entry goes, for people to read."""
        return os.path.join(self._spot.path, entry.path) if entry.path else self._spot.path

    def _parts(self, entry: Entry) -> Parts:
        return (self._spot.name, *names.parts(entry.path))

    # ---- what is here --------------------------------------------------------------------

    def check_room(self, need: int) -> None:
        """Raises TransferError (no-space) when the disk has less than ``need`` bytes free."""
        with naming(self._spot.path):
            disk = os.fstatvfs(self._spot.folder)
        free = disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)
        # Some network file systems say 0 blocks: they do not know.
        if disk.f_blocks and need > free:
            text = f"{shown(self._spot.path)}: needs {need} bytes, {free} are free there"
            raise TransferError("no-space", text)

    def is_new(self) -> bool:
        """Nothing has the final name yet."""
        try:
            os.stat(self._spot.name, dir_fd=self._spot.folder, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def present(self, entry: Entry, buffer: memoryview) -> Kept | Begun | None:
        """What there is of a file already."""
        *above, name = self._parts(entry)
        with naming(self.path(entry)):
            try:
                folder = self._descent.folder(tuple(above))
            except (FileNotFoundError, NotADirectoryError):
                return None  # the folder is yet to be made, or refused when it is its turn
            return present(folder, name, entry, buffer)

    # ---- what is put there ---------------------------------------------------------------

    def folder(self, entry: Entry) -> None:
        """Makes a folder, or goes on in the one that is there."""
        parts = self._parts(entry)
        with naming(self.path(entry)):
            if not entry.path and self._spot.mark and self.is_new():
                self._mark()
            try:
                os.mkdir(parts[-1], 0o700, dir_fd=self._descent.folder(parts[:-1]))
            except FileExistsError:
                self._enter(entry, parts)

    def _mark(self) -> None:
        """Says, beside a folder that is made now, that it is not complete: Target.settle."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self._spot.mark, flags, 0o600, dir_fd=self._spot.folder))

    def _enter(self, entry: Entry, parts: Parts) -> None:
        try:
            folder = self._descent.folder(parts)
        except NotADirectoryError as err:
            text = f"{shown(self.path(entry))}: is there and is no folder; not replaced by one"
            raise TransferError("exists", text) from err
        mode = os.fstat(folder).st_mode
        if mode & 0o700 != 0o700:
            # One of ours from before a cut, perhaps; its end sets the mode anew.
            with contextlib.suppress(PermissionError):
                os.fchmod(folder, stat.S_IMODE(mode) | 0o700)

    def link(self, entry: Entry) -> None:
        """Makes a symbolic link, in place of the file or link that is there."""
        if not entry.link or b"\0" in entry.link:
            raise TransferError("protocol", f"{shown(self.path(entry))}: a link to nowhere")
        *above, name = self._parts(entry)
        temporary = names.named_partial(name, secrets.token_hex(8))
        with naming(self.path(entry)):
            folder = self._descent.folder(tuple(above))
            replaceable(folder, name)
            os.symlink(entry.link, temporary, dir_fd=folder)
            try:
                times = entry.mtime_ns, entry.mtime_ns
                os.utime(temporary, ns=times, dir_fd=folder, follow_symlinks=False)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(temporary, dir_fd=folder)
                raise

    def stage(self, entry: Entry) -> Staged:
        """A partial for a file, to be written from byte 0."""
        *above, name = self._parts(entry)
        with naming(self.path(entry)):
            folder = self._descent.folder(tuple(above))
            self._leftovers.sweep(tuple(above), folder, name)
            return stage(folder, name, entry)

    def keep(self, entry: Entry) -> None:
        """The file is there and stays; its mode becomes as at the source."""
        *above, name = self._parts(entry)
        with naming(self.path(entry)):
            fd = os.open(name, READ | os.O_NOFOLLOW, dir_fd=self._descent.folder(tuple(above)))
            try:
                if stat.S_IMODE(os.fstat(fd).st_mode) != entry.mode:
                    os.fchmod(fd, entry.mode)
            finally:
                os.close(fd)

    # ---- groups --------------------------------------------------------------------------

    def land(self, staged: Staged) -> None:
        """A complete file gets its name with its group, which may be now."""
        path = self.path(staged.entry)
        with naming(path):
            staged.complete()
            try:
                staged.take_after()
            except PermissionError:
                self._warn(f"{shown(path)}: the file system does not keep its mode and time")
        self._wait(staged.entry, staged)

    def end(self, entry: Entry) -> None:
        """A folder gets its mode and time when all before it has landed."""
        self._wait(entry, None)

    def _wait(self, entry: Entry, staged: Staged | None) -> None:
        self._waiting.append((entry, staged))
        self._waiting_bytes += entry.size
        if len(self._waiting) >= GROUP or self._waiting_bytes >= GROUP_BYTES:
            self.commit()

    def commit(self) -> None:
        """All that waits is on disk and has its name when this returns."""
        failpoint.hit("copy.land.before")
        for _, staged in self._waiting:
            if staged:
                staged.write_back()
        self._waiting_bytes = 0
        while self._waiting:
            entry, staged = self._waiting.popleft()
            with naming(self.path(entry)):
                if staged:
                    self._land(entry, staged)
                else:
                    self._end(entry)
        failpoint.hit("copy.land.after")

    def _land(self, entry: Entry, staged: Staged) -> None:
        try:
            staged.land(self._descent.folder(self._parts(entry)[:-1]))
        finally:
            staged.close()

    def _end(self, entry: Entry) -> None:
        folder = self._descent.folder(self._parts(entry))
        special = stat.S_IMODE(os.fstat(folder).st_mode) & 0o7000
        try:
            os.fchmod(folder, special | entry.mode)
            os.utime(folder, ns=(entry.mtime_ns, entry.mtime_ns))
        except PermissionError:
            text = "belongs to another user, keeps its mode and time"
            self._warn(f"{shown(self.path(entry))}: {text}")
        os.fsync(folder)

    def finish(self) -> None:
        """Commits, and makes sure of the top's own name."""
        self.commit()
        with naming(self._spot.path):
            os.fsync(self._spot.folder)
        failpoint.hit("copy.finish")

    def unmark(self) -> None:
        """Both ends know that the copy is complete; if the mark comes back after a power cut, a
        repeat goes on with a complete copy."""
        if self._spot.mark:
            with naming(self._spot.path), contextlib.suppress(FileNotFoundError):
                os.unlink(self._spot.mark, dir_fd=self._spot.folder)

    def drop(self, staged: Staged) -> None:
        """Removes a partial that nobody can go on from."""
        try:
            staged.drop(self._descent.folder(self._parts(staged.entry)[:-1]))
        except OSError:
            staged.close()

    def close(self) -> None:
        """After a failure: what is complete still gets its name, where that is possible."""
        while self._waiting:
            with contextlib.suppress(TransferError):
                self.commit()
        self._descent.close()
