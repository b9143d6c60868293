"""When a log had which size: what `logs --since` needs, for the lines in it carry no times.

The task writes its log itself, with nobody in between who could stamp the lines.  So the agent
notes (time, size) with every beat in which the log grew; `--since` is therefore exact to one beat
(2 s), and begins early rather than late.  Records: two doubles, wall clock and bytes.  When there
are too many, every second one goes, and from then on they are made half as often.
"""

import bisect
import contextlib
import os
import struct

_RECORD = struct.Struct("<dd")
#: Bytes of notes about one log; a day and a half of them, at first.
MOST = 1024 * 1024


class LogTimes:
    """The notes about all logs, one small file each in ``folder``."""

    def __init__(self, folder: str):
        self._folder = folder
        self._sizes: dict[str, int] = {}
        #: By task, seconds of the wall clock before which no other note is made.
        self._next: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def _path(self, task: str) -> str:
        return os.path.join(self._folder, task)

    def note(self, task: str, log: str, wall: float) -> None:
        """Records the log's present size, if it changed.  A full disk loses notes, not output."""
        with contextlib.suppress(OSError):
            size = os.stat(log).st_size
            if self._sizes.get(task) != size and not self._too_soon(task, wall):
                with open(self._path(task), "ab", buffering=0) as file:
                    file.write(_RECORD.pack(wall, size))
                    if file.tell() > MOST:
                        self._thin(task)
                self._sizes[task] = size
                self._next[task] = wall + self._pause.get(task, 0.0)

    def _too_soon(self, task: str, wall: float) -> bool:
        """Not so when the clock was put back."""
        left = self._next.get(task, 0.0) - wall
        return 0.0 < left <= self._pause.get(task, 0.0)

    def offset_at(self, task: str, wall: float) -> int:
        """A byte offset before which everything was written earlier than ``wall``."""
        notes = self._notes(task)
        index = bisect.bisect_right([at for at, _ in notes], wall)
        return int(notes[index - 1][1]) if index else 0

    def _notes(self, task: str) -> list[tuple[float, float]]:
        try:
            with open(self._path(task), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return []
        whole = len(data) - len(data) % _RECORD.size
        return list(_RECORD.iter_unpack(data[:whole]))

    def _thin(self, task: str) -> None:
        fresh = self._path(task) + ".new"
        kept = self._notes(task)[::2]
        self._pause[task] = (kept[-1][0] - kept[0][0]) / len(kept)
        try:
            with open(fresh, "wb") as file:
                file.writelines(_RECORD.pack(*note) for note in kept)
            os.replace(fresh, self._path(task))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise

    def drop(self, task: str) -> None:
        """Forgets a task."""
        for known in (self._sizes, self._next, self._pause):
            known.pop(task, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(task))
