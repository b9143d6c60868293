"""What goes wrong: a stream breaks, a copy fails or dies, the disk is full, a keeper dies.  Pure.

The rule: before a vote it ends the move here; after a vote it changes nothing, because the verdict
is not ours to give.  What a verdict could not do is done when it is told again.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper.moves import actions as do
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.draining import Draining
from clientd.keeper.moves.freezing import Freezing
from clientd.keeper.moves.frozen import Frozen
from clientd.keeper.moves.here import Copy, Here, Ready, tell
from clientd.keeper.moves.prepared import Prepared
from clientd.keeper.moves.reserved import Reserved
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved

GONE = "it was about to run, or ran, when clientd or its machine stopped"
AGAIN = "clientd was started again"


class Mishaps:
    """See the module."""

    def __init__(
        self, here: Here, copies: Copies, source: tuple[Freezing, Frozen],
        destination: tuple[Reserved, Prepared, Draining],
    ):
        self._here = here
        self._copies = copies
        self._freezing, self._frozen = source
        self._reserved, self._prepared, self._draining = destination

    def cut(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        """The stream of bytes has failed."""
        record = self._here.ledger.moves.get(move)
        if record is None:
            return
        if record.part is Part.FREEZING:
            yield from self._freezing.unfreeze(record, Cause.REFUSED, code, text)
        elif record.part is Part.RESERVED:
            yield from self._reserved.refuse(record, code, text)
        elif record.part is Part.FROZEN:
            # The verdict is not ours to give; but the master may give it sooner.
            yield from tell(replace(record, code=code, text=text))

    def failed(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        """A copy could not be frozen, born or loaded."""
        record = self._here.ledger.moves[move]
        match record.part:
            case Part.RESERVED:
                yield from self._reserved.refuse(record, code, text)
            case Part.FREEZING:
                yield from self._freezing.unfreeze(record, Cause.REFUSED, code, text)
            case Part.PREPARED:
                yield from self._prepared.renounce(record, code, text)
            case Part.RESUMING:
                yield from self._frozen.failed(record, code, text)

    def unthawed(self, move: str) -> Iterator[do.Action]:
        """A consumed copy that may stand still for ever is not told of as one that runs: it ends.

        A source's is the only one: it is told again with the verdict.
        """
        record = self._here.ledger.moves[move]
        if record.part is Part.CONSUMED:
            yield do.KillCopy(record.move, record.task)

    def gone(self, move: str) -> Iterator[do.Action]:
        """A copy's process has ended.  That of a task which runs is its own end, noted as such."""
        record, copy = self._here.ledger.moves[move], self._here.copies.get(move, Copy())
        copy.ready, copy.loaded = Ready.ABSENT, None
        match record.part:
            case Part.RESERVED:
                text = "the process that was to take it over died"
                yield from self._reserved.refuse(record, "died", text)
            case Part.FREEZING:
                yield from self._freezing.died(record)
            case Part.FINISHING:
                yield from self._frozen.finished(record)
            case Part.FROZEN:
                self._here.copy(move).dead = True
            case Part.RESUMING if record.image:
                pass  # it never ran: the next time that the verdict is told, another is born
            case Part.CONSUMED | Part.RESUMING:
                # It ran, or was about to: what became of it the kernel tells as of any task.
                yield from self._copies.went_on(do.WentOn(move, 0.0, 0.0, {}))
            case Part.PREPARED if copy.wanted:
                yield from self._prepared.commit(record)
            case Part.DRAINING:  # by itself: that needs no memory
                yield from self._draining.drained(move)

    def unwritten(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        """No vote that is not on the disk.  Verdicts come again, for as long as it takes."""
        known = self._here.ledger.moves.get(record.move)
        match record.part:
            case Part.FREEZING:
                yield from self._freezing.unwritten(record, code, text)
            case Part.FROZEN if known:
                yield from self._freezing.unfreeze(known, Cause.REFUSED, code, text)
            case Part.PREPARED if known:
                yield from self._reserved.refuse(known, code, text)
            case Part.RENOUNCED if known:
                yield from self._copies.drop(known)

    def returned(self, move: str, alive: bool) -> Iterator[do.Action]:
        """This keeper is new: what an earlier one had on record is carried on."""
        record = self._here.ledger.moves[move]
        match record.part:
            case Part.FREEZING if alive:
                yield from self._freezing.unfreeze(record, Cause.REFUSED, "keeper", AGAIN)
            case Part.FREEZING:
                yield from self._freezing.died(record)
            case Part.FROZEN:
                self._here.copy(move).dead = not alive
            case Part.RESUMING if alive:
                yield do.Thaw(record.move, record.task)
            case Part.RESUMING if record.image:
                yield from self._frozen.restore(record)
            case Part.RESUMING:
                yield from self._frozen.failed(record, "lost", GONE)
            case Part.FINISHING:
                yield do.KillCopy(record.move, record.task)
            case Part.RESERVED:
                yield from self._reserved.refuse(record, "keeper", AGAIN)
            case Part.CONSUMED if alive:
                if record.lazy:
                    yield do.WatchDrain(record.move, record.task)
                yield do.Thaw(record.move, record.task)
            case Part.DRAINING if alive:
                yield do.WatchDrain(record.move, record.task)
            case Part.CONSUMED | Part.DRAINING:
                yield from self._prepared.lose(record, "lost", GONE)
