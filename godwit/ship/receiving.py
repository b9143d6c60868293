"""The destination's end of a ship.

The source is not trusted: it can write into the two files it was given, no further than it said
once it has, and into new ones where the quay lets it; the snapshot has landed when it is as long as
it said.

Carried files are on the disk before they replace others.  Neither the log nor the snapshot is
synced: the source keeps its own until the task runs here and the log is on the disk, and the disk
would keep the task waiting.
"""

import hashlib
import os
import socket
import time
from typing import Any, Protocol

from msgspec import Struct

from godwit.bulk import names
from godwit.bulk.faults import fault, shown
from godwit.bulk.link import Link
from godwit.bulk.words import Block, Hole
from godwit.errors import TransferError
from godwit.ship.words import (
    CHUNK,
    FILES,
    FIRST,
    IMAGE,
    LIMIT,
    LOG,
    VERSION,
    At,
    Board,
    Carried,
    Carry,
    End,
    Have,
    Mark,
    Marked,
    Rest,
    Whole,
    decode_from_source,
)
from godwit.ship.writeback import start_writeback

#: Bytes written to one file before the kernel is told to begin to write them to the disk.
BEGIN = 4 * 1024 * 1024


class Shipped(Struct, frozen=True):
    """What has landed: the snapshot's size in bytes, and the milliseconds
    from the word that the task stands still till all was here."""

    size: int
    wire_ms: float


class Quay(Protocol):
    """Where files of the task's working directory are put.  Raises TransferError."""

    def stage(self, name: bytes) -> int:
        """A descriptor of a new file, which has not that name yet; stays the quay's to close."""

    def land(self, name: bytes, said: Carried) -> None:
        """What was staged is complete and on the disk: it gets its name."""


class _File:
    """One file that is written to."""

    def __init__(self, fd: int, name: bytes):
        self.fd = fd
        self.name = name
        self.offset = 0
        #: A carried file's SHA-256.
        self.digest: Any = None
        #: It is to be on the disk soon.
        self.is_synced = True
        #: A carried file's end.
        self.said: Carried | None = None
        #: Up to where the kernel was told to write.
        self._begun = 0

    def write(self, data: memoryview) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self.fd, data[done:], self.offset + done)
        except OSError as err:
            raise fault(err, self.name) from err
        self.offset += done
        if self.digest is not None:
            self.digest.update(data)
        if self.is_synced and self.offset - self._begun >= BEGIN:
            self.begin()

    def restart(self) -> None:
        """It is to come anew."""
        try:
            os.ftruncate(self.fd, 0)
        except OSError as err:
            raise fault(err, self.name) from err
        self.offset = self._begun = 0
        self.digest = hashlib.sha256()

    def begin(self) -> None:
        """What was written is to be on its way to the disk."""
        start_writeback(self.fd, self._begun, self.offset - self._begun)
        self._begun = self.offset

    def sync(self) -> None:
        try:
            os.fdatasync(self.fd)
        except OSError as err:
            raise fault(err, self.name) from err


class Receiving:
    """One ship: ``run``, then ``finish`` tells the source.

    The socket is blocking, plain or TLS; it and the descriptors of the two files ``log`` (whose
    bytes, if it has any, are the first of the source's) and ``image`` (empty) stay the caller's to
    close.  Without a ``quay`` only these two are taken; ``size`` is what the image must have, if
    that is known.  Everything raises TransferError; then ``fail`` tells the other end.
    """

    def __init__(
        self, sock: socket.socket, log: int, image: int, quay: Quay | None = None,
        size: int | None = None,
    ):
        self._size = size
        self._link = Link(sock, decode_from_source, LIMIT)
        self._files = [_File(log, b"the task's log"), _File(image, b"the snapshot")]
        self._files[IMAGE].is_synced = False
        self._quay = quay
        #: What of the log is here already, bytes.
        self._have = os.fstat(log).st_size
        #: The one whose bytes come now.
        self._file: _File | None = None
        self._rest: Rest | None = None
        self._rest_at = 0.0
        self._buffer = memoryview(bytearray(CHUNK))

    def run(self) -> Shipped:
        """Writes all that comes; returns when it is here."""
        board = self._link.get()
        if not isinstance(board, Board):
            raise _out_of_turn("it began with something else")
        if board.version != VERSION:
            raise TransferError("protocol", f"the source speaks version {board.version}")
        self._check_room(self._files[LOG], board.room)
        if self._have:
            self._link.put(Have(self._have))
            self._link.flush()
        self._listen()
        rest = self._check_complete()
        self._land(rest)
        wire_ms = (time.monotonic() - self._rest_at) * 1000
        return Shipped(rest.size, wire_ms)

    def finish(self) -> None:
        """Tells the source that all has landed."""
        self._link.put(Whole())
        self._link.flush()

    def fail(self, err: TransferError) -> TransferError:
        """Tells the other end; gives the better reason of the two."""
        return self._link.fail(err)

    def _listen(self) -> None:
        """Takes messages until the source says End."""
        while True:
            match self._link.get():
                case Block(size=size):
                    self._block(size)
                case Hole(size=size):
                    self._hole(size)
                case At(file=number, offset=offset):
                    self._at(number, offset)
                case Mark(number=number) if self._rest is None:
                    self._link.put(Marked(number))
                    self._link.flush()
                case Carry(name=name, room=room):
                    self._carry(name, room)
                case Carried() as said if self._rest is not None:
                    self._carried(said)
                case Rest() as rest if self._rest is None:
                    self._rest, self._rest_at = rest, time.monotonic()
                    if self._size not in (None, rest.size):
                        raise TransferError("size", f"{rest.size} bytes come, not {self._size}")
                    image = self._files[IMAGE]
                    self._check_room(image, rest.size - image.offset)
                case End() if self._rest is not None:
                    return
                case message:
                    raise _out_of_turn(f"{type(message).__name__} out of turn")

    def _at(self, number: int, offset: int) -> None:
        """Each file is written from its beginning on, without a gap."""
        if number >= len(self._files):
            raise _out_of_turn("bytes of no file")
        file = self._files[number]
        if file.said is not None:
            raise _out_of_turn("bytes of a file that is complete")
        if number >= FIRST and offset == 0:
            file.restart()
        if number == LOG and file.offset < offset <= self._have:
            file.offset = offset
        is_early = number == IMAGE and self._rest is None and self._size is not None
        if offset != file.offset or is_early:
            raise _out_of_turn("it goes on where nothing is")
        self._file = file

    def _expect(self, count: int) -> _File:
        """The file that so many bytes come for."""
        file = self._file
        if file is None:
            raise _out_of_turn("bytes of no file")
        most = 2**63 - 1
        if self._rest is not None and file in self._files[:FIRST]:
            most = self._rest.size if file is self._files[IMAGE] else self._rest.log_size
        if file.offset + count > most:
            raise _out_of_turn("a file longer than it said")
        return file

    def _block(self, size: int) -> None:
        file = self._expect(size)
        if self._rest is None and file is self._files[IMAGE]:
            self._check_room(file, size)
        while size:
            data = self._buffer[:size]
            self._link.read_into(data)
            file.write(data)
            size -= len(data)

    def _hole(self, size: int) -> None:
        file = self._expect(size)
        if file is not self._files[LOG]:
            raise _out_of_turn("a hole in another file than the log")
        file.offset += size

    def _carry(self, name: bytes, room: int) -> None:
        names.parts(name)
        if self._quay is None or len(self._files) >= FILES:
            raise TransferError("too-many", f"{shown(name)}: is not taken here")
        if any(file.name == name for file in self._files[FIRST:]):
            raise _out_of_turn("a file of that name comes already")
        file = _File(self._quay.stage(name), name)
        self._files.append(file)
        file.restart()
        self._check_room(file, room)

    def _carried(self, said: Carried) -> None:
        if said.file >= len(self._files) or self._files[said.file].said is not None:
            raise _out_of_turn("the end of no file")
        file = self._files[said.file]
        if (file.offset, file.digest.digest()) != (said.size, said.digest):
            raise TransferError("digest", f"{shown(file.name)}: did not arrive as it was sent")
        file.said = said
        file.begin()

    def _check_room(self, file: _File, need: int) -> None:
        try:
            disk = os.fstatvfs(file.fd)
        except OSError as err:
            raise fault(err, file.name) from err
        free = disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)
        # Some network file systems say 0 blocks: they do not know.
        if disk.f_blocks and need > free:
            text = f"{shown(file.name)} needs {need} bytes, {free} are free there"
            raise TransferError("no-space", text)

    def _check_complete(self) -> Rest:
        rest = self._rest
        assert rest is not None
        if [file.offset for file in self._files[:FIRST]] != [rest.log_size, rest.size]:
            raise _out_of_turn("it ended before all had come")
        return rest

    def _land(self, rest: Rest) -> None:
        """Carried files get their names."""
        log, _, *carried = self._files
        try:
            os.ftruncate(log.fd, rest.log_size)  # it may end with a hole
        except OSError as err:
            raise fault(err, log.name) from err
        for file in carried:
            if file.said is not None and self._quay is not None:
                file.sync()
                self._quay.land(file.name, file.said)


def _out_of_turn(what: str) -> TransferError:
    return TransferError("protocol", f"the source broke the protocol: {what}")
