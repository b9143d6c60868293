"""The source's end of a ship."""

import contextlib
import hashlib
import os
import select
import socket
from collections.abc import Iterator

from godwit.bulk.link import Link
from godwit.bulk.summary import Progress, silent
from godwit.bulk.words import Hole
from godwit.errors import TransferError
from godwit.ship.words import (
    CHUNK,
    IMAGE,
    LIMIT,
    LOG,
    ROUNDS,
    VERSION,
    At,
    Board,
    End,
    Mark,
    Marked,
    Rest,
    Safe,
    decode_from_destination,
)
from godwit.wire.messages import Message

#: A log that has less than this left to send is sent when the task is frozen, bytes.
CLOSE = 1024 * 1024


class Sending:
    """One ship: ``stream``, ``wait`` for the freeze, then ``finish``.

    The socket is blocking, plain or TLS; it and ``log``, a descriptor, stay the caller's to
    close.  Everything raises TransferError (then ``fail`` tells the other end) and OSError of
    the files.
    """

    def __init__(self, sock: socket.socket, log: int):
        self._sock = sock
        self._link = Link(sock, decode_from_destination, LIMIT)
        self._log = log
        #: How much of the log was sent.
        self._offset = 0
        self._buffer = memoryview(bytearray(CHUNK))

    def stream(self, progress: Progress) -> None:
        """Sends the log, until the other end has written all but a last bit of it."""
        found = os.fstat(self._log)
        self._link.put(Board(VERSION, min(found.st_size, found.st_blocks * 512)))
        for number in range(1, ROUNDS + 1):
            size = os.fstat(self._log).st_size
            self._send_log(size, progress)
            self._link.put(Mark(number))
            self._link.flush()
            if self._link.get() != Marked(number):
                raise _out_of_turn()
            if os.fstat(self._log).st_size - size < CLOSE:
                return

    def wait(self, wake: int) -> None:
        """Returns when the descriptor ``wake`` can be read; raises when the other end fails."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(wake, select.POLLIN)
        while True:
            # Before the poll: what TLS has decrypted already makes no descriptor readable.
            if self._link.poll():
                raise _out_of_turn()
            if wake in (fd for fd, _ in poller.poll()):
                return

    def finish(self, image: int, log_size: int, size: int) -> str:
        """Sends the log's tail and the snapshot, ``size`` bytes of the descriptor ``image``.

        Returns its SHA-256, hex, when the other end has all on its disk.
        """
        self._link.put(Rest(log_size, size))
        self._send_log(log_size, silent)
        digest = hashlib.sha256()
        self._link.put(At(IMAGE, 0))
        for piece in self._read(image, 0, size, "the snapshot"):
            self._link.put_block(piece)
            digest.update(piece)
        self._link.put(End(digest.digest()))
        self._link.flush()
        if self._link.get() != Safe():
            raise _out_of_turn()
        return digest.hexdigest()

    def fail(self, err: TransferError) -> TransferError:
        """Tells the other end; gives the better reason of the two."""
        return self._link.fail(err)

    def _send_log(self, size: int, progress: Progress) -> None:
        """What of the log is not sent yet, up to ``size`` bytes."""
        if size < self._offset:
            raise TransferError("changed", "the task's log became shorter")
        if size > self._offset:
            self._link.put(At(LOG, self._offset))
        for begin, end in _extents(self._log, self._offset, size):
            if begin > self._offset:
                self._link.put(Hole(begin - self._offset))
                self._offset = begin
            for piece in self._read(self._log, begin, end, "the task's log"):
                self._link.put_block(piece)
                self._offset += len(piece)
                progress(self._offset, size)
                self._listen()

    def _read(self, fd: int, offset: int, end: int, about: str) -> Iterator[memoryview]:
        """The bytes from ``offset`` to ``end``, in pieces that are good until the next."""
        while offset < end:
            count = os.preadv(fd, [self._buffer[: end - offset]], offset)
            if not count:
                raise TransferError("changed", f"{about} became shorter")
            yield self._buffer[:count]
            offset += count

    def _listen(self) -> None:
        """The other end may have failed; nothing else is to be heard now."""
        message: Message | None = self._link.poll()
        if message is not None:
            raise _out_of_turn()


def _extents(fd: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
    """Where data is between two offsets, begin and end of each; an empty one at the very end
    closes a hole there."""
    while offset < end:
        begin = end
        with contextlib.suppress(OSError):  # ENXIO: no data from here on
            begin = min(end, os.lseek(fd, offset, os.SEEK_DATA))
        offset = min(end, os.lseek(fd, begin, os.SEEK_HOLE)) if begin < end else end
        yield begin, offset


def _out_of_turn() -> TransferError:
    return TransferError("protocol", "the destination answered out of turn")
