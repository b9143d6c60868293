"""The receiving end of a copy.

The sender is not trusted: whatever it says, nothing outside the target is read or written, and
no file has its final name before all of it is on disk and its digest is right.
"""

import os
from collections import deque

from msgspec import Struct

from godwit.bulk import names
from godwit.bulk.ancestry import lies_within
from godwit.bulk.ends import Target
from godwit.bulk.faults import naming, shown
from godwit.bulk.landing import Landing
from godwit.bulk.link import Link
from godwit.bulk.present import Begun, Kept
from godwit.bulk.staging import Staged
from godwit.bulk.summary import Progress, Summary, Warnings, cleaned
from godwit.bulk.words import (
    AHEAD,
    BLOCK,
    VERSION,
    Answer,
    Block,
    End,
    Entry,
    Finish,
    Finished,
    Hole,
    Listing,
    Offer,
    Settled,
    Start,
)
from godwit.errors import TransferError

#: Failures after which a partial is of no use.
SPOILT = ("changed", "digest", "protocol")


class _Due(Struct):
    """An entry whose turn is to come, and what of it is here."""

    entry: Entry
    had: Kept | Begun | None = None


class Receiving:
    """One copy, from the Offer to the Settled."""

    def __init__(self, link: Link, target: Target, progress: Progress):
        self._link = link
        self._target = target
        self._progress = progress
        self._warnings = Warnings()
        self._buffer = memoryview(bytearray(BLOCK))
        self._listings: deque[deque[_Due]] = deque()
        #: The file whose contents come now, or one that is kept as it is.
        self._file: tuple[Entry, Staged | Kept] | None = None
        self._files = self._size = self._kept = 0
        self._done = self._total = 0

    def run(self) -> Summary:
        """Raises TransferError."""
        offer = self._link.get()
        if not isinstance(offer, Offer):
            raise _out_of_turn("it offered nothing")
        if offer.version != VERSION:
            raise TransferError("protocol", f"the sending end speaks version {offer.version}")
        if offer.name:
            names.check(offer.name)
        spot = self._target.settle(offer.name, offer.source)
        try:
            with naming(spot.path):
                if offer.folder and lies_within(spot.folder, offer.place):
                    raise TransferError("itself", f"{shown(spot.path)}: lies within the source")
            return self._receive(offer, Landing(spot, self._warnings), spot.path)
        finally:
            os.close(spot.folder)

    def _receive(self, offer: Offer, landing: Landing, path: bytes) -> Summary:
        self._total = offer.size
        try:
            if offer.folder and landing.is_new():
                landing.check_room(offer.room)
            warnings = self._listen(landing)
            landing.finish()
            self._settle(landing, Finished(self._files, self._size, self._kept, path, warnings))
        except TransferError as err:
            self._park(landing, err.code in SPOILT)
            raise
        finally:
            self._close()
            landing.close()
        return Summary(self._size, self._files, path, cleaned(warnings), self._kept)

    def _settle(self, landing: Landing, done: Finished) -> None:
        """Says that all is there; the mark goes when the sender has heard it."""
        self._link.put(done)
        self._link.flush()
        if not isinstance(self._link.get(), Settled):
            raise _out_of_turn("it went on after the end")
        landing.unmark()

    def _listen(self, landing: Landing) -> tuple[str, ...]:
        """Takes messages until the sender says Finish; gives all warnings."""
        listed = False
        while True:
            match self._link.get():
                case Listing(entries=entries):
                    self._listing(landing, entries)
                    listed = True
                case Start(offset=offset):
                    self._start(landing, offset)
                case Block(size=size):
                    self._block(landing, size)
                case Hole(size=size):
                    self._staged(size).skip(size)
                    self._moved(size)
                case End(digest=digest):
                    self._end(landing, digest)
                case Finish(warnings=warnings) if listed and not self._listings:
                    for text in warnings:
                        self._warnings(text)
                    return self._warnings.all()
                case message:
                    raise _out_of_turn(f"{type(message).__name__} out of turn")

    # ---- listings ------------------------------------------------------------------------

    def _listing(self, landing: Landing, entries: tuple[Entry, ...]) -> None:
        if len(self._listings) >= AHEAD:
            raise _out_of_turn("it lists too far ahead")
        dues: deque[_Due] = deque()
        self._listings.append(dues)
        for entry in entries:
            names.parts(entry.path)
            dues.append(_Due(entry))
            if entry.kind == "file":
                dues[-1].had = landing.present(entry, self._buffer)
        haves = tuple(due.had.as_have(at) for at, due in enumerate(dues) if due.had)
        landing.check_room(sum(map(_room, dues)))
        self._link.put(Answer(haves))
        self._link.flush()
        self._advance(landing)

    def _advance(self, landing: Landing) -> None:
        """Does what needs no contents, up to the next file."""
        while self._listings:
            dues = self._listings[0]
            while dues:
                if dues[0].entry.kind == "file":
                    return
                self._place(landing, dues.popleft().entry)
            self._listings.popleft()

    def _place(self, landing: Landing, entry: Entry) -> None:
        if entry.kind == "folder":
            landing.folder(entry)
        elif entry.kind == "end":
            landing.end(entry)
        else:
            landing.link(entry)
            self._files += 1

    # ---- contents ------------------------------------------------------------------------

    def _start(self, landing: Landing, offset: int) -> None:
        if self._file or not self._listings:
            raise _out_of_turn("contents of no file")
        due = self._listings[0].popleft()
        entry = due.entry
        match due.had:
            case Kept(size=size) as kept if offset == size:
                self._file = entry, kept
            case Begun(staged=staged):
                self._file = entry, staged
                if offset == 0:
                    with naming(landing.path(entry)):
                        staged.restart()
                elif offset != staged.offset:
                    raise _out_of_turn("it goes on where nothing is")
            case _ if offset == 0:
                self._file = entry, landing.stage(entry)
            case _:
                raise _out_of_turn("it goes on where nothing is")
        self._kept += offset
        self._moved(offset)

    def _staged(self, more: int) -> Staged:
        """The file that is written now, which has room for ``more`` bytes."""
        if self._file and isinstance(staged := self._file[1], Staged):
            if staged.offset + more > staged.entry.size:
                raise _out_of_turn("a file longer than listed")
            return staged
        raise _out_of_turn("contents of no file")

    def _block(self, landing: Landing, size: int) -> None:
        staged = self._staged(size)
        data = self._buffer[:size]
        self._link.read_into(data)
        with naming(landing.path(staged.entry)):
            staged.write(data)
        self._moved(size)

    def _end(self, landing: Landing, digest: bytes) -> None:
        if not self._file:
            raise _out_of_turn("the end of no file")
        entry, file = self._file
        if isinstance(file, Staged) and file.offset != entry.size:
            raise _out_of_turn("a file shorter than listed")
        if _digest(file) != digest:
            text = f"{shown(landing.path(entry))}: did not arrive as it was sent"
            raise TransferError("digest", text)
        if isinstance(file, Staged):
            landing.land(file)
        else:
            landing.keep(entry)
        self._file = None
        self._files += 1
        self._size += entry.size
        self._advance(landing)

    def _moved(self, count: int) -> None:
        self._done += count
        self._progress(min(self._done, self._total), self._total)

    # ---- failure -------------------------------------------------------------------------

    def _park(self, landing: Landing, spoilt: bool) -> None:
        """Leaves the partial for a repeated copy, unless that is of no use."""
        staged = self._file[1] if self._file else None
        if isinstance(staged, Staged) and (spoilt or not staged.offset):
            landing.drop(staged)

    def _close(self) -> None:
        if self._file and isinstance(staged := self._file[1], Staged):
            staged.close()
        for dues in self._listings:
            for due in dues:
                if isinstance(due.had, Begun):
                    due.had.staged.close()


def _room(due: _Due) -> int:
    """Bytes of disk that a listed file still needs."""
    match due.had:
        case Kept():
            return 0
        case Begun(staged=staged):
            return max(0, due.entry.room - staged.offset)
    return due.entry.room


def _digest(file: Staged | Kept) -> bytes:
    return file.digest.value() if isinstance(file, Staged) else file.digest


def _out_of_turn(what: str) -> TransferError:
    return TransferError("protocol", f"the sending end broke the protocol: {what}")
