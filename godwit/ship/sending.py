"""The source's end of a ship."""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator

from godwit.bulk.faults import shown
from godwit.bulk.link import Link
from godwit.bulk.summary import Progress, silent
from godwit.bulk.words import Hole
from godwit.errors import TransferError
from godwit.ship.carrying import Carrying
from godwit.ship.words import (
    CARRIED,
    CHUNK,
    FIRST,
    IMAGE,
    LIMIT,
    LOG,
    ROUNDS,
    VERSION,
    At,
    Board,
    Carry,
    End,
    Have,
    Mark,
    Marked,
    Rest,
    Whole,
    decode_from_destination,
)
from godwit.ship.writeback import start_writeback
from godwit.wire.messages import Message

#: A log that has less than this left to send is sent when the task is frozen, bytes.
CLOSE = 1024 * 1024
#: Milliseconds between two looks at a snapshot that is being written.
LOOK_MS = 2


def no_file(name: bytes) -> int:
    """Opens nothing: of a task without files."""
    raise TransferError("not-found", f"{shown(name)}: does not travel")


class Sending:
    """One ship: ``stream``, ``wait`` for the freeze, ``follow`` perhaps, ``finish``; ``close``.

    The socket is blocking, plain or TLS; it and ``log``, a descriptor, stay the caller's to
    close.  ``opener`` opens files of the task's working directory, and raises TransferError for
    those that do not travel.  Everything raises TransferError (then ``fail`` tells the other
    end) and OSError of the files.
    """

    def __init__(self, sock: socket.socket, log: int, opener: Callable[[bytes], int] = no_file):
        self._sock = sock
        self._opener = opener
        self._carried: dict[bytes, Carrying] = {}
        self._link = Link(sock, decode_from_destination, LIMIT)
        self._log = log
        #: How much of the log was sent, and how much the other end had.
        self._offset = 0
        self._have = 0
        #: How much of the snapshot was sent.
        self._ahead = 0
        self._buffer = memoryview(bytearray(CHUNK))

    def stream(self, progress: Progress, names: Iterable[bytes] = ()) -> None:
        """Sends these files, and the log until the other end has written all but a last bit."""
        self._link.put(Board(VERSION, _room(self._log)))
        for name in names:
            if carrying := self._carry(name):
                try:
                    self._bring(carrying)
                except TransferError as err:
                    if err.code != "changed":
                        raise
                    carrying.restart()  # the task is at it: once more when it stands still
        for number in range(1, ROUNDS + 1):
            size = os.fstat(self._log).st_size
            self._send_log(size, progress)
            self._link.put(Mark(number))
            self._link.flush()
            if self._answer() != Marked(number):
                raise _out_of_turn()
            if os.fstat(self._log).st_size - size < CLOSE:
                return

    def wait(self, wake: int, patience_ms: int | None = None) -> bool:
        """Till the eventfd ``wake`` was written to, which is read then; false when that did not
        happen within ``patience_ms``.  Raises when the other end fails."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(wake, select.POLLIN)
        while True:
            # Before the poll: what TLS has decrypted already makes no descriptor readable.
            self._listen()
            ready = [fd for fd, _ in poller.poll(patience_ms)]
            if wake in ready:
                os.eventfd_read(wake)
                return True
            if not ready:
                return False

    def follow(self, image: int, wake: int) -> None:
        """Sends the snapshot, a descriptor, while it is being written: only more comes to it.

        Returns when ``wake`` tells that it is written; ``finish`` sends what is left.  The disk
        begins to write it, too: so whoever has it synced then waits for little.
        """
        self._link.put(At(IMAGE, 0))
        while True:
            size = os.fstat(image).st_size
            start_writeback(image, self._ahead, size - self._ahead)
            self._send_image(image, size)
            self._link.flush()
            if self.wait(wake, LOOK_MS):
                return

    def _send_image(self, image: int, size: int) -> None:
        for piece in self._read(image, self._ahead, size, "the snapshot"):
            self._link.put_block(piece)
            self._ahead += len(piece)

    def finish(
        self, image: int, log_size: int, size: int, names: Iterable[bytes] = ()
    ) -> tuple[int, ...]:
        """Sends the log's tail, these files as they are now, and the snapshot, ``size`` bytes of
        the descriptor ``image``.

        Returns when the other end has all of it, with descriptors of the files that went.
        """
        self._link.put(Rest(log_size, size))
        self._send_log(log_size, silent)
        carried = [carrying for name in names if (carrying := self._carry(name, again=True))]
        for carrying in carried:
            self._bring(carrying)
            self._link.put(carrying.complete())
        self._link.put(At(IMAGE, self._ahead))
        self._send_image(image, size)
        self._link.put(End())
        self._link.flush()
        if self._link.get() != Whole():
            raise _out_of_turn()
        return tuple(carrying.fd for carrying in carried)

    def close(self) -> None:
        """Closes the files that were carried."""
        for carrying in self._carried.values():
            os.close(carrying.fd)
        self._carried.clear()

    def fail(self, err: TransferError) -> TransferError:
        """Tells the other end; gives the better reason of the two."""
        return self._link.fail(err)

    def _carry(self, name: bytes, again: bool = False) -> Carrying | None:
        """The file of this name, if it travels; opened again when asked so, for the name may
        be another file's by now."""
        known = self._carried.get(name)
        if known and not again:
            return known
        try:
            fd = self._opener(name)
        except TransferError:
            return None
        if known:
            known.replace(fd)
            return known
        if len(self._carried) >= CARRIED:
            os.close(fd)
            raise TransferError("too-many", f"the task has over {CARRIED} files open")
        carrying = self._carried[name] = Carrying(FIRST + len(self._carried), fd)
        self._link.put(Carry(name, _room(fd)))
        return carrying

    def _bring(self, carrying: Carrying) -> None:
        """What of a carried file is not sent yet, or has changed since."""
        due = carrying.due(self._buffer)
        if due or not carrying.sent:
            self._link.put(At(carrying.number, due.start))
        for piece in self._read(carrying.fd, due.start, due.stop, "a file of the task"):
            self._link.put_block(piece)
            carrying.add(piece)
            self._listen()

    def _send_log(self, size: int, progress: Progress) -> None:
        """What of the log is not sent yet, up to ``size`` bytes."""
        if size < self._offset:
            raise TransferError("changed", "the task's log became shorter")
        while self._offset < size:
            self._listen()
            self._offset = max(self._offset, min(self._have, size))
            self._link.put(At(LOG, self._offset))
            self._send_from_here(size, progress)

    def _send_from_here(self, size: int, progress: Progress) -> None:
        """All, or up to where it is heard that the other end has more than was sent."""
        for begin, end in _extents(self._log, self._offset, size):
            if begin > self._offset:
                self._link.put(Hole(begin - self._offset))
                self._offset = begin
            for piece in self._read(self._log, begin, end, "the task's log"):
                self._link.put_block(piece)
                self._offset += len(piece)
                progress(self._offset, size)
                self._listen()
                if self._offset < min(self._have, size):
                    return

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
        if message is not None and not self._is_have(message):
            raise _out_of_turn()

    def _answer(self) -> Message:
        message: Message = self._link.get()
        return self._link.get() if self._is_have(message) else message

    def _is_have(self, message: Message) -> bool:
        """Said once, whenever it comes."""
        if not isinstance(message, Have) or self._have:
            return False
        self._have = message.size
        return True


def _room(fd: int) -> int:
    """Bytes that a file takes on the disk, at most its size."""
    found = os.fstat(fd)
    return min(found.st_size, found.st_blocks * 512)


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
