"""The folders that images of processes lie in before they are packed, and when they are unpacked.

STATE/snapshots/MOVE, for nobody but us: on the file system of the packed images, so that a large
one goes there by a rename, and back by a link.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress

from clientd.keeper import processes
from clientd.keeper.moves.parcel import Notes

#: Pid and start time of the CRIU that dumps.
_DUMPER = "dumper"


class Places:
    """All of one node's."""

    def __init__(self, state: str, name: str = "snapshots"):
        self._top = os.path.join(state, name)

    def make(self, move: str, inner: str = "") -> str:
        """A move's folder; or a new one in it, called ``inner`` and something.  Raises OSError."""
        folder = os.path.join(self._top, move)
        os.makedirs(folder, 0o700, exist_ok=True)
        return tempfile.mkdtemp(prefix=f"{inner}-", dir=folder) if inner else folder

    def folder(self, move: str) -> str:
        """A move's, whether or not it is there."""
        return os.path.join(self._top, move)

    def of(self, move: str) -> Iterator[str]:
        """A move's folder, if there is one."""
        folder = os.path.join(self._top, move)
        if os.path.isdir(folder):
            yield folder

    def all(self) -> list[str]:
        """Moves that have one."""
        with suppress(FileNotFoundError):
            return os.listdir(self._top)
        return []

    def prune(self) -> None:
        """Removes what all of them lie in, if there are none."""
        with suppress(OSError):
            os.rmdir(self._top)
            os.rmdir(os.path.dirname(self._top))

    def notes(self, move: str) -> Notes:
        """What is known of the task that stands still.  Raises OSError, TaskError."""
        return Notes.read(os.path.join(self._top, move))

    # ---- who dumps -------------------------------------------------------------------------

    def say_dumper(self, move: str, pid: int) -> None:
        """For a keeper that comes after us.  Raises OSError."""
        process = processes.look(pid) if pid else None
        if process is not None:
            with open(os.path.join(self._top, move, _DUMPER), "w") as file:
                file.write(f"{pid} {process.start_ticks}")

    def dumper(self, move: str) -> bool:
        """The CRIU that dumps, or dumped, is still there."""
        with suppress(OSError, ValueError), open(os.path.join(self._top, move, _DUMPER)) as file:
            pid, ticks = map(int, file.read().split())
            there = processes.look(pid)
            return there is not None and there.start_ticks == ticks and not there.is_dead
        return False
