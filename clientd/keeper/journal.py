"""The journal's file: appended to, made durable, compacted; what it says is in records.py."""

import os
from collections.abc import Iterable
from contextlib import suppress

from clientd.keeper import records
from clientd.keeper.replay import Reading, pack, read
from godwit import failpoint
from godwit.errors import StartError

#: Bytes below which the file is never compacted while clientd runs.
SMALL = 4 * 1024 * 1024
#: It is compacted when it is this many times what it was after the last time.
GROWTH = 4

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Journal:
    """An append-only file of records.

    What cannot be written at once (a full disk) waits in memory and is written before all that
    comes later; only ``commit`` insists.
    """

    def __init__(self, path: str):
        self.path = path
        self._fd = -1
        self._size = 0
        self._compacted = 0
        self._waiting = bytearray()

    def load(self) -> tuple[list[records.Records | None], str]:
        """Opens the file, made if it is missing: its records, and what was wrong with it, if
        anything.

        A torn end is cut off.  A file that is damaged further up is set aside under another
        name, and what can be read of it is carried over by the compaction that the caller does
        next.  Raises StartError.
        """
        try:
            self._fd = os.open(self.path, _FLAGS, 0o600)
            with open(self._fd, "rb", closefd=False) as file:
                reading = read(data := file.read())
            wrong = self._repair(reading, len(data))
        except OSError as err:
            raise StartError(f"the journal {self.path}: {err.strerror}") from err
        return [records.decode(payload) for payload in reading.payloads], wrong

    def _repair(self, reading: Reading, length: int) -> str:
        self._size = length
        if reading.damaged:
            aside = f"{self.path}.damaged"
            with suppress(FileNotFoundError):
                os.unlink(aside)
            os.link(self.path, aside)
            return f"the journal is damaged at byte {reading.good}; it is kept as {aside}"
        if reading.good < length:
            self._cut(reading.good)
            return f"the journal ended in a torn record: {length - reading.good} bytes cut off"
        return ""

    def append(self, record: records.Records) -> None:
        """To be written by the next ``flush``."""
        self._waiting += pack(records.encode(record))

    def flush(self) -> OSError | None:
        """Writes what waits; it goes on waiting, and the error is returned, when that fails."""
        if not self._waiting:
            return None
        try:
            failpoint.hit("journal.flush.before")
            self._write(self._waiting)
        except OSError as err:
            return err
        self._waiting.clear()
        failpoint.hit("journal.flush.after")
        return None

    def commit(self, record: records.Records) -> None:
        """Writes what waits and this record, durably.  Raises OSError, and then it is not there."""
        failed = self.flush()
        if failed:
            raise failed
        before = self._size
        failpoint.hit("journal.commit.before")
        self._write(pack(records.encode(record)))
        try:
            failpoint.hit("journal.commit.written")
            os.fdatasync(self._fd)
        except OSError:
            self._cut(before)
            raise
        failpoint.hit("journal.commit.after")

    def _write(self, data: bytes | bytearray) -> None:
        """All of it or nothing."""
        done = 0
        view = memoryview(data)
        try:
            while done < len(data):
                done += os.write(self._fd, view[done:])
        except OSError:
            self._cut(self._size)
            raise
        finally:
            view.release()
        self._size += len(data)

    def _cut(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._size = size

    @property
    def is_overgrown(self) -> bool:
        """Worth a compaction."""
        return self._size > SMALL and self._size > GROWTH * self._compacted

    def compact(self, snapshot: Iterable[records.Records]) -> None:
        """Replaces the file by these records; raises OSError, and then it is as it was."""
        fresh = self.path + ".new"
        fd = os.open(fresh, _FLAGS | os.O_TRUNC, 0o600)
        try:
            failpoint.hit("journal.compact.before")
            with open(fd, "wb", closefd=False) as file:
                file.writelines(pack(records.encode(record)) for record in snapshot)
            os.fsync(fd)
            failpoint.hit("journal.compact.written")
            os.replace(fresh, self.path)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                os.unlink(fresh)  # on a full disk every byte counts
            # Not to be tried again at once.
            self._compacted = self._size
            raise
        os.close(self._fd)
        self._fd = fd
        self._waiting.clear()
        self._size = self._compacted = os.fstat(fd).st_size
        failpoint.hit("journal.compact.after")
        _sync_folder(os.path.dirname(self.path))

    def close(self) -> None:
        """Writes what waits, durably as far as that goes, and closes."""
        if self._fd < 0:
            return
        if self.flush() is None:
            os.fdatasync(self._fd)
        os.close(self._fd)
        self._fd = -1


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
