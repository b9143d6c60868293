"""The ways in which a copy can be frozen, born, loaded and thawed: one for each kind of task."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from clientd.keeper.moves import actions as do
from clientd.keeper.moves import memory
from clientd.keeper.records import Moved

#: Bytes of an image that is some ms of work to remove.
LARGE = 16 << 20

#: Takes what came of it, and does not act on it before the call that it was told in has returned.
Hear = Callable[[do.Event], None]


class Way(Protocol):
    """What comes of each call is told as the event that actions.py names with its action.

    Each may raise TaskError or OSError: then nothing has come of it, and no event follows.
    """

    def birth(self, action: do.Birth) -> None:
        """Makes an empty copy.  Its image's file is there."""

    def freeze(self, action: do.FreezeCopy) -> None:
        """Its image's file is there, and empty."""

    def load(self, action: do.LoadCopy, record: Moved) -> None: ...

    def thaw(self, move: str, task: str) -> None: ...

    def discard(self, move: str, task: str) -> bool:
        """Ends a copy that has not run here; false when there is none of that move."""

    def settle_in(self, record: Moved) -> None:
        """The copy is this node's task from now on: it is watched as any."""

    def ended(self, task: str) -> None:
        """The process of a task that moves has ended: nothing more is heard of it."""

    def keep(self, action: do.Keep, still_ms: float) -> None:
        """What was written of a task that goes on becomes a snapshot, which is told by whoever
        has it then; nor is anything told of a failure.  All that there is of the move goes."""

    def drop(self, move: str) -> None:
        """What was kept of the move beside its image is not needed any more."""


class Images:
    """The files that snapshots are in, each called by its move.

    The agent reads and writes them, whoever it runs as: they are the owner's of its folder.  They
    lie on the disk, but for those that need not last: see clientd.keeper.moves.memory.
    """

    def __init__(self, agent: str, mark: str):
        """``agent``: the agent's folder; ``mark``: this clientd's own."""
        self._agent = agent
        self._name = f"godwit-{mark}"
        self.folder = os.path.join(agent, "moves")

    def path(self, move: str) -> str:
        quick = self.in_memory(move)
        return quick if quick else os.path.join(self.folder, move)

    def in_memory(self, move: str) -> str:
        """Where it is, if it is there; else nothing."""
        path = os.path.join(memory.TOP, f"{self._name}-images", move)
        return path if os.path.lexists(path) else ""

    def beside(self, make: bool = False) -> str:
        """A folder on the file system of those in memory, for nobody but us; or nothing."""
        path = os.path.join(memory.TOP, self._name)
        if make or os.path.lexists(path):
            return memory.folder(self._name, os.geteuid(), os.getegid())
        return ""

    def make(self, move: str, lasts: bool = True) -> None:
        """An empty one.  Raises OSError; FileExistsError when it is there."""
        if not lasts and memory.has_room():
            owner = os.stat(self._agent)
            quick = memory.folder(f"{self._name}-images", owner.st_uid, owner.st_gid)
            if quick:
                self._make(os.path.join(quick, move))
                return
        if not os.path.isdir(self.folder):
            os.makedirs(self.folder, 0o700)
            self._give(self.folder)
        self._make(os.path.join(self.folder, move))

    def _make(self, path: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        os.close(fd)
        self._give(path)

    def take(self, move: str, path: str) -> None:
        """This file, of the same file system, is that image from now on.  Raises OSError."""
        self._give(path)
        os.rename(path, self.path(move))

    def lend(self, move: str, path: str) -> None:
        """That image by another name: as a link, or, on another file system, as a copy.

        Raises OSError.
        """
        try:
            os.link(self.path(move), path)
        except OSError as err:
            if err.errno != errno.EXDEV:
                raise
            shutil.copyfile(self.path(move), path)

    def _give(self, path: str) -> None:
        owner = os.stat(self._agent)
        if owner.st_uid != os.lstat(path).st_uid:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def open(self, move: str, flags: int) -> int:
        """Raises OSError."""
        return os.open(self.path(move), flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    def drop(self, move: str) -> int:
        """Removes it.  What is large takes the kernel its time, and that of whoever has it open
        last: of such a one a descriptor, else -1.  Raises OSError."""
        path = self.path(move)
        if not os.path.lexists(path):
            return -1
        is_large = os.lstat(path).st_size > LARGE
        last = self.open(move, os.O_RDONLY) if is_large else -1
        os.unlink(path)
        if path != os.path.join(self.folder, move):
            with suppress(OSError):  # there are others
                os.rmdir(os.path.dirname(path))
        return last
