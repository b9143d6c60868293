"""The sending end of a copy."""

import contextlib
import os
import stat
from collections import deque

from msgspec import Struct

from godwit.bulk.ancestry import identity, place
from godwit.bulk.ends import READ, Source
from godwit.bulk.faults import naming
from godwit.bulk.link import Link
from godwit.bulk.names import parts
from godwit.bulk.reading import Reading
from godwit.bulk.summary import Progress, Summary, Warnings, cleaned
from godwit.bulk.tree import Descent, entries, listings
from godwit.bulk.words import (
    AHEAD,
    BLOCK,
    VERSION,
    Answer,
    End,
    Entry,
    Finish,
    Finished,
    Have,
    Hole,
    Listing,
    Offer,
    Settled,
    Start,
)
from godwit.errors import TransferError
from godwit.wire.messages import Message


class _Survey(Struct):
    """How much there is to copy, or has been sent."""

    files: int = 0
    size: int = 0
    room: int = 0
    #: Bytes that the receiver had.
    kept: int = 0

    def add(self, entry: Entry) -> None:
        self.files += entry.kind in ("file", "link")
        self.size += entry.size
        self.room += entry.room


class Sending:
    """One copy, from the Offer to the Settled."""

    def __init__(self, link: Link, source: Source, progress: Progress):
        self._link = link
        self._source = source
        self._progress = progress
        self._warnings = Warnings()
        self._answers: deque[Answer] = deque()
        self._survey = _Survey()
        self._sent = _Survey()
        self._done = 0
        self._buffer = memoryview(bytearray(BLOCK))

    def run(self) -> Summary:
        """Raises TransferError."""
        top = self._source.open()
        descent = Descent(top)
        try:
            self._offer(top)
            self._send(top, descent)
        finally:
            descent.close()
            os.close(top)
        return self._finish()

    def _offer(self, top: int) -> None:
        for entry in entries(top, self._source.path, lambda _: None):
            self._survey.add(entry)
        survey = self._survey
        self._link.put(
            Offer(
                VERSION,
                self._source.name(top),
                stat.S_ISDIR(os.fstat(top).st_mode),
                survey.files,
                survey.size,
                survey.room,
                b"%x:%x" % identity(top),
                place(top),
            )
        )

    def _send(self, top: int, descent: Descent) -> None:
        """Listings, each one AHEAD of its contents; contents as soon as theirs is answered."""
        portions = listings(entries(top, self._source.path, self._warnings))
        listed: deque[tuple[Entry, ...]] = deque()
        while True:
            while len(listed) < AHEAD and (portion := next(portions, None)):
                self._link.put(Listing(portion))
                listed.append(portion)
                for entry in portion:
                    self._sent.add(entry)
            if not listed:
                return
            haves = {have.index: have for have in self._answer().haves}
            for index, entry in enumerate(listed.popleft()):
                if entry.kind == "file":
                    self._file(top, descent, entry, haves.get(index))

    def _answer(self) -> Answer:
        self._link.flush()
        while not self._answers:
            self._hear(self._link.get())
        return self._answers.popleft()

    def _hear(self, message: Message) -> None:
        if not isinstance(message, Answer):
            raise TransferError("protocol", "the receiving end answered out of turn")
        if len(self._answers) >= AHEAD:
            raise TransferError("protocol", "the receiving end answered what was not asked")
        self._answers.append(message)

    def _file(self, top: int, descent: Descent, entry: Entry, have: Have | None) -> None:
        about = os.path.join(self._source.path, entry.path) if entry.path else self._source.path
        with naming(about):
            fd = _open(top, descent, entry)
            try:
                reading = Reading(fd, entry, about, self._buffer)
                self._contents(reading, have)
            finally:
                os.close(fd)

    def _contents(self, reading: Reading, have: Have | None) -> None:
        start = have.size if have and reading.begins_with(have.size, have.digest) else 0
        self._link.put(Start(start))
        if start:
            self._sent.kept += start
            self._moved(start)
        for piece in reading.pieces(start):
            if isinstance(piece, int):
                self._link.put(Hole(piece))
                self._moved(piece)
            else:
                self._link.put_block(piece)
                self._moved(len(piece))
        self._link.put(End(reading.finish()))

    def _moved(self, count: int) -> None:
        """Counts bytes, and listens: the receiver may have failed."""
        self._done += count
        self._progress(min(self._done, self._survey.size), self._survey.size)
        if message := self._link.poll():
            self._hear(message)

    def _finish(self) -> Summary:
        self._link.put(Finish(self._warnings.all()))
        self._link.flush()
        done = self._link.get()
        if not isinstance(done, Finished):
            raise TransferError("protocol", "the receiving end did not say how it ended")
        sent = self._sent
        if (done.files, done.size, done.kept) != (sent.files, sent.size, sent.kept):
            raise TransferError("protocol", "the receiving end ended before it had all")
        with contextlib.suppress(TransferError):  # all is there, whether this gets through or not
            self._link.put(Settled())
            self._link.flush()
        return Summary(done.size, done.files, done.path, cleaned(done.warnings), done.kept)


def _open(top: int, descent: Descent, entry: Entry) -> int:
    if not entry.path:
        return os.dup(top)
    *folder, name = parts(entry.path)
    return os.open(name, READ | os.O_NOFOLLOW, dir_fd=descent.folder(tuple(folder)))
