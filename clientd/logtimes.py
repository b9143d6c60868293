"""When a log had which size: what `logs --since` needs, for the lines in it carry no times.

The task writes its log itself, with nobody in between who could stamp the lines.  So the agent
notes (time, size) with every beat in which the log grew; `--since` is therefore exact to one beat
(2 s), and begins early rather than late.  Records: two doubles, wall clock and bytes.
"""

import bisect
import contextlib
import os
import struct

_RECORD = struct.Struct("<dd")


class LogTimes:
    """The notes about all logs, one small file each in ``folder``."""

    def __init__(self, folder: str):
        self._folder = folder
        self._sizes: dict[str, int] = {}
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def _path(self, task: str) -> str:
        return os.path.join(self._folder, task)

    def note(self, task: str, log: str, wall: float) -> None:
        """Records the log's present size, if it changed.  A full disk loses notes, not output."""
        with contextlib.suppress(OSError):
            size = os.stat(log).st_size
            if self._sizes.get(task) != size:
                with open(self._path(task), "ab", buffering=0) as file:
                    file.write(_RECORD.pack(wall, size))
                self._sizes[task] = size

    def offset_at(self, task: str, wall: float) -> int:
        """A byte offset before which everything was written earlier than ``wall``."""
        try:
            with open(self._path(task), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return 0
        whole = len(data) - len(data) % _RECORD.size
        notes = list(_RECORD.iter_unpack(data[:whole]))
        index = bisect.bisect_right([at for at, _ in notes], wall)
        return int(notes[index - 1][1]) if index else 0

    def drop(self, task: str) -> None:
        """Forgets a task."""
        self._sizes.pop(task, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(task))
