"""The destination of a lazy move: its copy runs before all of its memory is there.  Pure.

The rule: a copy that can never have all of its memory does not run on without it.  Before the
verdict that is a refusal; after it the copy is lost, on record and durably, before it is ended:
the source still has the task as it was when it stood still, and whose that is now is the master's
to say.
"""

from collections.abc import Iterator

from clientd.keeper.moves import actions as do
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.here import Here, step, tell
from clientd.keeper.moves.prepared import Prepared
from clientd.keeper.moves.reserved import Reserved
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved

CODE = "pages"


class Draining:
    """See the module."""

    def __init__(self, here: Here, copies: Copies, reserved: Reserved, prepared: Prepared):
        self._here = here
        self._copies = copies
        self._reserved = reserved
        self._prepared = prepared

    def drained(self, move: str) -> Iterator[do.Action]:
        """It needs the source no more, or has ended as any task does."""
        record = self._here.ledger.moves.get(move)
        if record is None or record.part.settled:
            return
        if record.part is not Part.DRAINING:
            self._here.copy(move).drained = True  # before it runs
            return
        done = step(record, Cause.DRAINED)
        yield do.Note(done)
        yield do.DropFiles(record.move, record.task)
        yield from tell(done)

    def dried(self, move: str, text: str) -> Iterator[do.Action]:
        """What is missing of its memory never comes."""
        record = self._here.ledger.moves.get(move)
        match record and record.part:
            case Part.RESERVED:
                assert record is not None
                yield from self._reserved.refuse(record, CODE, text)
            case Part.PREPARED:
                # The verdict is not ours to give: the copy that it asks for cannot be loaded again.
                assert record is not None
                yield from self._copies.drop(record)
            case Part.CONSUMED | Part.DRAINING:
                assert record is not None
                yield from self.lose(record, text)

    def lose(self, record: Moved, text: str) -> Iterator[do.Action]:
        yield from self._prepared.lose(record, CODE, text)
        yield do.KillCopy(record.move, record.task)
        yield do.DropFiles(record.move, record.task)
